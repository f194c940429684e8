"""The checkout is installed as it stands (`pip install --editable .`, which `make setup` does) and makes no wheel.

`sim` and `offline` are too common as names to be published; the library, `ros2_ws/src/roboref_core`, is the wheel.
"""

from setuptools import setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.sdist import sdist


def refuse(command):
    raise SystemExit(
        "roboref runs from a checkout (pip install --editable .); the package to build is ros2_ws/src/roboref_core"
    )


setup(
    cmdclass={
        "bdist_wheel": type("bdist_wheel", (bdist_wheel,), {"run": refuse}),
        "sdist": type("sdist", (sdist,), {"run": refuse}),
    }
)
