"""Torch forms of operators, one file per family; a file put here is found by itself."""
