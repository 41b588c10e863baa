"""Channels that can be shown to be constant without calibration data."""

from collections.abc import Callable

import numpy as np

from graphrewrite.dims import Groups
from graphrewrite.dims.structure import Mask
from graphrewrite.ir import Array
from graphrewrite.passes.channels.adjust import Consumer, Floats, consumers
from graphrewrite.passes.channels.evidence import Evidence
from graphrewrite.pipeline import Context

# Samples of random inputs that must agree to the last bit.
_TRIALS = 2


def exact_constants(
    found: Groups, dead: Mask, evidence: Evidence, context: Context
) -> Callable[[Consumer, Mask], Floats] | None:
    """Return a function giving the value of each removed channel of a consumer, 0 where it is not a constant.

    A channel whose filters are all zero is its bias, sent through whatever follows. Only when such channels are removed
    (None otherwise) is the model run, on random inputs of two shapes; a channel is constant when every value of it is
    the same.
    """
    if not _has_silent_units(found, dead, evidence):
        return None
    from graphrewrite.runtime import run, sample_inputs

    readers, _ = consumers(found.analysis, dead)
    tensors = sorted({reader.tensor for reader in readers})
    model = found.analysis.model
    low: dict[str, list[Array]] = {}
    for trial in range(_TRIALS):
        feeds = sample_inputs(model, seed=context.seed + trial, world=trial % 2, info=found.analysis.info)
        for name, values in run(model, feeds, tensors, threads=context.threads).items():
            low.setdefault(name, []).append(values)

    def constants(consumer: Consumer, alive: Mask) -> Floats:
        tables = [
            np.moveaxis(v, consumer.axis, 0).reshape(v.shape[consumer.axis], -1)[~alive]
            for v in low[consumer.tensor]
        ]
        first = tables[0][:, :1]
        steady = np.all([(table == first).all(axis=1) for table in tables], axis=0)
        return np.asarray(np.where(steady, first[:, 0], 0.0), dtype=np.float64)

    return constants


def _has_silent_units(found: Groups, dead: Mask, evidence: Evidence) -> bool:
    units = found.structure.units
    for group in found:
        gone = dead[units[group.unit_ids]]
        if not gone.any():
            continue
        for member in group.members:
            # A weight of one input channel counts as a vector; a bias or a scale says nothing about filters.
            makes = member.role == "producer" or (member.role == "vector" and len(member.use.axes) > 1)
            if makes and not evidence.producer_weights(member)[gone].any(axis=1).all():
                return True
    return False
