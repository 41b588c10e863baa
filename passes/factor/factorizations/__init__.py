"""Ways to factor a weight: one per file, found by name."""

from graphrewrite.passes.factor.factors import Factorization, Factors, Floats
from graphrewrite.registry import Registry

factorizations: Registry[Factorization] = Registry("factorization", package=__name__, of=Factorization)

__all__ = ["Factorization", "Factors", "Floats", "factorizations"]
