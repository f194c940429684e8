"""Whatever names and paths hold, a batch script runs the one command that it names."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline import cluster
from offline.data_engine.build_command import Build
from offline.data_engine.slurm import Slurm, batch_script
from offline.train.slurm import Request, render

NASTY = [
    "a b",
    "it's",
    'say "x"',
    "$(touch pwned)",
    "`touch pwned`",
    "; touch pwned #",
    "a\\b",
    "-rf",
    "*",
    "ünï",
    "&&",
]
printable = st.text(st.characters(exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1, max_size=20)


@settings(max_examples=60, deadline=None)
@given(st.lists(printable, min_size=1, max_size=4))
def test_words_reach_the_program_as_they_are(texts):
    done = subprocess.run(["bash", "-c", f"printf '%s\\0' {cluster.words(*texts)}"], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == texts == shlex.split(cluster.words(*texts))


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\0b", "a\x1bb", "a\u2028b"])
def test_line_ends_and_control_characters_are_refused(text):
    with pytest.raises(ValueError, match="line ends"):
        cluster.word(text)
    with pytest.raises(ValueError, match="line ends"):
        cluster.directives({"job-name": text})
    with pytest.raises(ValueError, match="option of sbatch"):
        cluster.directives({text: "x"})


def test_directives():
    options = {"job-name": "a b", "nodes": 2, "requeue": True, "account": None}
    assert cluster.directives(options).splitlines() == [
        '#SBATCH --job-name="a b"',
        "#SBATCH --nodes=2",
        "#SBATCH --requeue",
    ]
    assert cluster.option_of("mem=64G") == ("mem", "64G") and cluster.option_of("--exclusive") == ("exclusive", True)
    with pytest.raises(ValueError, match="quotation marks"):
        cluster.directives({"job-name": 'x" --wrap="touch pwned'})


@pytest.mark.parametrize("name", NASTY)
def test_scripts_run_nothing_that_paths_say(name, tmp_path):
    """With srun replaced by a program that prints its arguments, both scripts give it the paths whole."""
    (tmp_path / "srun").write_text('#!/bin/bash\nprintf "%s\\n" "$@"\n')
    (tmp_path / "srun").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "SLURM_JOB_ID": "1", "PHASE": "scenes"}
    environment["SLURM_ARRAY_TASK_ID"] = "0"
    data = batch_script(Slurm(Build(scans=Path(name), out=Path("out") / name), shards=2))
    done = subprocess.run(["bash"], input=data.encode(), env=environment, cwd=tmp_path, capture_output=True)
    assert done.returncode == 0 and name in done.stdout.decode().splitlines(), done.stderr
    output = tmp_path / ("plain" if '"' in name or "\\" in name else name)
    plan = SimpleNamespace(output=output, batch=8, micro_batch=1)
    train = render(Request(tmp_path / name, processes_per_node=1, gpus_per_node=0), plan)
    done = subprocess.run(["bash"], input=train.encode(), env=environment, cwd=tmp_path, capture_output=True)
    assert done.returncode == 0, done.stderr
    launched = done.stdout.decode().split("bash\n-c\n", 1)[1]
    assert shlex.split(launched)[-1] == str(tmp_path / name)
    assert not list(tmp_path.rglob("pwned"))
