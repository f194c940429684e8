"""The package `roboref_core`, as a wheel and as an ament_python package of a ROS workspace."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "roboref_core/__init__.py").read_text(), re.MULTILINE)[1]

setup(
    name="roboref_core",
    version=VERSION,
    description="Where is that? Metric 3D answers to referring expressions and marks, from posed RGB-D views.",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=find_packages(include=["roboref_core", "roboref_core.*"], exclude=["*.test", "*.test.*"]),
    package_data={
        "roboref_core": ["py.typed"],
        "roboref_core.models.nano": ["README.md", "*.jsonl", "model/**/*"],
    },
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/roboref_core"]),
        ("share/roboref_core", ["package.xml"]),
    ],
    install_requires=["numpy>=1.26"],
    extras_require={
        # Answers by geometry, and the pictures of marks and depth.
        "vision": ["opencv-python-headless>=4.6,<5"],
        # Vision-language models in this process.
        "models": [
            "torch>=2.4",
            # Tried: 5.24.0 (network and families), 5.12.0 and 5.6.2 (the RoboRefer backend). 5.0.0 fails: it names
            # SigLIP's modules otherwise.
            "transformers>=5.6,<6",
            "tokenizers",
            "safetensors",
            "pillow<13",
            "opencv-python-headless>=4.6,<5",
        ],
        # Models behind HTTP.
        "http": ["httpx>=0.26", "opencv-python-headless>=4.6,<5"],
        # `roboref serve`.
        "serve": ["fastapi", "uvicorn", "h11", "pydantic>=2", "prometheus-client", "tyro", "tqdm", "httpx>=0.26"],
        # Without it `colcon test` runs no test and succeeds.
        "test": ["pytest", "hypothesis>=6.98", "scipy"],
    },
    zip_safe=False,
)
