"""Model backends by name. Each is imported when it is asked for, so that nobody installs what they do not use.

A new backend is one class or function, and one entry of ``_BACKENDS``: names, options, their types and the error for
what is not installed follow from it.
"""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from roboref_core.models.pointing_model import PointingModel
from roboref_core.models.vision_language_model import VisionLanguageModel


@dataclass(frozen=True)
class _Backend:
    """How a vision-language model is made.

    Attributes:
        factory: "module:name" of what makes it: called with ``path, device, dtype`` or with ``url``, and its options.
        source: what it is loaded from; "bundled" comes with the library, and a path may replace it.
        extra: extra of the package roboref_core that installs what it needs.
        options_of: "module:name" of those whose signatures list the options, where ``factory`` hands them on.
    """

    factory: str
    source: Literal["path", "url", "bundled"]
    extra: str
    options_of: tuple[str, ...] = ()


_ROBOREFER = (
    "roboref_core.models.roborefer.backend:RoboReferBackend",
    "roboref_core.models.roborefer.backend:load",
)
_BACKENDS = {
    "nano": _Backend("roboref_core.models.nano:load", "bundled", "models", _ROBOREFER),
    "roborefer": _Backend("roboref_core.models.roborefer.backend:load", "path", "models", _ROBOREFER),
    "llava_onevision": _Backend("roboref_core.models.hugging_face:load_llava_onevision", "path", "models"),
    "hugging_face": _Backend("roboref_core.models.hugging_face:HuggingFaceModel", "path", "models"),
    "openai": _Backend("roboref_core.models.http.openai_compatible:OpenAICompatible", "url", "http"),
    "roborefer_http": _Backend("roboref_core.models.http.roborefer_http:RoboReferHTTP", "url", "http"),
    "roboref_http": _Backend("roboref_core.models.http.roboref_http:RoboRefClient", "url", "http"),
}
VLM_BACKENDS = tuple(_BACKENDS)
FUSED = "fused"
BACKENDS = ("reprojection", FUSED, *VLM_BACKENDS)
_GIVEN = ("self", "path", "url", "device", "dtype")
# What loading a RoboRefer checkpoint finds out by itself.
_LOADED = ("model", "name", "fitted")


def load_model(
    backend: str, path: str = "", url: str = "", device: str = "auto", dtype: str = "auto", **options: Any
) -> PointingModel:
    """Load a pointing model.

    Args:
        backend: one of ``BACKENDS``.
        path: checkpoint folder; roborefer, llava_onevision, hugging_face, and nano for another one.
        url: server; openai, roborefer_http, roboref_http.
        device: "auto", "cpu", "cuda", "cuda:N".
        dtype: "auto", "float32", "float16", "bfloat16".
        options: ``form`` ("multi", "concat"), ``grid`` (a Grid, or True for the usual one), ``marker`` and
            ``may_be_absent`` of PromptedModel; ``depth_estimator``, the folder of a Depth-Anything checkpoint;
            ``vlm`` of fused, the backend of the model inside it, "nano" by default; everything else is the backend's
            own, or that of the model inside. Values may be texts, as ``parse_options`` gives them.

    Raises:
        ValueError: unknown backend or option, something missing, a checkpoint that cannot be loaded.
        ImportError: the backend's dependencies are not installed; says what to install.
    """
    if backend == "reprojection":
        if options:
            raise ValueError(f"backend 'reprojection' takes no options, found {', '.join(sorted(options))}")
        try:
            from roboref_core.models.reprojection import ReprojectionModel
        except ImportError as error:
            raise _not_installed(backend, "vision", error) from error

        return ReprojectionModel()
    if backend == FUSED:
        from roboref_core.models.fused import FusedModel

        inside = vlm_backend(backend, options)
        options.pop("vlm", None)
        return FusedModel(load_model(inside, path, url, device, dtype, **options))
    _check(backend)
    from roboref_core.prompting.grid import Grid
    from roboref_core.prompting.prompt import Form
    from roboref_core.prompting.prompted import PromptedModel

    prompting: dict[str, Any] = {
        name: options.pop(name) for name in ("form", "grid", "marker", "may_be_absent") if name in options
    }
    prompting["form"] = Form(prompting.get("form", Form.MULTI))
    for name in ("grid", "may_be_absent"):
        if isinstance(prompting.get(name), str):
            prompting[name] = _converted(prompting[name], bool, f"option {name!r}")
    if isinstance(prompting.get("grid"), bool):
        prompting["grid"] = Grid() if prompting["grid"] else None
    if estimator := options.pop("depth_estimator", ""):
        from roboref_core.models.depth_anything import DepthAnything

        prompting["estimate_depth"] = DepthAnything(estimator, device).picture
    return PromptedModel(load_vlm(backend, path, url, device, dtype, **options), **prompting)


