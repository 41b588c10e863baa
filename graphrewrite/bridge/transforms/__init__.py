"""Weight and activation transforms: masks, signs, learned steps; what puts them into a module, and into a graph."""

from typing import TYPE_CHECKING

from graphrewrite.bridge.extras import lazily
from graphrewrite.bridge.transforms.base import Lowered, WeightTransform, transforms

if TYPE_CHECKING:
    from graphrewrite.bridge.transforms.attaching import attach
    from graphrewrite.bridge.transforms.clip import ClipQuantize
    from graphrewrite.bridge.transforms.folding import fold
    from graphrewrite.bridge.transforms.levels import LevelQuantize
    from graphrewrite.bridge.transforms.mask import Mask
    from graphrewrite.bridge.transforms.sign import Sign
    from graphrewrite.bridge.transforms.span import SpanQuantize
    from graphrewrite.bridge.transforms.step import StepQuantize
    from graphrewrite.bridge.transforms.thresholds import LearnedThresholds

_HOMES = {
    "ClipQuantize": "clip",
    "LearnedThresholds": "thresholds",
    "LevelQuantize": "levels",
    "Mask": "mask",
    "Sign": "sign",
    "SpanQuantize": "span",
    "StepQuantize": "step",
    "attach": "attaching",
    "fold": "folding",
}

__all__ = [
    "ClipQuantize",
    "LearnedThresholds",
    "LevelQuantize",
    "Lowered",
    "Mask",
    "Sign",
    "SpanQuantize",
    "StepQuantize",
    "WeightTransform",
    "attach",
    "fold",
    "transforms",
]

__getattr__ = lazily(__name__, _HOMES)
