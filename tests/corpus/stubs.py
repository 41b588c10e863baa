"""Importing torchvision without its compiled part.

The compiled operators (nms, roi_align, ...) exist only in wheels that match the torch build. No model of the
corpus uses them, but importing the package registers shapes for them, which fails when they are not defined.
"""

import contextlib
import importlib
import sys
from types import ModuleType

import torch

# Two modules that do nothing but register shapes and gradients of the compiled operators.
REGISTRATIONS = ("torchvision._meta_registrations", "torchvision._autograd_registrations")


def import_torchvision() -> ModuleType:
    """The torchvision package; without its operators when they cannot be loaded."""
    if "torchvision" in sys.modules:
        return sys.modules["torchvision"]
    try:
        return importlib.import_module("torchvision")
    except (RuntimeError, AttributeError):
        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
    for name in REGISTRATIONS:
        sys.modules[name] = ModuleType(name)
    library = torch.library.Library("torchvision", "FRAGMENT")
    # The failed import may have come as far as defining it.
    with contextlib.suppress(RuntimeError):
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    KEPT_ALIVE.append(library)
    return importlib.import_module("torchvision")


# A library's definitions vanish with the object.
KEPT_ALIVE: list[torch.library.Library] = []
