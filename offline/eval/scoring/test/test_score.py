"""From files to scores: perfect scores perfect, wrong scores zero, and nothing odd goes uncounted."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from roboref_core.prompting.answer_text import format_answer, parse
from roboref_core.prompting.prompt import Form
from roboref_core.prompting.side_by_side import SideBySide

from offline.data_engine.task_files import mask_beside
from offline.eval.cli import main
from offline.eval.records.answers import Answer, read_answers
from offline.eval.records.predictions import collect, digest, read_predictions
from offline.eval.records.samples import read_samples
from offline.eval.scoring.judge import judge, judge_all
from offline.eval.scoring.score import score, score_file
from offline.eval.test.small_data import FILES, SmallData, answer_line
from offline.files import read_mask


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return SmallData(tmp_path_factory.mktemp("small"))


@pytest.fixture(params=FILES)
def data(small, request):
    return read_samples(small.write(request.param))


@pytest.fixture
def multi(small):
    return read_samples(small.write("t1_val_multi"))


def predictions(lines):
    return collect(list(lines), "model")


def values(found):
    return {name: figure["value"] for name, figure in found["overall"]["figures"].items()}


def whole_xy(sample, xy):
    """A place in the queried picture in the coordinates of the sample's answers."""
    if sample.form is Form.MULTI:
        return np.asarray(xy)
    height, width = cv2.imread(str(sample.images[0])).shape[:2]
    right = cv2.imread(str(sample.query)).shape[1::-1]
    return SideBySide((width - right[0], height), right).right_to_whole(np.asarray(xy))


def test_perfect_predictions_score_perfect(data):
    lines = [
        answer_line(s.id, s.extra["conversations"][1]["value"], p_visible=float(s.truth is not None))
        for s in data.samples
    ]
    found = score_file(predictions(lines), data)
    perfect = values(found)
    for name in ("correct", "hit_at_mask", "not_visible_accuracy", "success_at_0.02"):
        assert perfect[name] == 1.0, name
    for name in ("false_refusals", "unparsable", "missing", "calibration_error"):
        assert perfect[name] == 0.0, name
    assert perfect["l2"] < 1e-9 and perfect["l2_diagonal"] < 1e-9
    has_negatives = any(s.truth is None for s in data.samples)
    for name in ("not_visible_recall", "balanced_accuracy", "f1", "auroc"):
        assert perfect[name] == (1.0 if has_negatives else None), name
    assert found["problems"] == {} and set(found["outcomes"]) <= {"hit", "right refusal"}


def just_outside(sample):
    """The pixel that is nearest to the true point of all those off the mask."""
    mask = read_mask(sample.mask)
    v, u = np.nonzero(~mask)
    size = np.array(mask.shape[::-1])
    places = (np.stack([u, v], axis=1) + 0.5) / size
    own = np.array(parse(sample.extra["conversations"][1]["value"]).points[0])
    if sample.form is Form.CONCAT:
        own = places.mean(axis=0)
    return format_answer([whole_xy(sample, places[np.argmin(((places - own) ** 2).sum(axis=1))])])


def swapped(sample):
    point = parse(sample.extra["conversations"][1]["value"]).points[0]
    return format_answer([point[::-1]])


def in_thousandths(sample):
    x, y = parse(sample.extra["conversations"][1]["value"]).points[0]
    return f"[({x * 1000:.0f}, {y * 1000:.0f})]"


@pytest.mark.parametrize("wrong", [just_outside, in_thousandths, lambda s: "NOT_VISIBLE", lambda s: "over there"])
def test_wrong_answers_score_zero(data, wrong):
    """Positives answered wrong, negatives answered with a point: nothing may be right."""
    lines = [answer_line(s.id, "[(0.5, 0.5)]" if s.truth is None else wrong(s)) for s in data.samples]
    found = values(score_file(predictions(lines), data))
    assert found["hit_at_mask"] == 0.0 and found["not_visible_recall"] in (0.0, None)
    if data.samples[0].task != "t2a" or wrong is not just_outside:
        assert found["correct"] == 0.0


