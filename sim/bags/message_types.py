"""Definitions of message types that are installed here, for bags that describe themselves."""

from __future__ import annotations

import re
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

_FIELD = re.compile(r"^\s*([A-Za-z]\w*(?:/\w+)*)(?:<=\d+)?(?:\[[^\]]*\])?\s+\w+", re.MULTILINE)
_PRIMITIVE = re.compile(r"^(bool|byte|char|u?int(8|16|32|64)|float(32|64)|w?string)$")


class InstalledTypes:
    """Message types of ROS 2 Jazzy, and those of any package that is installed.

    Attributes:
        store: knows every type that was asked for.
    """

    def __init__(self) -> None:
        self.store: Typestore = get_typestore(Stores.ROS2_JAZZY)

    def learn(self, name: str) -> None:
        """Make sure that ``store`` knows a type such as "roboref_msgs/msg/ReferAnswer", and all that it is made of.

        Raises ValueError if its definition is not installed or cannot be read.
        """
        if name in self.store.types:
            return
        package, _, kind = name.partition("/msg/")
        try:
            path = Path(get_package_share_directory(package)) / "msg" / f"{kind}.msg"
            text = path.read_text()
            found = get_types_from_msg(text, name)
        except (PackageNotFoundError, OSError, ValueError, TypesysError) as error:
            raise ValueError(f"the definition of {name} cannot be read: {error}") from error
        for part in _FIELD.findall(_without_comments(text)):
            if not _PRIMITIVE.match(part):
                self.learn(_full_name(part, package))
        self.store.register(found)


def _without_comments(text: str) -> str:
    return re.sub(r"#.*", "", text)


def _full_name(part: str, package: str) -> str:
    """The name of a field's type, which may be of the same package, or lack its "msg"."""
    names = part.split("/")
    if part == "Header":
        return "std_msgs/msg/Header"
    return f"{package}/msg/{part}" if len(names) == 1 else f"{names[0]}/msg/{names[-1]}"
