"""Reading and writing the published layout."""

from __future__ import annotations

import copy
import json
import shutil

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from roboref_core.models.roborefer import RoboReferBackend
from roboref_core.models.roborefer.checkpoint.config import read_config
from roboref_core.models.roborefer.checkpoint.files import load_model, open_checkpoint, save_checkpoint
from roboref_core.models.roborefer.errors import CheckpointError
from roboref_core.models.roborefer.prompt_text import placeholder_ids
from roboref_core.models.vision_language_model import Prompt
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer

CHECKPOINTS = ("ckpt_rgb_2x2", "ckpt_rgbd_3x3", "ckpt_rgbd_s2")


@pytest.fixture
def copied(fixtures, tmp_path):
    """A copy of a recorded checkpoint that may be damaged."""

    def copy_of(name="ckpt_rgbd_3x3"):
        return shutil.copytree(fixtures / name, tmp_path / name)

    return copy_of


def edit(file, **changes):
    content = json.loads(file.read_text())
    content.update(changes)
    file.write_text(json.dumps(content))


def answer(path, **options) -> str:
    backend = RoboReferBackend.load(path, decoding="free", max_new_tokens=12, **options)
    return backend.generate(Prompt("What is a mug?")).text


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_written_again_it_has_the_same_bytes(name, fixtures, tmp_path):
    source = fixtures / name
    save_checkpoint(load_model(source), source, tmp_path / "out")
    files = sorted(p.relative_to(source) for p in source.rglob("*") if p.is_file())
    assert files == sorted(p.relative_to(tmp_path / "out") for p in (tmp_path / "out").rglob("*") if p.is_file())
    for file in files:
        assert (tmp_path / "out" / file).read_bytes() == (source / file).read_bytes(), file


def test_changed_dtype_vocabulary_and_context_are_written(copied, tmp_path):
    source = copied()
    # A base checkpoint whose tokenizer has no <depth> yet.
    for file in ("tokenizer.json", "tokenizer_config.json"):
        text = (source / "llm" / file).read_text().replace("<depth>", "<other>")
        (source / "llm" / file).write_text(text)
    model = load_model(source, dtype=torch.bfloat16, for_training=True, max_length=70000)
    rows = 522
    assert model.tokenizer.convert_tokens_to_ids("<depth>") == rows - 1
    embeddings = model.llm.model.embed_tokens.weight
    assert embeddings.shape[0] == rows
    torch.testing.assert_close(embeddings[-1].float(), embeddings[:-1].float().mean(0), atol=1e-3, rtol=0)
    save_checkpoint(model, source, tmp_path / "out", {"image_aspect_ratio": "resize"})
    root = json.loads((tmp_path / "out" / "config.json").read_text())
    language = json.loads((tmp_path / "out" / "llm" / "config.json").read_text())
    assert root["image_aspect_ratio"] == "resize" and root["model_dtype"] == "torch.bfloat16"
    assert root["llm_cfg"]["vocab_size"] == language["vocab_size"] == rows
    # Linear RoPE scaling by the whole factor that 70000 positions need over 32768.
    assert language["rope_scaling"] == {"type": "linear", "factor": 3.0}
    again = load_model(tmp_path / "out")
    assert again.tokenizer.model_max_length == 70000
    assert again.llm.config.rope_parameters["factor"] == 3.0
    for (name, old), new in zip(model.state_dict().items(), again.state_dict().values(), strict=True):
        assert torch.equal(old, new), name


def test_a_tokenizer_is_read_as_it_is_stored(random_checkpoint):
    """A qwen2 model may have a tokenizer that cuts text in another way than Qwen2's."""
    path = random_checkpoint(numbers="whole", vocabulary=1600, depth="none")
    tokenizer = load_model(path).tokenizer
    text = "Point at it: [(0.535, 0.123)]"
    ids = tokenizer(text).input_ids
    assert ids == Tokenizer.from_file(str(path / "llm" / "tokenizer.json")).encode(text).ids
    assert {"0.535", "0.123"} < set(tokenizer.convert_ids_to_tokens(ids))
    assert placeholder_ids(tokenizer).keys() == {"image"}


