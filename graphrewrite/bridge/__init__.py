"""The PyTorch bridge: an ONNX graph as a torch module, trained, and written back into the very same graph.

What is named here is imported when it is first asked for, so that this room can be looked into without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from graphrewrite.bridge.extras import missing

if TYPE_CHECKING:
    from graphrewrite.bridge.module import GraphModule
    from graphrewrite.bridge.optimisers import Optimiser
    from graphrewrite.bridge.recipe import EarlyStop, Recipe, Stage
    from graphrewrite.bridge.taps import tapped
    from graphrewrite.bridge.train import Checkpoints, finetune
    from graphrewrite.bridge.transforms import attach, fold

_HOMES = {
    "Checkpoints": "train",
    "EarlyStop": "recipe",
    "GraphModule": "module",
    "Optimiser": "optimisers",
    "Recipe": "recipe",
    "Stage": "recipe",
    "attach": "transforms",
    "finetune": "train",
    "fold": "transforms",
    "tapped": "taps",
}

__all__ = [
    "Checkpoints",
    "EarlyStop",
    "GraphModule",
    "Optimiser",
    "Recipe",
    "Stage",
    "attach",
    "finetune",
    "fold",
    "tapped",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        home = import_module(f"{__name__}.{_HOMES[name]}")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "torch":
            raise
        raise missing(name, "torch", error) from error
    return getattr(home, name)
