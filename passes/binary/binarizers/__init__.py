"""How weights and activations become signs while they are trained: one binarizer per file, found by name."""

from graphrewrite.passes.binary.binarizer import Binarizer
from graphrewrite.registry import Registry

binarizers: Registry[Binarizer] = Registry("binarizer", package=__name__, of=Binarizer)

__all__ = ["Binarizer", "binarizers"]
