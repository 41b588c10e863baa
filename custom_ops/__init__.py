"""Operators of our own for onnxruntime: one folder per operator under `ops/`.

This release ships none, and compiles nothing. A model that carries a custom node with an ONNX function body runs
anywhere through that body; a compiled kernel, where there is one, only makes it faster.
"""
