"""The counting rules: a file per family of operators. Every file in this folder is loaded, no list is edited."""

import importlib
import pkgutil

for _entry in pkgutil.iter_modules(__path__):
    importlib.import_module(f"{__name__}.{_entry.name}")
