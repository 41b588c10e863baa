"""What training makes small: one loss per file, found by name."""

from graphrewrite.bridge.losses import Batch, Loss, Needs, losses

__all__ = ["Batch", "Loss", "Needs", "losses"]
