"""The error family: every failure a user can cause is one of these, with three parts in its message.

A message says what is wrong (with names and figures), what was expected, and what to do. The command line prints it
as one line and exits with code 2 (code 1 for `VerificationError`), never with a traceback.
"""


class GraphRewriteError(Exception):
    """Base of everything graphrewrite raises on purpose."""


class InvalidModel(GraphRewriteError):
    """The file or proto is not a usable ONNX model."""


class InvalidData(GraphRewriteError):
    """Calibration or comparison data cannot be read or does not fit the model's inputs."""


class UnsupportedOp(GraphRewriteError):
    """No rule for this operator in the named table."""


class InvalidConfig(GraphRewriteError):
    """A field of a pass, criterion or command has an impossible value."""


class BudgetError(InvalidConfig):
    """The budget cannot be met; the message says the best that can be reached."""


class UnknownNameError(GraphRewriteError):
    """A registry has no entry of this name; the message lists the nearest."""


class ShapeError(GraphRewriteError):
    """An array or tensor has another shape than the rule needs."""


class VerificationError(GraphRewriteError):
    """A pass broke its claim: a defect of the pass, never of the user's model."""


class Diverged(GraphRewriteError):
    """Training met a number that is not finite; the message says where it arose, and what was kept."""


class MissingExtra(GraphRewriteError):
    """An optional package is needed for this; the message names the extra that brings it."""


class KernelUnavailable(GraphRewriteError):
    """The compiled library is missing; function bodies still run everywhere."""
