from setuptools import find_packages, setup

setup(
    name="roboref_core",
    version="0.1.0",
    description="Views, visibility, metric location, pointing models and their answers.",
    license="Apache-2.0",
    packages=find_packages(include=["roboref_core", "roboref_core.*"], exclude=["*.test", "*.test.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/roboref_core"]),
        ("share/roboref_core", ["package.xml"]),
    ],
    package_data={"roboref_core": ["py.typed"], "roboref_core.models.nano": ["README.md", "*.jsonl", "model/**/*"]},
    install_requires=["setuptools", "numpy"],
    # Without it `colcon test` runs no test and succeeds.
    extras_require={"test": ["pytest"]},
    zip_safe=False,
)
