"""Removing channels: criteria, budgets, compensation, and the pass that joins them."""

from graphrewrite.passes.channels.budgets import LatencyBelow, MacsBelow, ParamsBelow, Ratio
from graphrewrite.passes.channels.remove import RemoveChannels

__all__ = ["LatencyBelow", "MacsBelow", "ParamsBelow", "Ratio", "RemoveChannels"]
