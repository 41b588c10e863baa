"""Fine-tuning: a model, a recipe and data in, the same graph with other weights out."""

from graphrewrite.bridge.train.run import finetune

__all__ = ["finetune"]
