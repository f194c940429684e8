"""The ten lines of the README, as they stand there, against a node that is just starting."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fake_rgbd import NodeProcess
from roboref_core.errors import ErrorCode

README = Path(__file__).parents[4] / "README.md"
pytestmark = pytest.mark.skipif(not README.is_file(), reason="the README is part of a checkout")


def test_the_readme_snippet_gets_its_answer_at_once(domain, tmp_path):
    (snippet,) = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    script = tmp_path / "snippet.py"
    script.write_text(snippet + "print('ANSWER', answer.status, answer.error_code)\n")
    environment = os.environ | {"ROS_DOMAIN_ID": str(domain), "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    node = NodeProcess(domain, ["-p", "pose.source:=pose"], tmp_path / "node.log")
    try:
        for _ in range(3):
            done = subprocess.run(
                [sys.executable, str(script)], env=environment, capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode == 0, done.stderr
            # No view has arrived; what matters is that the node said so.
            assert f"ANSWER 5 {int(ErrorCode.NO_VIEW)}" in done.stdout
    finally:
        node.stop()
