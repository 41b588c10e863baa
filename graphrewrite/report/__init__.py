"""Reports of what a rewrite did: measurements, the table of layers, and a page in one HTML file."""

from graphrewrite.report.layers import Layer, layers
from graphrewrite.report.page import page
from graphrewrite.report.record import Check, Latency, Left, Record, Section, Side

__all__ = ["Check", "Latency", "Layer", "Left", "Record", "Section", "Side", "layers", "page"]