def test_an_existing_target_is_not_touched(fixtures, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(FileExistsError):
        save_checkpoint(load_model(fixtures / "ckpt_rgb_2x2"), fixtures / "ckpt_rgb_2x2", tmp_path / "out")
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_a_failed_write_leaves_nothing(copied, tmp_path):
    source = copied("ckpt_rgb_2x2")
    model = load_model(source)
    (source / "mm_projector" / "config.json").unlink()
    with pytest.raises(CheckpointError, match="mm_projector"):
        save_checkpoint(model, source, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["ckpt_rgb_2x2"]


def test_shards_torch_files_and_the_model_folder(copied, tmp_path):
    source = copied("ckpt_rgb_2x2")
    expected, revision = answer(source), open_checkpoint(source).revision
    llm = source / "llm"
    tensors = load_file(llm / "model.safetensors")
    names = sorted(tensors)
    files = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, members in files.items():
        save_file({name: tensors[name] for name in members}, llm / file, metadata={"format": "pt"})
    weight_map = {name: file for file, members in files.items() for name in members}
    (llm / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (llm / "model.safetensors").unlink()
    assert answer(source) == expected
    for file in llm.glob("model*"):
        file.unlink()
    torch.save(tensors, llm / "pytorch_model.bin")
    assert answer(source) == expected
    output = tmp_path / "run" / "model"
    shutil.copytree(source, output)
    assert answer(tmp_path / "run") == expected
    assert RoboReferBackend.load(tmp_path / "run").name.startswith("run@")
    assert open_checkpoint(source).revision != revision


def test_what_older_files_hold_or_lack(copied):
    """Buffers that follow from the configuration, a pooling head that nothing uses, widths left out."""
    path = copied("ckpt_rgb_2x2")
    expected = answer(path)
    file = path / "llm" / "model.safetensors"
    save_file({**load_file(file), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}, file)
    file = path / "vision_tower" / "model.safetensors"
    save_file({**load_file(file), "vision_model.embeddings.position_ids": torch.arange(49)[None]}, file)
    edit(path / "vision_tower" / "config.json", vision_use_head=True)
    edit(path / "config.json", mm_hidden_size=None, hidden_size=None)
    assert answer(path) == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_other_dtypes(dtype, recording, models):
    model = load_model(recording.checkpoint, dtype=dtype)
    assert {p.dtype for p in model.parameters()} == {dtype}
    backend = RoboReferBackend(model, "half", decoding="free", aspect=recording.aspect, max_new_tokens=4)
    assert backend.generate(recording.prompt).text
    weight = models(recording.checkpoint).llm.model.embed_tokens.weight
    assert torch.equal(model.llm.model.embed_tokens.weight, weight.to(dtype))


def test_depth_through_the_shared_tower(random_checkpoint, pictures):
    path = random_checkpoint(depth="shared")
    model = load_model(path)
    assert model.depth_tower is None and model.depth_projector is not None
    backend = RoboReferBackend(model, "shared")
    image, depth = pictures(0), pictures(1, channels=1)
    with_depth = backend.generate(Prompt("Where?", (image,), (depth,)))
    assert with_depth.text != "" and backend.uses_depth


class TestDamage:
    """Every error names the part and the file, before weights are read."""

    @pytest.fixture(autouse=True)
    def weights_stay_unread(self, monkeypatch):
        def read(*_):
            raise AssertionError("weights were read")

        monkeypatch.setattr("roboref_core.models.roborefer.checkpoint.files.read_tensors", read)

    def refused(self, path, part, file) -> str:
        with pytest.raises(CheckpointError) as error:
            load_model(path)
        assert part in str(error.value) and file in str(error.value)
        return str(error.value)

    @pytest.mark.parametrize("part", ["llm", "vision_tower", "mm_projector", "depth_tower", "depth_projector"])
    def test_missing_part(self, copied, part):
        path = copied()
        shutil.rmtree(path / part)
        self.refused(path, part, f"{part}/")

    @pytest.mark.parametrize("part", ["llm", "depth_tower"])
    def test_missing_weights(self, copied, part):
        path = copied()
        (path / part / "model.safetensors").unlink()
        self.refused(path, part, part)

    @pytest.mark.parametrize("size", [0, 5, 2000, -1])
    def test_truncated_weights(self, copied, size):
        path = copied()
        file = path / "vision_tower" / "model.safetensors"
        file.write_bytes(file.read_bytes()[:size])
        self.refused(path, "vision_tower", "model.safetensors")

    def test_wrong_projector(self, copied):
        path = copied()
        edit(path / "mm_projector" / "config.json", mm_projector_type="mlp_downsample")
        self.refused(path, "mm_projector", "model.safetensors")
        edit(path / "mm_projector" / "config.json", mm_projector_type="resampler")
        assert "resampler" in self.refused(path, "mm_projector", "config.json")

    def test_wrong_shape(self, copied):
        path = copied()
        edit(path / "llm" / "config.json", intermediate_size=129)
        assert "makes it" in self.refused(path, "llm", "model.safetensors")

    def test_missing_and_unknown_tensors(self, copied):
        path = copied()
        edit(path / "depth_tower" / "config.json", num_hidden_layers=4)
        assert "lacks" in self.refused(path, "depth_tower", "depth_tower")
        edit(path / "depth_tower" / "config.json", num_hidden_layers=2)
        assert "does not describe" in self.refused(path, "depth_tower", "model.safetensors")

    def test_an_index_that_leaves_its_folder(self, copied):
        path = copied()
        index = path / "llm" / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {"a": "../mm_projector/model.safetensors"}}))
        assert "outside" in self.refused(path, "llm", "index.json")
        index.write_text(json.dumps({"weight_map": {"lm_head.weight": "model.safetensors"}}))
        assert "does not hold" in self.refused(path, "llm", "index.json")

    def test_identity_of_another_width(self, copied):
        path = copied()
        edit(path / "mm_projector" / "config.json", mm_projector_type="identity")
        assert "identity" in self.refused(path, "mm_projector", "config.json")

    def test_a_pickle_that_would_run_code(self, copied, tmp_path):
        class Harm:
            def __reduce__(self):
                return (open, (str(tmp_path / "harmed"), "w"))

        path = copied()
        (path / "llm" / "model.safetensors").unlink()
        torch.save({"model.norm.weight": Harm()}, path / "llm" / "pytorch_model.bin")
        self.refused(path, "llm", "pytorch_model.bin")
        assert not (tmp_path / "harmed").exists()

    def test_integer_weights(self, copied):
        path = copied()
        file = path / "mm_projector" / "model.safetensors"
        save_file({name: tensor.to(torch.int32) for name, tensor in load_file(file).items()}, file)
        assert "I32" in self.refused(path, "mm_projector", "model.safetensors")

    def test_configurations_that_contradict(self, copied):
        path = copied()
        edit(path / "config.json", depth_projector_cfg=None)
        self.refused(path, "depth_projector", "config.json")
        path = copied("ckpt_rgbd_s2")
        edit(path / "config.json", mm_hidden_size=48)
        self.refused(path, "vision_tower", "config.json")
        edit(path / "config.json", mm_hidden_size=144, s2_scales="56,100,168")
        assert "multiples" in self.refused(path, "checkpoint", "config.json")