def mirrored_onto_itself(sample):
    """Whether the object covers its own mirror image about the diagonal, where swapping axes changes nothing."""
    xy = np.array(parse(swapped(sample)).points[0])
    mask = read_mask(sample.mask)
    if sample.form is Form.CONCAT:
        whole = cv2.imread(str(sample.images[0])).shape[1::-1]
        xy = (xy * whole - (whole[0] - mask.shape[1], 0)) / mask.shape[::-1]
    u, v = np.floor(xy * mask.shape[::-1]).astype(int)
    return 0 <= u < mask.shape[1] and 0 <= v < mask.shape[0] and mask[v, u]


def test_swapped_axes_score_zero(data):
    chosen = [s for s in data.samples if s.truth is not None and not mirrored_onto_itself(s)]
    assert len(chosen) > len(data.samples) / 4
    judged = judge(chosen, predictions(answer_line(s.id, swapped(s)) for s in chosen))
    assert judged.pointed.all() and not judged.hit.any()


def test_right_pixel_in_the_wrong_half_is_a_miss(small):
    data = read_samples(small.write("t1_val_concat"))
    lines = []
    for s in data.samples:
        if s.truth is None:
            continue
        x, y = s.truth[0]
        right = cv2.imread(str(s.query)).shape[1] / cv2.imread(str(s.images[0])).shape[1]
        lines.append(answer_line(s.id, f"[({max(x - right, 0.0):.3f}, {y:.3f})]"))
    judged = judge(data.samples, predictions(lines))
    assert judged.pointed.sum() == len(lines) and not judged.hit.any()
    assert (judged.l2[judged.pointed] > 0.5).all() and judged.problems == {"no prediction": len(lines)}