def load_vlm(
    backend: str, path: str = "", url: str = "", device: str = "auto", dtype: str = "auto", **options: Any
) -> VisionLanguageModel:
    """Load the vision-language model itself, as evaluation and the server use it. Arguments as for ``load_model``.

    Of "fused" it is the model inside: what geometry adds needs views, and who asks with pictures alone has none.
    """
    if backend == FUSED:
        backend = vlm_backend(backend, options)
        options.pop("vlm", None)
    _check(backend)
    entry = _BACKENDS[backend]
    if entry.source != "bundled" and not (path if entry.source == "path" else url):
        raise ValueError(f"backend {backend!r} needs a {entry.source}")
    if entry.source != "url" and path and not Path(path).is_dir():
        raise ValueError(f"backend {backend!r}: {path} is not a checkpoint folder")
    try:
        factory = _imported(entry.factory)
        typed = _typed(backend, options)
    except ImportError as error:
        raise _not_installed(backend, entry.extra, error) from error
    if entry.source == "url":
        return factory(url, **typed)
    return factory(path, device=device, dtype=dtype, **typed)


def parse_options(texts: Iterable[str]) -> dict[str, str]:
    """Options as parameters and command lines give them, "name=value"; ``load_model`` makes typed values of them."""
    options = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"a model option is written name=value, found {text!r}")
        options[name] = value
    return options


def runs_a_network(backend: str, options: Mapping[str, Any] | None = None) -> bool:
    """Whether a network runs in this process, so that the first answer takes longer than the next ones."""
    if backend == FUSED:
        backend = vlm_backend(backend, options or {})
    return backend in _BACKENDS and _BACKENDS[backend].source != "url"


def options_of(backend: str) -> Mapping[str, inspect.Parameter]:
    """The options that a vision-language model's backend takes, by name; their annotations are types."""
    _check(backend)
    entry = _BACKENDS[backend]
    found: dict[str, inspect.Parameter] = {}
    for name in entry.options_of or (entry.factory,):
        described = _imported(name)
        hints = typing.get_type_hints(described.__init__ if inspect.isclass(described) else described)
        for option, parameter in inspect.signature(described).parameters.items():
            given = option in _GIVEN or (inspect.isclass(described) and entry.options_of and option in _LOADED)
            if not given and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
                found[option] = parameter.replace(annotation=hints.get(option, Any))
    return found


def _check(backend: str) -> None:
    if backend not in BACKENDS:
        raise ValueError(f"unknown model backend {backend!r}: expected one of {', '.join(BACKENDS)}")
    if backend not in _BACKENDS:
        raise ValueError(f"backend {backend!r} is no vision-language model: expected one of {', '.join(VLM_BACKENDS)}")


def vlm_backend(backend: str, options: Mapping[str, Any]) -> str:
    """The backend of the vision-language model: ``backend`` itself, or that of the model inside a fused one.

    Raises ValueError for one that is none.
    """
    if backend != FUSED:
        _check(backend)
        return backend
    inside = options.get("vlm", "nano")
    if inside not in VLM_BACKENDS:
        raise ValueError(f"backend {FUSED!r}: option 'vlm' must be one of {', '.join(VLM_BACKENDS)}, found {inside!r}")
    return str(inside)


def _imported(name: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    return getattr(importlib.import_module(module), attribute)


def _not_installed(backend: str, extra: str, error: ImportError) -> ImportError:
    return ImportError(
        f"backend {backend!r} needs the package {error.name!r}: pip install 'roboref_core[{extra}]'", name=error.name
    )


def _typed(backend: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options in the types that the backend states. Raises ValueError for unknown, missing and ill-typed ones."""
    if "api_key" in options:
        raise ValueError(
            f"backend {backend!r}: options are seen by everybody on this machine and kept in files; name the place of "
            "the key instead: api_key_env=VARIABLE or api_key_file=PATH"
        )
    known = options_of(backend)
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(
            f"backend {backend!r} has no option {', '.join(map(repr, unknown))}: expected some of "
            f"{', '.join(known) or 'none'}"
        )
    missing = [name for name, option in known.items() if option.default is option.empty and name not in options]
    if missing:
        raise ValueError(f"backend {backend!r} needs the option {', '.join(map(repr, missing))}")
    return {
        name: _converted(value, known[name].annotation, f"backend {backend!r}: option {name!r}")
        for name, value in options.items()
    }


def _converted(value: Any, wanted: Any, what: str) -> Any:
    """``value`` in the wanted type; texts are converted, other values must be of it already."""
    kinds = typing.get_args(wanted) if isinstance(wanted, types.UnionType) else (wanted,)
    for kind in kinds:
        origin = typing.get_origin(kind)
        if kind is Any or (origin is Literal and value in typing.get_args(kind)):
            return value
        if kind is types.NoneType and (value is None or value == "none"):
            return None
        if not isinstance(kind, type) or (isinstance(kind, type) and issubclass(kind, Enum)):
            continue
        if isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool):
            return value
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, str):
            if kind is bool and value in ("true", "false"):
                return value == "true"
            if kind in (int, float):
                try:
                    return kind(value)
                except ValueError:
                    continue
    raise ValueError(f"{what} must be {_described(kinds)}, found {value!r}")


def _described(kinds: Iterable[Any]) -> str:
    words = {int: "an integer", float: "a number", bool: "true or false", str: "a text", types.NoneType: "none"}
    found = []
    for kind in kinds:
        if typing.get_origin(kind) is Literal:
            found.append(f"one of {', '.join(map(str, typing.get_args(kind)))}")
        else:
            found.append(words.get(kind, getattr(kind, "__name__", str(kind))))
    return " or ".join(found)
