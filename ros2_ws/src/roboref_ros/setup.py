from glob import glob

from setuptools import find_packages, setup

setup(
    name="roboref_ros",
    version="0.1.0",
    description="RoboRef as a ROS 2 node: metric 3D positions for referring expressions, from RGB-D topics.",
    license="Apache-2.0",
    packages=find_packages(include=["roboref_ros", "roboref_ros.*"]),
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/roboref_ros"]),
        ("share/roboref_ros", ["package.xml"]),
        ("share/roboref_ros/config", glob("config/*")),
        ("share/roboref_ros/launch", glob("launch/*.launch.py")),
        ("share/roboref_ros/security", glob("security/*.xml")),
        ("share/roboref_ros/rviz", glob("rviz/*.rviz")),
    ],
    entry_points={"console_scripts": ["roboref_node = roboref_ros.main:main", "go_to = roboref_ros.go_to:main"]},
    install_requires=["setuptools"],
    # Without it `colcon test` runs no test and succeeds.
    # behaviours: roboref_ros.behaviours. Tried with 2.2.3, which Jazzy has, and 2.6.0.
    extras_require={"test": ["pytest"], "behaviours": ["py_trees>=2.2,<3"]},
    zip_safe=True,
)
