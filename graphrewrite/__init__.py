"""graphrewrite: rewrite exported ONNX models, with every rewrite checked against its claim."""

from graphrewrite.custom_ops import register
from graphrewrite.data import ArraySource
from graphrewrite.errors import GraphRewriteError
from graphrewrite.ir import Model
from graphrewrite.pipeline import Claim, Context, Note, Outcome, Pass, Pipeline, Report
from graphrewrite.runtime import session

__version__ = "0.1.0"

__all__ = [
    "ArraySource",
    "Claim",
    "Context",
    "GraphRewriteError",
    "Model",
    "Note",
    "Outcome",
    "Pass",
    "Pipeline",
    "Report",
    "__version__",
    "register",
    "session",
]
