"""Weight and activation transforms: masks, signs, learned steps; what puts them into a module, and into a graph."""

from graphrewrite.bridge.transforms.attaching import attach
from graphrewrite.bridge.transforms.base import Lowered, WeightTransform, transforms
from graphrewrite.bridge.transforms.folding import fold
from graphrewrite.bridge.transforms.mask import Mask
from graphrewrite.bridge.transforms.sign import Sign
from graphrewrite.bridge.transforms.step import StepQuantize

__all__ = ["Lowered", "Mask", "Sign", "StepQuantize", "WeightTransform", "attach", "fold", "transforms"]
