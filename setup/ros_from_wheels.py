"""Let ROS 2 Jazzy wheels in this virtual environment play the part of /opt/ros/jazzy, and build ros2_ws on them.

Run it with the environment's own Python, under setup/env.sh. The packages in ros2_ws know nothing of this.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKSPACE = ROOT / "ros2_ws"
VENV = Path(sys.prefix)

# What a build depends on; with --symlink-install every other change is live without one.
BUILD_FILES = re.compile(r"(CMakeLists\.txt|package\.xml|setup\.py|setup\.cfg|.*\.(msg|srv|action))")


def write_atomically(path: Path, text: str) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_text(text)
    temporary.replace(path)


def repair_cmake_exports(venv: Path) -> int:
    """The wheels' CMake export files name folders of the machine that built them; name ours. Returns how many did."""
    import numpy

    python = re.compile(r"/opt/python/cp\d+-cp\d+/include/python3\.\d+")
    numpy_core = re.compile(r"/opt/python/cp\d+-cp\d+/lib/python3\.\d+/site-packages/numpy/_?core/include")
    changed = 0
    for path in sorted(venv.glob("share/*/cmake/*.cmake")):
        before = path.read_text()
        after = python.sub(lambda _: sysconfig.get_path("include"), before)
        after = numpy_core.sub(lambda _: numpy.get_include(), after)
        if after != before:
            write_atomically(path, after)
            changed += 1
    return changed


def link_libusb(venv: Path) -> None:
    """Put the libusb of PyPI, where installed, on Open3D's way: a bare Debian has none."""
    try:
        import libusb_package
    except ModuleNotFoundError:
        return
    link = venv / "lib" / "libusb-1.0.so.0"
    target = Path(libusb_package.get_library_path())
    if not (link.is_symlink() and link.resolve() == target.resolve()):
        link.unlink(missing_ok=True)
        link.symlink_to(os.path.relpath(target, link.parent))


def fingerprints() -> tuple[str, str]:
    """Of the place (a build made elsewhere, or by another Python, is useless), and of what is built."""
    place = hashlib.sha256(f"{ROOT}\n{VENV}\n{sys.version}".encode()).hexdigest()
    sources = hashlib.sha256(Path(__file__).read_bytes())
    for path in sorted(WORKSPACE.glob("src/**/*")):
        relative = path.relative_to(WORKSPACE / "src")
        if not path.is_file() or {"test", "__pycache__"} & set(relative.parts) or path.suffix == ".pyc":
            continue
        if BUILD_FILES.fullmatch(path.name):
            sources.update(f"\n{relative}\n".encode() + path.read_bytes())
        elif path.suffix != ".py":
            sources.update(f"\n{relative}\n".encode())
    return place, sources.hexdigest()


def build() -> None:
    """colcon build, if anything changed that needs one."""
    stamp = WORKSPACE / "build" / "roboref_build_stamp.json"
    place, sources = fingerprints()
    try:
        built = json.loads(stamp.read_text())
    except (FileNotFoundError, ValueError):
        built = {}
    if built == {"place": place, "sources": sources} and (WORKSPACE / "install" / "local_setup.bash").is_file():
        return
    if built and built.get("place") != place:
        print("ros2_ws was built elsewhere: rebuilding it")
        for folder in ("build", "install"):
            shutil.rmtree(WORKSPACE / folder, ignore_errors=True)
    environment = {**os.environ, "AMENT_PREFIX_PATH": str(VENV), "CMAKE_PREFIX_PATH": str(VENV)}
    for name in ("PYTHONPATH", "COLCON_PREFIX_PATH"):
        environment.pop(name, None)
    command = [
        *(str(VENV / "bin" / "colcon"), "--log-level", "error", "build", "--symlink-install"),
        *("--event-handlers", "console_stderr-"),
        *("--cmake-args", f"-DPython3_EXECUTABLE={VENV}/bin/python", "-DPython3_FIND_VIRTUALENV=ONLY"),
        *("-DBUILD_TESTING=OFF", "--no-warn-unused-cli"),
    ]
    if subprocess.run(command, cwd=WORKSPACE, env=environment).returncode:
        raise SystemExit("colcon build failed: see ros2_ws/log/latest_build/*/stderr.log")
    write_atomically(stamp, json.dumps({"place": place, "sources": sources}))


def main() -> None:
    if sys.prefix == sys.base_prefix:
        raise SystemExit("ros_from_wheels.py: run it with .venv/bin/python, not with the system's Python")
    with open(VENV / ".ros_from_wheels.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        changed = repair_cmake_exports(VENV)
        if changed:
            print(f"repaired {changed} CMake export files of the ROS wheels")
        link_libusb(VENV)
        build()


if __name__ == "__main__":
    main()
