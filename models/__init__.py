"""Small trained models with true accuracy, the data they were trained on, and the scripts that made them."""

from graphrewrite.models.registry import Card, card, names, shipped

__all__ = ["Card", "card", "names", "shipped"]
