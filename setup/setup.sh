#!/usr/bin/env bash
# Finds a Python that can carry the environment; setup/environment.py makes the rest: setup/setup.sh base|demo|full|docs
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# A candidate is executed, not only looked up: a version manager may show a name for a Python that it does not have.
supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; }
complete() { "$1" -c 'import ensurepip, os, sys, sysconfig, venv
sys.exit(not os.path.isfile(sysconfig.get_path("include") + "/Python.h"))' 2>/dev/null; }

find_python() {
    local candidate first=""
    for candidate in python3 python3.12 python3.11 /usr/bin/python3.12 /usr/bin/python3.11; do
        supported "$candidate" || continue
        if complete "$candidate"; then
            echo "$candidate"
            return
        fi
        first="${first:-$candidate}"
    done
    echo "$first"  # environment.py says what it lacks
}

if [ -n "${PYTHON:-}" ]; then
    if ! supported "$PYTHON"; then
        echo "setup: PYTHON=$PYTHON is not a Python 3.11 or 3.12 that runs" >&2
        exit 1
    fi
else
    PYTHON="$(find_python)"
    if [ -z "$PYTHON" ]; then
        echo "setup: no Python 3.11 or 3.12 found: install one (Debian, Ubuntu: python3, python3-venv, python3-dev)" \
             "or name it: make setup PYTHON=/path/to/python3.12" >&2
        exit 1
    fi
fi

"$PYTHON" setup/environment.py "$@"

# The workspace is built by the environment's own Python, on top of the wheels.
source setup/env.sh
python setup/ros_from_wheels.py
