"""One file per operator family; a new file in this folder files its rules by itself."""

import importlib
import pkgutil

from graphrewrite.ir.shape_rules.call import Call, shape_rule, value_rule
from graphrewrite.ir.shape_rules.sweep import Functions, Sweep

for _module in sorted(info.name for info in pkgutil.iter_modules(__path__)):
    importlib.import_module(f"{__name__}.{_module}")

__all__ = ["Call", "Functions", "Sweep", "shape_rule", "value_rule"]
