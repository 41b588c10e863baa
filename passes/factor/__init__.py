"""Weights as products: low rank, and diagonals around fast transforms."""

from graphrewrite.passes.factor.cells import FactorCells
from graphrewrite.passes.factor.collaborative import Collaborative
from graphrewrite.passes.factor.factorize import Factorize
from graphrewrite.passes.factor.gates import WriteOutGates
from graphrewrite.passes.factor.lower import LowerWavelet

__all__ = ["Collaborative", "FactorCells", "Factorize", "LowerWavelet", "WriteOutGates"]
