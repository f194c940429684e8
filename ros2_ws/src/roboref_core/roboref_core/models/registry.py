"""Model backends by name. Each is imported when it is asked for, so that nobody installs what they do not use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from roboref_core.models.nano import CHECKPOINT as NANO
from roboref_core.models.pointing_model import PointingModel
from roboref_core.models.vision_language_model import VisionLanguageModel

# What each vision-language model is loaded from; nano is bundled.
_SOURCE = {
    "nano": "",
    "roborefer": "path",
    "llava_onevision": "path",
    "hugging_face": "path",
    "openai": "url",
    "roborefer_http": "url",
    "roboref_http": "url",
}
BACKENDS = ("reprojection", *_SOURCE)


def load_model(
    backend: str, path: str = "", url: str = "", device: str = "auto", dtype: str = "auto", **options: Any
) -> PointingModel:
    """Load a pointing model.

    Args:
        backend: one of ``BACKENDS``.
        path: checkpoint folder; roborefer, llava_onevision, hugging_face.
        url: server; openai, roborefer_http, roboref_http.
        device: "auto", "cpu", "cuda", "cuda:N".
        dtype: "auto", "float32", "float16", "bfloat16".
        options: ``form`` ("multi", "concat"), ``grid`` (a Grid, or True for the usual one), ``marker`` and
            ``may_be_absent`` of PromptedModel; ``depth_estimator``, the folder of a Depth-Anything checkpoint;
            everything else is the backend's own.

    Raises:
        ValueError: unknown backend or option, something missing, a checkpoint that cannot be loaded.
        ImportError: the backend's dependencies are not installed; says what to install.
    """
    if backend == "reprojection":
        if options:
            raise ValueError(f"backend 'reprojection' takes no options, found {', '.join(sorted(options))}")
        from roboref_core.models.reprojection import ReprojectionModel

        return ReprojectionModel()
    from roboref_core.prompting.grid import Grid
    from roboref_core.prompting.prompt import Form
    from roboref_core.prompting.prompted import PromptedModel

    prompting = {name: options.pop(name) for name in ("form", "grid", "marker", "may_be_absent") if name in options}
    prompting["form"] = Form(prompting.get("form", Form.MULTI))
    if isinstance(prompting.get("grid"), bool):
        prompting["grid"] = Grid() if prompting["grid"] else None
    if estimator := options.pop("depth_estimator", ""):
        from roboref_core.models.depth_anything import DepthAnything

        prompting["estimate_depth"] = DepthAnything(estimator, device).picture
    return PromptedModel(load_vlm(backend, path, url, device, dtype, **options), **prompting)


def parse_options(texts: Iterable[str]) -> dict[str, Any]:
    """Options as parameters and command lines give them: "name=value", with value an integer, a decimal number,
    true, false, or else a text.
    """
    options = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise ValueError(f"a model option is written name=value, found {text!r}")
        options[name] = _parsed(value)
    return options


def _parsed(value: str) -> Any:
    if value in ("true", "false"):
        return value == "true"
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    return value


def load_vlm(
    backend: str, path: str = "", url: str = "", device: str = "auto", dtype: str = "auto", **options: Any
) -> VisionLanguageModel:
    """Load the vision-language model itself, as evaluation and the server use it. Arguments as for ``load_model``."""
    if backend not in BACKENDS:
        raise ValueError(f"unknown model backend {backend!r}: expected one of {', '.join(BACKENDS)}")
    if backend not in _SOURCE:
        raise ValueError(f"backend {backend!r} is no vision-language model: expected one of {', '.join(_SOURCE)}")
    needed = _SOURCE[backend]
    if backend == "nano":
        backend, needed, path = "roborefer", "path", path or str(NANO)
        # Its card: depth pictures do not help it.
        options.setdefault("use_depth", False)
    if not {"path": path, "url": url}[needed]:
        raise ValueError(f"backend {backend!r} needs a {needed}")
    if needed == "path" and not Path(path).is_dir():
        raise ValueError(f"backend {backend!r}: {path} is not a checkpoint folder")
    try:
        build = _builder(backend)
    except ImportError as error:
        raise ImportError(
            f"backend {backend!r} needs the package {error.name!r}: run `make setup-full`, or pip install it",
            name=error.name,
        ) from error
    try:
        return build(path, device, dtype, **options) if needed == "path" else build(url, **options)
    except TypeError as error:
        # Arguments that the backend's constructor does not take, or wants and was not given.
        raise ValueError(f"backend {backend!r}: {error}") from error


def _builder(backend: str) -> Callable[..., VisionLanguageModel]:
    if backend == "roborefer":
        from roboref_core.models.device import resolve_device, resolve_dtype
        from roboref_core.models.roborefer import load

        def roborefer(path, device, dtype, **options):
            place = resolve_device(device)
            return load(path, device=place, dtype=resolve_dtype(dtype, place), **options)

        return roborefer
    if backend in ("llava_onevision", "hugging_face"):
        from roboref_core.models.hugging_face import HuggingFaceModel

        def hugging_face(path, device, dtype, **options):
            if backend == "llava_onevision":
                # LLaVA-OneVision models for robots answer in [0, 1] of the original image.
                options.setdefault("convention", "normalised")
            return HuggingFaceModel(path, device=device, dtype=dtype, **options)

        return hugging_face
    if backend == "openai":
        from roboref_core.models.http.openai_compatible import OpenAICompatible

        return OpenAICompatible
    if backend == "roborefer_http":
        from roboref_core.models.http.roborefer_http import RoboReferHTTP

        return RoboReferHTTP
    from roboref_core.models.http.roboref_http import RoboRefClient

    return RoboRefClient
