"""What the quality declarations say of versions and dependencies is what the packages have."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2]
PACKAGES = [
    name for name in ("roboref_msgs", "roboref_core", "roboref_ros") if (SOURCES / name / "package.xml").exists()
]


@pytest.mark.parametrize("name", PACKAGES)
def test_a_declaration_agrees_with_its_package(name):
    package = ElementTree.parse(SOURCES / name / "package.xml").getroot()
    text = (SOURCES / name / "QUALITY_DECLARATION.md").read_text(encoding="utf-8")
    assert f"| Version policy | {package.findtext('version')} " in text
    needed = {element.text for kind in ("depend", "exec_depend") for element in package.iter(kind)}
    assert not [dependency for dependency in needed if f"`{dependency}`" not in text]
    assert f"| Licence | {package.findtext('license')} " in text
