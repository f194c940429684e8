"""How every command names a model: the same options for evaluation, replay, demo and server, and the names of the
node's ``model.*`` parameters."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from roboref_core.models.registry import BACKENDS, load_vlm, parse_options
from roboref_core.models.vision_language_model import VisionLanguageModel

if TYPE_CHECKING:
    Backend = str
else:
    Backend = Literal[tuple(BACKENDS)]


def backend_flag(description: str) -> Any:
    """The option that chooses a backend. Its names are in the description: as choices, they would be listed once for
    each of the option's two names."""
    return tyro.conf.arg(aliases=("--model",), metavar="NAME", help=description)


@dataclass(frozen=True)
class ModelOptions:
    """A model: the backend that runs it, and what that loads."""

    backend: Annotated[Backend, backend_flag(f"Model: {', '.join(BACKENDS)}.")] = "reprojection"
    path: str = ""
    """Checkpoint folder, for backends that have one; nano brings its own."""
    url: tuple[str, ...] = ()
    """Server, for models behind HTTP. Evaluation shares its work between several servers of one model."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    dtype: Literal["auto", "float32", "float16", "bfloat16"] = "auto"
    """Number format of the weights."""
    options: tuple[str, ...] = ()
    """The backend's own, e.g. --options convention=thousand model=qwen."""

    @property
    def one_url(self) -> str:
        """The server, "" without one. Raises ValueError for several."""
        if len(self.url) > 1:
            raise ValueError(f"--url: expected one server, found {len(self.url)}: {' '.join(self.url)}")
        return self.url[0] if self.url else ""

    def load_vlm(self, **defaults: Any) -> VisionLanguageModel:
        """The vision-language model. Raises ValueError and ImportError as the registry.

        Args:
            defaults: options of the backend where ``options`` does not name them.
        """
        options = defaults | parse_options(self.options)
        return load_vlm(self.backend, self.path, self.one_url, self.device, self.dtype, **options)

    def node_parameters(self) -> dict[str, Any]:
        """The node's parameters that name this model; what is at its default is left to the node."""
        stated = {field.name: getattr(self, field.name) for field in fields(ModelOptions)}
        stated |= {"url": self.one_url, "options": list(self.options)}
        return {f"model.{name}": value for name, value in stated.items() if value not in ("", "auto", [])}
