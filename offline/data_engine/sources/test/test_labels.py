from __future__ import annotations

from pathlib import Path

import pytest

from offline.data_engine.sources.labels import LabelTable, structural_family, unknown_labels, wanted_categories

HEADER = "id\traw_category\tcategory\tcount\tnyu40id\teigen13id\tnyuClass\tnyu40class"
ROWS = (
    "1\twall\twall\t8277\t1\t12\twall\twall",
    "22\tbook\tbook\t318\t23\t2\tbook\tbooks",
    "22\tbooks\tbook\t1678\t23\t2\tbook\tbooks",
    "35\twardrobe \twardrobe \t3\t39\t6\t\totherfurniture",
    "1163\tobject\tobject\t88\t40\t7\t\totherprop",
    "44\tpantry wall\twall\t2\t1\t12\twall\twall",
    "45\tliving room divider\tdivider\t2\t1\t12\twall\twall",
)


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r\r\n"])
@pytest.mark.parametrize("last", ["", "ending"])
def test_table_in_every_line_ending(tmp_path, ending, last):
    path = tmp_path / "labels.tsv"
    path.write_bytes(ending.join((HEADER, *ROWS)).encode() + (ending.encode() if last else b""))
    table = LabelTable.read(path)
    assert table.nyu40_of["books"] == 23
    assert table.category_of["books"] == "book"
    assert table.nyu40_of["wardrobe"] == 39
    assert table.raw_categories_of[22] == ("book", "books")
    assert len(table.nyu40_of) == 7 and len(table.raw_categories_of) == 6
    assert structural_family("Living room  divider ", table) == "wall"
    assert structural_family("living room divider") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (HEADER.replace("nyu40id", "nyu"), "no column nyu40id"),
        (HEADER + "\n1\twall\twall\t2\tone\t", "line 2"),
        (HEADER + "\n1\twall", "line 2"),
        ("", "no column"),
    ],
)
def test_damaged_table_is_refused_by_name(tmp_path, text, says):
    path = tmp_path / "labels.tsv"
    path.write_text(text)
    with pytest.raises(ValueError, match=says) as error:
        LabelTable.read(path)
    assert "labels.tsv" in str(error.value)


@pytest.mark.parametrize(
    ("label", "family"),
    [
        ("wall", "wall"),
        ("Bath Walls", "wall"),
        ("door wall", "wall"),
        ("closet ceiling", "ceiling"),
        ("shower floor", "floor"),
        ("garage door", "door"),
        ("closet doorframe", "door"),
        ("door frame", "door"),
        ("window sill", "window"),
        ("stair rail", "stairs"),
        ("wood beam", "column"),
        ("wall lamp", None),
        ("ceiling fan", None),
        ("floor mat", None),
        ("wet floor sign", None),
        ("picture frame", None),
        ("window blinds", None),
        ("chair", None),
        ("glass", None),
        ("", None),
    ],
)
def test_structural_family(label, family):
    assert structural_family(label) == family


SAMPLES = Path(__file__).parents[5] / "shared" / "data" / "scannet_labels"


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no real label tables here")
@pytest.mark.parametrize("name", ["scannetv2-labels.combined.tsv", "sam3d_labels.tsv"])
def test_noun_rule_agrees_with_the_real_tables(name):
    table = LabelTable.read(SAMPLES / name)
    assert len(table.raw_categories_of) == 549
    nyu40 = {1: "wall", 2: "floor", 22: "ceiling", 8: "door", 9: "window"}
    for raw, number in table.nyu40_of.items():
        if number in nyu40:
            assert structural_family(raw) == nyu40[number], raw


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "labels.tsv"
    more = ("2\tcoffee table\tcoffee table\t9\t7\t6\t\ttable", "3\ttable\ttable\t9\t7\t6\t\ttable")
    path.write_text("\n".join((HEADER, *ROWS, *more)))
    return LabelTable.read(path)


@pytest.mark.parametrize(
    ("name", "means"),
    [
        ("books", {"book"}),
        ("Coffee  table", {"coffee table"}),
        ("table", {"table"}),
        ("nyu40:table", {"table", "coffee table"}),
        ("otherfurniture", {"wardrobe"}),
        ("other furniture", {"wardrobe"}),
    ],
)
def test_labels_are_raw_spellings_categories_or_classes(table, name, means):
    assert wanted_categories([name], table) == means
    assert unknown_labels([name], table, lambda: pytest.fail("the table knows it")) == []


def test_every_typo_is_named_with_what_is_nearest(table):
    wrong = unknown_labels(["cofee table", "books", "boook", "teapot"], table, lambda: ["Teapot", "kettle"])
    assert wrong == ["no label 'cofee table'; did you mean 'coffee table'?", "no label 'boook'; did you mean 'book'?"]
    assert unknown_labels(["ketle"], None, lambda: ["kettle"]) == ["no label 'ketle'; did you mean 'kettle'?"]
    assert "needs the label table" in unknown_labels(["nyu40:chair"], None, lambda: ["kettle"])[0]


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="no real label tables here")
def test_names_of_scannet200_are_known():
    table = LabelTable.read(SAMPLES / "scannetv2-labels.combined.tsv")
    names = ["office chair", "tv stand", "kitchen cabinet", "trash can", "night stand", "potted plant", "refrigerator"]
    assert unknown_labels(names, table, lambda: ()) == []
