"""Speeds of machines that do not exist, so that what is lowered does not depend on the one that runs the tests."""

from collections.abc import Mapping

from graphrewrite.cost.speeds import Point, Speeds, Work
from graphrewrite.runtime.workloads import workloads

# One point per form suffices: at all sizes the speed is then that of the nearest, which is this one.
_SOME = Work(16, 16, 81, 9)
_DENSE = ("Conv", "MatMul", "QLinearConv", "MatMulInteger")


def machine_of(rates: Mapping[str, float]) -> Speeds:
    """Return a machine that does so many thousands of layers a second in each form."""
    points = tuple(Point(form, _SOME, 1e-3 / rate) for form, rate in rates.items())
    return Speeds("none", "a machine", "", points)


def quick() -> Speeds:
    """Return a machine that is ten times as fast with every form of ours as with dense ones."""
    return machine_of({form: 1.0 if form in _DENSE else 10.0 for form in workloads})
