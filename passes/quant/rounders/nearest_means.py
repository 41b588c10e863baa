"""To the nearest code, and biases by the means that are found in the rounded net itself."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.data import collect
from graphrewrite.data.accumulators import Moments
from graphrewrite.ir import Model
from graphrewrite.ir.beside import beside
from graphrewrite.ir.edit import redirect, sort_nodes
from graphrewrite.match.view import View
from graphrewrite.passes.factor.writer import Names, Writer
from graphrewrite.passes.quant.grid import Floats
from graphrewrite.passes.quant.rounders import Task, rounders
from graphrewrite.passes.quant.sites import Site, sites_of
from graphrewrite.passes.quant.write import Plan

_ROUNDED = "rounded/"  # before the names of the rounded net
_AXES_AS_INPUT = 18  # the operator set from which ReduceMean takes them so


@rounders.register("nearest_means")
@dataclass(frozen=True)
class NearestMeans:
    """The nearest codes, and biases that give outputs the means they had in floats (Nagel et al. 2019).

    The net in floats and the rounded one run side by side, once over all samples. By the means of each batch every
    layer's outputs are moved to those in floats before the layers behind read them, so each layer is corrected for what
    the corrected ones before it hand on, activations' rounding included. Biases move by the mean over batches.

    Layers without a bias hand on what they give. Where biases are to be kept, nothing changes.
    """

    asks: ClassVar[tuple[str, ...]] = ("data",)

    def round(self, task: Task) -> Plan:
        """Return the plan with other biases."""
        with_bias = {each.node for each in task.plan.operands if each.slot == 2}
        sites = [site for site in sites_of(View(task.model), task.plan) if site.number in with_bias]
        if not task.corrects_bias or not sites:
            return task.plan
        both = beside({"": task.model, _ROUNDED: task.simulated(task.plan)})
        names = {site.number: name for site, name in zip(sites, _moved(both, sites), strict=True)}
        moments = {name: Moments(1) for name in names.values()}
        context = task.context
        collect(both, task.data, moments, task.batch, context.seed, context.progress, context.threads)
        return _with_biases(
            task.plan, {number: moments[name].result().mean for number, name in names.items()}
        )


def _moved(both: Model, sites: list[Site]) -> list[str]:
    """Move the outputs of rounded layers to the means of those in floats; return the names of what they move by."""
    names, found = Names(both), []
    tensors = {tensor.name: tensor for node in both.graph.nodes for tensor in node.outputs}
    for site in sites:
        exact, rounded = tensors[site.output], tensors[f"{_ROUNDED}{site.output}"]
        while rounded.inputs[0].op != site.op:  # what rounds the output stands behind it
            rounded = rounded.inputs[0].inputs[0]
        writer = Writer(both, both.graph, site.output, names)
        moved = writer.variable("moved")
        moved.dtype = rounded.dtype
        redirect(both.graph, rounded, moved)
        axes = [0, *range(2, site.weight.ndim)]  # all but that of outputs
        mean = _mean(writer, writer.op("Sub", exact, rounded), axes, both.opset)
        both.graph.nodes.extend(writer.made)
        both.graph.nodes.append(gs.Node("Add", names.nodes.fresh("moved"), {}, [rounded, mean], [moved]))
        found.append(mean.name)
    sort_nodes(both.graph)
    return found


def _mean(writer: Writer, x: gs.Variable, axes: list[int], opset: int) -> gs.Variable:
    if opset < _AXES_AS_INPUT:
        return writer.op("ReduceMean", x, axes=axes, keepdims=1)
    return writer.op("ReduceMean", x, writer.ints(axes, "axes"), keepdims=1)


def _with_biases(plan: Plan, more: dict[int, Floats]) -> Plan:
    operands = []
    for each in plan.operands:
        if each.slot == 2 and each.node in more:
            stored = each.stored
            bias = stored.expand().astype(np.float64) + more[each.node].reshape(stored.codes.shape)
            codes = np.rint(bias / stored.steps).astype(stored.codes.dtype)
            each = each._replace(stored=stored._replace(codes=codes))
        operands.append(each)
    return plan._replace(operands=operands)
