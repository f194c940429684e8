"""Data sets by name, and mixtures of them.

The registry is a YAML file:

    t1_train_multi:
      json: tasks/t1_train_multi.json
      image_root: /
      depth_root: /         # with it the data set is RGB-D, without it RGB
      convention: normalised
      weight: 1.0

Relative paths are relative to the registry's folder. LLaVA-OneVision's registries (``llava/data.py``, as RoboInter-VLM
has them) are read as they are, a .py file of assignments (which is read, not run) or the same in YAML:

    droid_grounding = {"annotation_path": "/data/droid.json", "data_path": "/data/images/"}
"""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError
from roboref_core.prompting.conventions import Convention

from offline.data_engine.formats.refspatial import find_lists
from offline.train.plan import Plan, Stage, read_yaml

_TERM = re.compile(r"(?P<name>[^\s+,*@]+)(?:\*(?P<weight>\d+(?:\.\d*)?))?(?:@(?P<share>\d*\.?\d+))?")


class Entry(BaseModel):
    """One data set.

    Attributes:
        json_file: list of samples, or JSON lines ("json" in the file; "annotation_path" of LLaVA's registries).
        image_root, depth_root: below which the samples' relative picture paths lie ("data_path" of LLaVA's registries);
            depth_root makes it RGB-D.
        convention: scale of the coordinates in its answers.
        weight: how often an epoch holds each sample.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    json_file: Path = Field(validation_alias=AliasChoices("json", "annotation_path"))
    image_root: Path = Field(Path("/"), validation_alias=AliasChoices("image_root", "data_path"))
    depth_root: Path | None = None
    convention: Convention = Convention.NORMALISED
    weight: float = Field(1.0, gt=0)


@dataclass(frozen=True)
class Term:
    """A data set in a mixture.

    Attributes:
        weight: how often an epoch holds each sample; the fraction is drawn again in every epoch.
        share: of its samples that are used at all, in (0, 1]; which ones depends on the seed alone.
    """

    name: str
    entry: Entry
    weight: float = 1.0
    share: float = 1.0


def load_registry(path: Path) -> dict[str, Entry]:
    """Raises ValueError naming file and entry."""
    entries = {}
    for name, raw in (_assignments(path) if path.suffix == ".py" else read_yaml(path)).items():
        if not isinstance(name, str) or not _TERM.fullmatch(name) or set(name) & set("*@+,"):
            raise ValueError(f"{path}: {name!r}: a name may not hold spaces, '+', ',', '*' or '@'")
        try:
            entry = Entry.model_validate(raw)
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{path}: {name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error
        folder = path.absolute().parent
        roots = {
            key: folder / value
            for key in ("json_file", "image_root", "depth_root")
            if (value := getattr(entry, key)) is not None
        }
        entries[name] = entry.model_copy(update=roots)
    return entries


def _assignments(path: Path) -> dict[str, Any]:
    """The data sets that a Python file assigns to names: dictionaries of constants. Nothing of the file is run."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as Python ({error})") from error
    found: dict[str, Any] = {}
    for node in tree.body:
        if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict)):
            continue
        try:
            value = ast.literal_eval(node.value)
        except ValueError:
            # Dictionaries of other names: such files list their data sets by them.
            continue
        if "annotation_path" in value:
            found |= {target.id: value for target in node.targets if isinstance(target, ast.Name)}
    if not found:
        raise ValueError(f'{path}: expected assignments of {{"annotation_path": ..., "data_path": ...}}, found none')
    return found


def refspatial_registry(root: Path) -> dict[str, dict[str, str]]:
    """Registry entries of a RefSpatial tree: each of its lists as RGB-D, and as RGB under ``<name>_RGB``.

    Raises ValueError if there is no RefSpatial tree.
    """
    entries = {}
    for found in find_lists(root.absolute()):
        entries[f"{found.name}_RGB"] = {"json": str(found.json), "image_root": str(found.images)}
        entries[found.name] = entries[f"{found.name}_RGB"] | {"depth_root": str(found.depths)}
    return entries


def parse_mixture(text: str, registry: dict[str, Entry]) -> tuple[Term, ...]:
    """``a+b*2@0.25``: a once; a quarter of b, each of its samples twice; "," is read as "+". Order matters for nothing.

    Raises ValueError naming the mixture and the term that is wrong.
    """
    terms = {}
    for word in text.replace(",", "+").split("+"):
        match = _TERM.fullmatch(word.strip())
        if match is None:
            raise ValueError(
                f"mixture {text!r}: expected name, name*weight, name@share or name*weight@share, found {word!r}"
            )
        name = match["name"]
        if name not in registry:
            raise ValueError(f"mixture {text!r}: no data set {name!r}; there are {', '.join(sorted(registry))}")
        if name in terms:
            raise ValueError(f"mixture {text!r}: {name!r} is named twice; write {name}*2")
        entry = registry[name]
        weight, share = float(match["weight"] or 1) * entry.weight, float(match["share"] or 1)
        if not (weight > 0 and 0 < share <= 1 and math.isfinite(weight)):
            raise ValueError(f"mixture {text!r}: {word!r}: expected a weight above 0 and a share in (0, 1]")
        terms[name] = Term(name, entry, weight, share)
    return tuple(terms[name] for name in sorted(terms))


def terms_of(plan: Plan, stage: Stage) -> tuple[Term, ...]:
    """The data sets of a stage: the plan's data_path, if it has one, else its mixture.

    Raises ValueError, also if the data sets write coordinates to different scales.
    """
    if plan.data_path is not None:
        entry = Entry(json=plan.data_path, image_root=plan.image_folder, depth_root=plan.depth_folder)
        return (Term(plan.data_path.stem, entry),)
    # The plan has checked that there are both.
    assert stage.mixture is not None and plan.registry is not None
    terms = parse_mixture(stage.mixture, load_registry(plan.registry))
    if len({term.entry.convention for term in terms}) > 1:
        found = ", ".join(f"{term.name}: {term.entry.convention.value}" for term in terms)
        raise ValueError(f"stage {stage.name}: one model writes coordinates to one scale, found {found}")
    return terms
