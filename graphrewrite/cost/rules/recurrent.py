"""Recurrent cells over time: products of the weights with input and state at every step, then cheap gates."""

from math import prod

from graphrewrite.cost.registry import macs_rule, ops_rule
from graphrewrite.cost.site import Site

# Element operations for one unit at one step, activation functions counting one each.
# RNN: sum, activation. GRU: per gate sum and activation (6), reset times state, and the blend (1 - z) n + z h (4).
# LSTM: per gate sum and activation (8), two products and a sum for the cell, its activation, the output product (5).
_PER_UNIT = {"RNN": 2, "GRU": 11, "LSTM": 13, "DynamicQuantizeLSTM": 13}


@macs_rule("RNN", "GRU", "LSTM")
def recurrent(site: Site) -> int:
    """Steps times samples times weights: W [directions, gates * hidden, in], R [directions, gates * hidden, hidden]."""
    return prod(site.input(0)[:2]) * (site.input_count(1) + site.input_count(2))


@macs_rule("DynamicQuantizeLSTM", domain="com.microsoft")
def quantized_lstm(site: Site) -> int:
    """As LSTM; the quantized weights have the same number of elements."""
    return recurrent(site)


@ops_rule("RNN", "GRU", "LSTM")
@ops_rule("DynamicQuantizeLSTM", domain="com.microsoft")
def gates(site: Site) -> int:
    """Gate arithmetic for each unit of each direction at each step; peepholes add three products and three sums."""
    if site.node.op == "DynamicQuantizeLSTM":  # R is transposed there: [directions, hidden, 4 * hidden]
        directions, hidden = site.input(2)[0], site.input(2)[1]
    else:
        directions, hidden = site.input(2)[0], site.input(2)[2]
    peepholes = 6 if site.node.op != "RNN" and site.has(7) else 0
    return prod(site.input(0)[:2]) * directions * hidden * (_PER_UNIT[site.node.op] + peepholes)
