"""`make bench`: every speed claim, each as a ratio to a named baseline measured in the same run.

    python -m benchmarks                 all that need no GPU
    python -m benchmarks recorder ingest only these
    python -m benchmarks --list          what there is

Each benchmark is a module of this folder with its own `--help`; it prints its table and what machine it ran on.
"""

from __future__ import annotations

import pkgutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).parent


def names() -> list[str]:
    """Benchmarks of this folder; what starts with an underscore is not one."""
    return sorted(m.name for m in pkgutil.iter_modules([str(HERE)]) if not m.name.startswith("_"))


def first_line(name: str) -> str:
    """What a benchmark says it measures, read without importing what it imports."""
    source = (HERE / f"{name}.py").read_text(encoding="utf-8")
    return source.split('"""', 2)[1].strip().splitlines()[0]


def main(argv: list[str]) -> int:
    if "-h" in argv or "--help" in argv:
        print(__doc__)
        return 0
    if "--list" in argv:
        for name in names():
            print(f"{name:20} {first_line(name)}")
        return 0
    unknown = sorted(set(argv) - set(names()))
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are {', '.join(names())}", file=sys.stderr)
        return 2
    failed = []
    for name in argv or [n for n in names() if not n.startswith("gpu_")]:
        print(f"\n== {name}: {first_line(name)}", flush=True)
        started = time.monotonic()
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"]).returncode:
            failed.append(name)
        print(f"   ({time.monotonic() - started:.0f} s)", flush=True)
    if failed:
        print(f"\nfailed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
