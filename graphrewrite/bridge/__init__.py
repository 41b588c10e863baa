"""The PyTorch bridge: an ONNX graph as a torch module, trained, and written back into the very same graph.

What is named here is imported when it is first asked for, so that this room can be looked into without torch.
"""

from typing import TYPE_CHECKING

from graphrewrite.bridge.extras import lazily

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


__getattr__ = lazily(__name__, _HOMES)
