"""Make the virtual environment .venv in stages; standard library only. Run it through setup/setup.sh.

Safe to interrupt and to run again: what an interrupted installation left behind is thrown away, finished
stages cost nothing, and two runs at a time wait for each other.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
STATE = VENV / "roboref_setup.json"
LOG = VENV / "roboref_setup.log"

# Stage -> (requirements, disk needed [GB], what to expect).
STAGES = {
    "base": ("setup/requirements-base.txt", 2.0, "ROS 2 Jazzy, OpenCV, Numba: a minute or two"),
    "demo": ("setup/requirements-demo.txt", 1.5, "PyTorch, Transformers, NiceGUI: a minute or two"),
    "full": ("setup/requirements-full.txt", 2.0, "Open3D, DeepSpeed, pytest: a minute or two"),
    "docs": ("setup/requirements-docs.txt", 0.1, "MkDocs"),
}


class SetupError(Exception):
    """One line that says what is missing and what to do."""


def missing_prerequisites() -> list[str]:
    missing = []
    libc, version = platform.libc_ver()
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        missing.append(
            f"this is {platform.system()} on {platform.machine()}: the ROS wheels exist for Linux on x86-64 only; "
            "elsewhere use ROS 2 Jazzy's own packages and colcon build (see README.md)"
        )
    elif libc == "glibc" and tuple(map(int, version.split(".")[:2])) < (2, 28):
        missing.append(f"glibc is {version}: the ROS wheels need 2.28 or newer")
    try:
        import ensurepip  # noqa: F401
        import venv  # noqa: F401
    except ImportError as error:
        missing.append(f"{sys.executable} has no module {error.name} (Debian, Ubuntu: install python3-venv)")
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        missing.append(f"{sys.executable} has no C headers (Debian, Ubuntu: install python3-dev)")
    for variable, command, package in (("CC", "cc", "gcc"), ("CXX", "c++", "g++"), ("", "make", "make")):
        command = os.environ.get(variable, command).split()[0]
        if shutil.which(command) is None:
            missing.append(f"no {command} on PATH (Debian, Ubuntu: install {package})")
    return missing


def run(*command: str | Path, failure: str) -> None:
    """Run ``command`` with its output in LOG; if it fails, show the end of that and raise SetupError(failure)."""
    # With the guard, the ROS wheels' start-up hook does not run every Python twice.
    environment = {**os.environ, "_ROS_WHEELS_BOOTSTRAP_COMPLETE": "1", "DS_BUILD_OPS": "0"}
    for name in ("PYTHONPATH", "PYTHONHOME"):
        environment.pop(name, None)
    with open(LOG, "wb") as log:
        status = subprocess.run(
            [str(part) for part in command], cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT
        ).returncode
    if status:
        lines = LOG.read_text(errors="replace").splitlines()
        print(*[line for line in lines if not line.startswith("WARNING")][-8:], sep="\n", file=sys.stderr, flush=True)
        raise SetupError(f"{failure} (all of its output: {LOG.relative_to(ROOT)})")


class Environment:
    """.venv and what is known of it: where it was made, the stages done, the one under way."""

    def __init__(self):
        try:
            self.state = json.loads(STATE.read_text())
        except (FileNotFoundError, ValueError):
            self.state = {"root": str(ROOT)}

    def save(self, **changes) -> None:
        self.state |= changes
        temporary = STATE.with_suffix(".part")
        with open(temporary, "w") as file:
            json.dump(self.state, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(STATE)

    def version(self) -> str | None:
        """Of its Python, as "3.12"; None if it or its pip does not run."""
        probe = "import sys, pip; print(*sys.version_info[:2], sep='.')"
        try:
            result = subprocess.run([VENV / "bin" / "python", "-I", "-c", probe], capture_output=True, text=True)
        except OSError:
            return None
        return result.stdout.strip() if result.returncode == 0 else None

    def make(self) -> None:
        """Create it, or recreate it over what is left of an old one."""
        reason = None
        version = self.version()
        wanted = "{}.{}".format(*sys.version_info[:2])
        if version is None:
            reason = "it does not run" if VENV.exists() else ""
        elif self.state.get("root") != str(ROOT):
            reason = f"it was made in {self.state.get('root')}"
        elif self.state.get("installing"):
            reason = f"installing its {self.state['installing']} stage was interrupted"
        elif os.environ.get("PYTHON") and version != wanted:
            raise SetupError(f".venv has Python {version}, PYTHON asks for {wanted}: run 'make clean' first")
        if reason is None:
            return
        if missing := missing_prerequisites():
            raise SetupError("\nsetup: ".join(missing))
        if reason:
            print(f"setup: removing .venv: {reason}", flush=True)
        shutil.rmtree(VENV, ignore_errors=True)
        VENV.mkdir()
        run(sys.executable, "-m", "venv", VENV, failure=f"{sys.executable} -m venv failed, as it says above")
        self.state = {"root": str(ROOT)}
        self.save()

    def install(self, stage: str) -> None:
        requirements, gigabytes, expect = STAGES[stage]
        digest = hashlib.sha256((ROOT / requirements).read_bytes()).hexdigest()
        if self.state.get(stage) == digest:
            return
        free = shutil.disk_usage(VENV).free / 1e9
        if stage not in self.state and free < gigabytes:
            raise SetupError(f"{free:.1f} GB free on the disk of {ROOT}, the {stage} stage needs {gigabytes:.1f} GB")
        print(f"setup: installing the {stage} stage ({expect})", flush=True)
        self.save(installing=stage)
        self.pip("-r", requirements)
        self.save(installing=None, **{stage: digest})

    def install_project(self) -> None:
        """Editable: every change of the sources is live."""
        files = [ROOT / name for name in ("pyproject.toml", "setup.py")]
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        if self.state.get("project") != digest:
            self.pip("--no-deps", "--no-build-isolation", "--editable", ".")
            self.save(project=digest)

    def pip(self, *arguments: str) -> None:
        run(
            *(VENV / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-input"),
            *("--disable-pip-version-check", *arguments),
            failure=f"pip install {' '.join(arguments)} failed, as it says above. Without a way to the package "
            "index, name a mirror (PIP_INDEX_URL, PIP_FIND_LINKS) or a proxy (HTTPS_PROXY), then run this again",
        )


def main(stage: str) -> None:
    # A lock on this folder leaves no file behind, and the system releases it however the run ends.
    lock = os.open(Path(__file__).parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print("setup: waiting for another run of it", flush=True)
        fcntl.flock(lock, fcntl.LOCK_EX)
    environment = Environment()
    environment.make()
    # Each stage stands on those before it.
    for name in list(STAGES)[: list(STAGES).index(stage) + 1]:
        environment.install(name)
    environment.install_project()


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in STAGES:
        raise SystemExit(f"usage: setup/setup.sh {'|'.join(STAGES)}")
    try:
        main(sys.argv[1])
    except SetupError as error:
        raise SystemExit(f"setup: {error}") from None
    except KeyboardInterrupt:
        raise SystemExit("setup: interrupted; run the same command again to go on") from None
