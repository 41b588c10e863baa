"""Writing reduced convolutions: channels leave their producer where nobody else reads them, the rest is picked out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.dims import ChannelGroup, Groups, Shrunk, shrink
from graphrewrite.dims.groups import Member
from graphrewrite.dims.labels import Ints
from graphrewrite.dims.structure import Mask
from graphrewrite.ir import Model
from graphrewrite.ir.edit import drop_unused
from graphrewrite.passes.channels.skip import Places
from graphrewrite.passes.factor.collaborative_units import Bits
from graphrewrite.passes.factor.factors import Floats, places
from graphrewrite.passes.factor.layers import Layer
from graphrewrite.passes.factor.low_rank import truncated
from graphrewrite.passes.factor.writer import Names, Writer


@dataclass(frozen=True, eq=False)
class Plan:
    """What becomes of one convolution: the channels [inputs] it goes on reading, and the rank, None for one of its own.

    `weight` [outputs, inputs, taps] is what the layer computes with, zero at the channels that go.
    """

    layer: Layer
    alive: Bits
    rank: int | None
    weight: Floats


def written(found: Groups, plans: Sequence[Plan]) -> tuple[Model, Mapping[str, int]]:
    """Return the model with all plans carried out, and how many channels each layer's producer lost, by its name."""
    gone = _leaving(found, plans)
    cut = shrink(found.analysis, found.dead_labels(gone))
    names = Names(cut.model)
    lost = {}
    for plan in plans:
        node = cut.nodes[plan.layer.place]
        kept = _kept(cut, plan, 1)
        lost[plan.layer.name] = len(plan.alive) - len(kept)
        here = plan.alive[kept]
        if here.all() and plan.rank is None:
            continue
        writer = Writer(cut.model, cut.model.graph, plan.layer.name, names)
        x = node.inputs[0]
        if not here.all():
            x = writer.op("Gather", x, writer.ints(np.flatnonzero(here).tolist(), "channels"), axis=1)
        writer.take_place(node, _convolution(writer, x, plan, _kept(cut, plan, 0), node))
    drop_unused(cut.model.graph)
    return cut.model, lost


def _convolution(writer: Writer, x: gs.Tensor, plan: Plan, outputs: Ints, like: gs.Node) -> gs.Variable:
    bias = None if plan.layer.bias is None else plan.layer.bias[outputs]
    weight = plan.weight[:, plan.alive]
    if plan.rank is not None:
        # Factors of the whole weight, cut afterwards: those of a part would be others.
        product = truncated(weight.reshape(len(weight), -1).T, plan.rank)
        part = type(product)(product.left, product.right[:, outputs])
        return part.write_convolution(writer, x, bias, plan.layer.kernel, like)
    numbers = weight[outputs].reshape(len(outputs), -1, *plan.layer.kernel)
    constants = [writer.floats(numbers, "weight")] + ([] if bias is None else [writer.floats(bias, "bias")])
    return writer.op("Conv", x, *constants, kernel_shape=list(plan.layer.kernel), **places(like))


def _kept(cut: Shrunk, plan: Plan, axis: int) -> Ints:
    """Return the positions of an axis of the stored weight that the cut left."""
    left = cut.kept.get(str(plan.layer.node.inputs[1].name), {}).get(axis)
    return np.arange(plan.weight.shape[axis]) if left is None else np.asarray(left, np.int64)


def _leaving(found: Groups, plans: Sequence[Plan]) -> Mask:
    """Return which units leave the model: those that nobody but a layer that drops them reads."""
    dropping = {str(plan.layer.node.inputs[1].name): plan for plan in plans}
    mixed = _mixed(found)
    gone = found.none_dead()
    for number, group in enumerate(found):
        reader = None if number in mixed else _sole_reader(group)
        plan = dropping.get(reader.tensor) if reader is not None else None
        if reader is None or plan is None or reader.axis != 1:
            continue
        unread = ~plan.alive[reader.index].any(axis=1)
        alone = found.none_dead()
        alone[group.unit_ids[unread]] = True
        # Where parts of grouped operators have to lose equally many, the layer picks its channels out instead.
        if np.count_nonzero(~unread) >= group.least and np.array_equal(found.balanced(alone), alone):
            gone |= alone
    return gone


def _sole_reader(group: ChannelGroup) -> Member | None:
    """Return the one weight that sums over a group's channels; None where there are several, or other sums."""
    readers = [member for member in group.members if member.role == "consumer"]
    return readers[0] if len(readers) == len(group.taps) == 1 else None


def _mixed(found: Groups) -> set[int]:
    """Return the numbers of the groups whose channels act on each other on their way: by a softmax, by a norm."""
    places = Places(found)
    mixes = [mix for mix in found.analysis.mixes if mix.kind != "zero"]
    return {number for mix in mixes for axis in mix.axes.values() for number in places.groups_on(axis)}
