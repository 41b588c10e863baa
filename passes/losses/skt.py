"""Where a quantized student looks, made like where its teacher looks, with the weight that super-resolution wants."""

from dataclasses import dataclass

from graphrewrite.bridge.losses import losses
from graphrewrite.passes.losses.attention_transfer import AttentionTransfer


@losses.register("skt")
@dataclass(frozen=True)
class StructuredKnowledgeTransfer(AttentionTransfer):
    """Mean squared difference of spatial maps of one tensor, times 1000 (Li et al. 2020).

    The maps are those of `AttentionTransfer`: mean squares over channels, brought to length 1. Meant for the last
    tensor before upsampling, beside a loss of the pixels; differences of maps of that length are small, hence the
    weight.
    """

    weight: float = 1000.0
