"""Shared by all tests: makes `tests.support` importable without shadowing the installed package."""

import sys
from pathlib import Path

# At the end of the path: at its head the bare folder `graphrewrite/` would win over the installed package.
sys.path.append(str(Path(__file__).resolve().parents[1]))
