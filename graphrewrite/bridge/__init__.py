"""The PyTorch bridge: an ONNX graph as a torch module, trained, and written back into the very same graph."""

from graphrewrite.bridge.module import GraphModule

__all__ = ["GraphModule"]
