"""AdaRound: up or down, learned layer by layer so that each gives what it gave in floats."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from graphrewrite.data import collect
from graphrewrite.errors import InvalidConfig
from graphrewrite.match.view import View
from graphrewrite.passes.quant.rounders import Task, rounders
from graphrewrite.passes.quant.rows import Draw, Values, batches_of
from graphrewrite.passes.quant.sites import sites_of
from graphrewrite.passes.quant.write import Plan


@rounders.register("adaround")
@dataclass(frozen=True)
class AdaRound:
    """Up or down for every weight, learned so that its layer gives what it gave in floats (Nagel et al. 2020).

    Layers are taken in order. Each reads what the rounded layers before it hand on and is to give, behind its Relu or
    Clip, what it gave in floats on unrounded inputs (equation 25); how the choice is learned is in
    `graphrewrite.bridge.up_or_down`. Codes are at most one away from the nearest. Where biases may move, they make up
    for what is left in the mean of each output.

    Args:
        steps: of the optimiser, for each layer.
        rows: places that are drawn from all samples to look at a layer; they are held in memory, one layer at a time.

    Needs torch. Layers are Conv, Gemm and MatMul with a constant weight; what else a plan rounds stays at the nearest.
    """

    steps: int = 300
    rows: int = 8192

    asks: ClassVar[tuple[str, ...]] = ("data", "torch")

    def __post_init__(self) -> None:
        for name in ("steps", "rows"):
            value = getattr(self, name)
            if isinstance(value, bool) or value < 1:
                raise InvalidConfig(f"AdaRound.{name} is {value!r}; expected a whole number of at least 1")

    def round(self, task: Task) -> Plan:
        """Return the plan with learned codes."""
        from graphrewrite.bridge.up_or_down import Learning, Problem, learned_codes

        context = task.context
        sites = sites_of(View(task.model), task.plan)
        batches = batches_of(task.model, task.data, task.batch)
        draws = [Draw(self.rows, batches, context.seed + number) for number in range(len(sites))]
        asked = {
            site.output: Values(draw, site.axis_of_outputs) for site, draw in zip(sites, draws, strict=True)
        }
        collect(task.model, task.data, asked, task.batch, context.seed, threads=context.threads)
        plan = task.plan
        for number, (site, draw) in enumerate(zip(sites, draws, strict=True)):
            rounded = task.simulated(plan)
            name = site.read_in(rounded)
            looking = {name: site.reader.rows(draw)}
            seen = collect(rounded, task.data, looking, task.batch, context.seed, threads=context.threads)[
                name
            ].result()
            target = asked[site.output].result()
            problem = Problem(
                x=seen.reshape(len(seen), site.groups, -1),
                target=target.reshape(len(seen), site.groups, -1),
                weight=site.in_steps,
                steps=site.steps,
                bias=site.bias,
                top=site.top,
                apart=site.stored.apart,
                bounds=site.bounds,
            )
            codes = learned_codes(problem, Learning(self.steps), context.seed)
            given = np.einsum("gi,goi->go", problem.x.mean(axis=0), codes * site.steps[..., None]) + site.bias
            left = problem.target.mean(axis=0) - given
            plan = site.replaced(plan, codes, left if task.corrects_bias else np.zeros_like(left))
            if context.progress is not None:
                context.progress("rounding", number + 1, len(sites))
        return plan
