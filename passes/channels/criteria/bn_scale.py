"""Batch-norm scale: a channel is worth the size of the gain its norm gives it."""

from dataclasses import dataclass

import numpy as np

from graphrewrite.dims import ChannelGroup
from graphrewrite.passes.channels.criteria import Evidence, criteria
from graphrewrite.passes.channels.criteria.l1 import L1
from graphrewrite.passes.channels.evidence import Scores

# Operators whose second input is a gain per channel.
_NORMS = frozenset(
    {
        "BatchNormalization",
        "InstanceNormalization",
        "GroupNormalization",
        "LayerNormalization",
        "RMSNormalization",
    }
)


@criteria.register("bn_scale")
@dataclass(frozen=True)
class BnScale:
    """Mean |gain| of the normalisations over a unit (Liu et al., 2017, "network slimming").

    Needs the norms as nodes: run it before they are folded. A group without any is scored by L1.
    """

    def score(self, group: ChannelGroup, evidence: Evidence) -> Scores:
        """Return [units]."""
        nodes = evidence.nodes
        gains = [
            member
            for member in group.members
            if any(slot == 1 and nodes[node].op in _NORMS for node, slot in member.use.sites)
        ]
        if not gains:
            return L1().score(group, evidence)
        return np.asarray(np.mean([np.abs(evidence.producer_weights(m)).mean(axis=1) for m in gains], axis=0))
