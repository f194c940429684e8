"""The texts that answers with an error code carry, read from the sources: nothing is run."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "ros2_ws" / "src"


def failures() -> dict[str, list[str]]:
    """Name of an ErrorCode -> the texts that go with it, sorted. `{...}` stands for what is filled in."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in _files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            if isinstance(node, ast.Call) and len(node.args) > 1 and (code := _code(node.args[0])):
                found[code] |= {text for text in [literal(node.args[1])] if text.strip("{.} :")}
    return {code: sorted(texts) for code, texts in found.items()}


def every_text() -> set[str]:
    """Every string of the packages, constants and f-strings, with `{...}` for what is filled in."""
    found = set()
    for path in _files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
            if isinstance(node, ast.Constant | ast.JoinedStr | ast.BinOp) and (text := literal(node)):
                found.add(text)
    return found


def literal(node: ast.AST) -> str:
    """The text of a string expression; `{...}` for each part that is not written in it."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(literal(part) or "{...}" for part in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (literal(node.left) or "{...}") + (literal(node.right) or "{...}")
    return ""


def _code(node: ast.AST) -> str:
    named = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ErrorCode"
    return node.attr if named else ""


def _files() -> Iterator[Path]:
    for package in ("roboref_core", "roboref_ros"):
        yield from sorted((SOURCES / package / package).rglob("*.py"))