@given(seed=st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_hits_and_distances_are_those_of_the_pixels(small, seed):
    """Any point in any form against the pixel that contains it and the definition of the distances."""
    rng = np.random.default_rng(seed)
    for name in ("t1_val_multi", "t1_val_concat"):
        data = read_samples(small.write(name))
        chosen = [s for s in data.samples if s.truth is not None]
        places = np.where(
            rng.random((len(chosen), 2)) < 0.1, rng.integers(0, 2, (len(chosen), 2)), rng.random((len(chosen), 2))
        )
        lines = [
            answer_line(s.id, "", points=[whole_xy(s, xy).tolist()], visible=True)
            for s, xy in zip(chosen, places, strict=True)
        ]
        judged = judge(chosen, predictions(lines))
        for i, (s, xy) in enumerate(zip(chosen, places, strict=True)):
            mask = read_mask(s.mask)
            h, w = mask.shape
            assert judged.hit[i] == mask[min(int(xy[1] * h), h - 1), min(int(xy[0] * w), w - 1)]
            true = np.array(s.truth[0])
            if s.form is Form.CONCAT:
                whole = cv2.imread(str(s.images[0])).shape[1::-1]
                true = (true * whole - (whole[0] - w, 0)) / (w, h)
            off = xy - true
            assert judged.l2[i] == pytest.approx(np.hypot(*off), abs=1e-9)
            assert judged.l2_diagonal[i] == pytest.approx(np.hypot(*(off * (w, h))) / np.hypot(w, h), abs=1e-9)


def test_edges_belong_to_the_picture(small, tmp_path):
    data = small.samples("t1_val_multi")[:1]
    mask = np.zeros((60, 80), np.uint8)
    mask[:, -1] = mask[0, :] = 255
    cv2.imwrite(str(tmp_path / "edge.png"), mask)
    data[0]["mask"] = str(tmp_path / "edge.png")
    (tmp_path / "data.json").write_text(json.dumps(data))
    samples = read_samples(tmp_path / "data.json").samples
    for x, y, hit in ((1.0, 1.0, True), (1.0, 0.5, True), (0.5, 0.0, True), (0.98, 0.5, False), (0.9875, 0.5, True)):
        assert judge(samples, predictions([answer_line(samples[0].id, f"[({x}, {y})]")])).hit[0] == hit


def test_any_of_several_right_points_will_do(small, tmp_path):
    entry = small.samples("t1_val_multi")[0]
    entry["conversations"][1]["value"] = "[(0.100, 0.100), (0.900, 0.900)]"
    (tmp_path / "data.json").write_text(json.dumps([entry]))
    samples = read_samples(tmp_path / "data.json").samples
    for text, distance in (("[(0.9, 0.8)]", 0.1), ("[(0.1, 0.15)]", 0.05), ("[(0.5, 0.5)]", np.hypot(0.4, 0.4))):
        judged = judge(samples, predictions([answer_line(samples[0].id, text)]))
        assert judged.l2[0] == pytest.approx(distance)


def test_odd_lines_are_counted_and_do_no_harm(multi, tmp_path):
    ids = [s.id for s in multi.samples]
    good = answer_line(ids[0], multi.samples[0].extra["conversations"][1]["value"])
    nan, huge = float("nan"), 1e300
    lines = [
        json.dumps(good),
        json.dumps(good),
        "{ not JSON",
        '["a list"]',
        '{"kind": "poem"}',
        '{"kind": "prediction", "id": 7}',
        "\x00\x01",
        "[" * 100_000,
        json.dumps(answer_line(ids[1], "NOT_VISIBLE")),
        json.dumps(answer_line(ids[1], "NOT_VISIBLE", key="another key")),
        json.dumps(answer_line(ids[2], "", points=[[nan, 0.5]], visible=True)),
        json.dumps(answer_line(ids[3], "", points=[[0.5]], visible=True)),
        json.dumps(answer_line(ids[4], "", points=[[huge, 0.1]], visible=True)),
        json.dumps(answer_line(ids[5], "", points="here", visible=True)),
        json.dumps(answer_line(ids[6], None)),
        json.dumps(answer_line(ids[7], "[(0.5, 0.5)]", p_visible=nan)),
        json.dumps(answer_line(ids[8], "[(0.5, 0.5)]", p_visible="likely")),
        json.dumps(answer_line(ids[9], "[(0.5, 0.5)]", asked="0123456789abcdef")),
        json.dumps(answer_line("somebody else's", "NOT_VISIBLE")),
        "",
        json.dumps(answer_line(ids[10], "NOT_VISIBLE"))[:-9],
    ]
    path = tmp_path / "odd.jsonl"
    path.write_text("\n".join(lines))
    found = score_file(read_predictions(path), multi, with_floor=False)
    assert found["problems"] == {
        "garbage line": 7,
        "duplicate line": 1,
        "superseded line": 1,
        "point that is not two numbers in [0, 1]": 4,
        "prediction without text or points": 1,
        "p_visible that is not in [0, 1]": 2,
        "answer to another prompt": 1,
        "prediction of an unknown sample": 1,
        "no prediction": len(ids) - 10,
    }
    assert found["overall"]["figures"]["missing"]["hits"] == len(ids) - 9
    assert found["overall"]["figures"]["unparsable"]["hits"] == 5
    assert found["overall"]["figures"]["correct"]["total"] == len(ids), "missing samples stay in the denominator"


def test_the_right_prompt_hash_is_accepted(multi):
    lines = [answer_line(s.id, "NOT_VISIBLE", asked=digest(s.prompt)) for s in multi.samples]
    assert judge(multi.samples, predictions(lines)).problems == {}


def test_masks_that_cannot_be_used_are_counted_and_decide_nothing(small, tmp_path):
    entries = small.samples("t1_val_multi")[::2][:4]
    (tmp_path / "broken.png").write_bytes(b"\x89PNG but not really")
    cv2.imwrite(str(tmp_path / "empty.png"), np.zeros((60, 80), np.uint8))
    for entry, mask in zip(entries, ("broken.png", "empty.png", "none.png"), strict=False):
        entry["mask"] = str(tmp_path / mask)
    (tmp_path / "data.json").write_text(json.dumps(entries))
    data = read_samples(tmp_path / "data.json")
    lines = [answer_line(s.id, s.extra["conversations"][1]["value"]) for s in data.samples]
    found = score_file(predictions(lines), data, with_floor=False)
    assert found["problems"] == {"visible, but no usable mask": 3}
    hit = found["overall"]["figures"]["hit_at_mask"]
    assert (hit["hits"], hit["total"]) == (1, 1)
    assert found["overall"]["figures"]["success_at_0.02"]["total"] == 4, "distances need no mask"


def test_masks_are_inferred_as_the_tree_names_them(tmp_path):
    for name in ("01_000010_original.png", "01_000010_inpainted.png", "01_000010_mask.png"):
        (tmp_path / name).touch()
    original, inpainted = tmp_path / "01_000010_original.png", tmp_path / "01_000010_inpainted.png"
    assert mask_beside(original) == mask_beside(inpainted) == tmp_path / "01_000010_mask.png"
    (tmp_path / "01_000010_mask_dilated.png").touch()
    assert mask_beside(original).name == "01_000010_mask_dilated.png"
    (tmp_path / "01_000010_mask_dialated.png").touch()
    assert mask_beside(inpainted).name == "01_000010_mask_dialated.png"
    assert mask_beside(tmp_path / "02_000020_original.png") is None
    assert mask_beside(tmp_path / "photo.png") is None


def test_bad_samples_are_left_out_and_counted(small, tmp_path):
    good = small.samples("t1_val_multi")[:2]
    bad = [
        good[0],
        "text",
        {"image": "a.png"},
        {**good[0], "id": "no image", "image": []},
        {**good[0], "id": "one picture of two", "image": good[0]["image"][:1]},
        {
            **good[0],
            "id": "placeholder",
            "conversations": [{"from": "human", "value": "<image>\nWhere?"}, {"from": "gpt", "value": "NOT_VISIBLE"}],
        },
        {**good[0], "id": "no answer", "conversations": good[0]["conversations"][:1]},
        {
            **good[0],
            "id": "odd answer",
            "conversations": [{"from": "human", "value": "Where?"}, {"from": "gpt", "value": "there"}],
        },
        {**good[0], "id": "depth", "depth": ["a_depth.png"]},
    ]
    (tmp_path / "data.json").write_text(json.dumps([*good, *bad]))
    data = read_samples(tmp_path / "data.json")
    assert [s.id for s in data.samples] == [entry["id"] for entry in good]
    assert data.problems == {
        "duplicate id": 1,
        "not an object": 1,
        "no id": 1,
        "no image": 1,
        "image count": 1,
        "media placeholder": 1,
        "no conversation": 1,
        "unusable answer": 1,
        "depth count": 1,
    }
    for text, words in (("{}", "expected a JSON list"), ("[]", "no usable sample"), ("[", "not valid JSON")):
        (tmp_path / "data.json").write_text(text)
        with pytest.raises(ValueError, match=words):
            read_samples(tmp_path / "data.json")


def test_scoring_is_pure_and_does_not_depend_on_the_order_of_lines(data):
    rng = np.random.default_rng(0)
    lines = [
        answer_line(
            s.id, format_answer([rng.random(2)]) if rng.random() < 0.7 else "NOT_VISIBLE", p_visible=float(rng.random())
        )
        for s in data.samples
    ]
    once, shuffled = predictions(lines), predictions([lines[k] for k in rng.permutation(len(lines))])
    texts = {json.dumps(score(judge(data.samples, one))) for one in (once, once, shuffled)}
    assert len(texts) == 1
    together = judge_all(data.samples, [predictions([]), once])[1]
    assert json.dumps(score(together)) in texts


def test_answers_given_as_columns_are_those_of_the_file(data):
    rng = np.random.default_rng(1)
    one = predictions(
        answer_line(s.id, format_answer([rng.random(2)]) if rng.random() < 0.7 else "NOT_VISIBLE")
        for s in data.samples[1:]
    )
    read = read_answers(data.samples, one)
    assert (read.answer == Answer.MISSING).tolist() == [True] + [False] * (len(data.samples) - 1)
    from_file, from_columns = judge_all(data.samples, [one, read])
    assert json.dumps(score(from_file)) == json.dumps(score(from_columns))
    hidden = ~from_file.visible
    assert not from_file.hit[hidden].any() and not from_file.has_mask[hidden].any()
    assert np.isnan(from_file.l2[hidden]).all() and np.isnan(from_file.l2[from_file.visible & ~from_file.pointed]).all()


def test_nothing_to_judge_is_no_fault(multi):
    assert judge_all(multi.samples, []) == []
    assert len(judge([], predictions([])).l2) == 0


def test_groups_partition_what_they_group(multi):
    found = score(judge(multi.samples, predictions(answer_line(s.id, "[(0.5, 0.5)]") for s in multi.samples)))
    n, visible = len(multi.samples), sum(s.truth is not None for s in multi.samples)
    totals = {kind: sum(g["samples"] for g in groups.values()) for kind, groups in found["groups"].items()}
    assert totals == {"split": n, "label": n, "reason": n - visible, "area": visible, "baseline": n}
    assert found["groups"]["split"]["t1 multi"]["figures"]["correct"] == found["overall"]["figures"]["correct"]
    assert set(found["groups"]["reason"]) == {"out_of_frustum", "occluded", "absent", "same_class_elsewhere"}


def test_referring_expressions_are_grouped_by_relation(small):
    told, *others = small.samples("t1_val_multi")
    entries = [told | {"relation": "left"}, *others]
    path = small.folder / "referring_val.json"
    path.write_text(json.dumps(entries))
    data = read_samples(path)
    found = score(judge(data.samples, predictions([])))
    assert {name: group["samples"] for name, group in found["groups"]["relation"].items()} == {"left": 1}


def test_command_prints_the_table_and_writes_the_figures(small, tmp_path, capsys):
    path = small.write("t1_val_multi")
    samples = read_samples(path).samples
    lines = [answer_line(s.id, s.extra["conversations"][1]["value"]) for s in samples]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert main(["score", str(tmp_path / "p.jsonl"), "--data", str(path), "--out", str(tmp_path / "s.json")]) == 0
    out = capsys.readouterr().out
    assert "Hit@Mask" in out and "never_visible" in out and "random_prior" in out and "image_centre" in out
    found = json.loads((tmp_path / "s.json").read_text())
    assert found["overall"]["figures"]["hit_at_mask"]["value"] == 1.0
    assert found["baselines"]["never_visible"]["figures"]["false_refusals"]["value"] == 1.0
    assert main(["score", str(tmp_path / "absent.jsonl"), "--data", str(path)]) == 2
    assert "absent.jsonl" in capsys.readouterr().err


def test_parse_of_answers_is_the_one_parser(multi):
    """What the text says, the parser decides; the scorer adds nothing of its own."""
    for text in ("[(0.1, 0.2), (0.9, 0.9)]", "x (.5,.5) y", "NOT_VISIBLE (0.1, 0.1)", "[(0.1, 1.2)]", "(1, 2)", ""):
        judged = judge(multi.samples[:1], predictions([answer_line(multi.samples[0].id, text)]))
        answer = parse(text)
        assert judged.pointed[0] == bool(answer.points)
        if bool(answer.points):
            np.testing.assert_allclose(judged.point[0], answer.points[0])