def test_code_beside_a_checkpoint_is_not_run(copied, tmp_path):
    path = copied("ckpt_rgb_2x2")
    for folder in (path, path / "llm"):
        (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    edit(path / "llm" / "tokenizer_config.json", auto_map={"AutoTokenizer": ["own.Own", None]}, tokenizer_class="Own")
    edit(path / "llm" / "config.json", auto_map={"AutoModelForCausalLM": "own.Own"})
    assert answer(path)
    assert not (tmp_path / "ran").exists()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
FILES = (
    "config.json",
    "llm/config.json",
    "vision_tower/config.json",
    "mm_projector/config.json",
    "depth_tower/config.json",
    "vision_tower/preprocessor_config.json",
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_configuration_is_read_or_refused(data, copied, fixtures, tmp_path_factory):
    """No crash, no hang and no allocation, whatever the values of known and unknown keys."""
    path = tmp_path_factory.mktemp("fuzz") / "ckpt"
    shutil.copytree(fixtures / "ckpt_rgbd_3x3", path, ignore=shutil.ignore_patterns("*.safetensors", "merges.txt"))
    file = path / data.draw(st.sampled_from(FILES))
    content = json.loads(file.read_text())
    original = copy.deepcopy(content)
    for key in data.draw(st.lists(st.sampled_from(sorted(content)) | st.text(max_size=6), min_size=1, max_size=3)):
        content[key] = data.draw(JSON)
    file.write_text(json.dumps(content))
    try:
        read_config(path)
    except CheckpointError as error:
        assert str(file.relative_to(path)) in str(error) or "config.json" in str(error)
    else:
        assert content.keys() >= original.keys()
    shutil.rmtree(path.parent)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200))
def test_bytes_that_are_no_configuration(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes")
    (path / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        read_config(path)
