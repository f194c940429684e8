"""One version everywhere."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import roboref_core
import yaml

ROOT = Path(__file__).parents[2]


def test_every_file_states_the_version_of_the_library():
    packages = list((ROOT / "ros2_ws/src").glob("*/package.xml"))
    assert len(packages) == 3
    versions = {str(path.parent.name): ElementTree.parse(path).findtext("version") for path in packages}
    for path in (ROOT / "ros2_ws/src").glob("*/setup.py"):
        # The library's reads it from the library.
        if match := re.search(r'version="([^"]+)"', path.read_text()):
            versions[f"{path.parent.name}/setup.py"] = match[1]
    versions["CITATION.cff"] = yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]
    assert set(versions.values()) == {roboref_core.__version__}, versions
