"""Operators of our own for onnxruntime: one folder per operator under `ops/`.

Every custom node carries its meaning as an ONNX function body, so a model we wrote runs anywhere; where the compiled
library is registered its kernels take over, and the model runs fast.
"""

from graphrewrite.custom_ops.library import available, library_path, register
from graphrewrite.custom_ops.spec import DOMAIN, VERSION, Case, OpSpec, find, ops

__all__ = [
    "DOMAIN",
    "VERSION",
    "Case",
    "OpSpec",
    "available",
    "find",
    "library_path",
    "ops",
    "register",
]
