"""Whether a difference is a defect or the rounding of the model itself.

Some models answer a change in the last bit of their input with another output. Two right ways to compute one then
differ by more than any tolerance, and the difference alone says nothing. So when a comparison fails, both sides are
computed again in float64, where a defect stays and rounding goes; what rounding does to the model in float32 is
measured by moving its inputs and weights by one unit in the last place. Where neither decides, nothing is accepted.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np

from graphrewrite import cost
from graphrewrite.cost.registry import key_of
from graphrewrite.cost.weights import is_setting
from graphrewrite.errors import GraphRewriteError, UnsupportedOp
from graphrewrite.ir import Array, Model
from graphrewrite.ir.edit import all_graphs
from graphrewrite.ir.widen import widen_feeds, widened
from graphrewrite.pipeline.verify import compare
from graphrewrite.runtime import Feeds, Ports, run_exact, run_session, session, take_kept

Outputs: TypeAlias = Mapping[str, Array]
Runner: TypeAlias = Callable[[Model, Sequence[Feeds]], Sequence[Outputs]]

# The rounding of a whole run, over that of its inputs alone: every operator adds its own.
_RUN_OVER_NUDGE = 20
# Where float64 shows no difference the noise only has to be of the right order.
_SAME_ORDER = 1000
# A float32 comparison with more noise than this decides nothing.
_TOO_LOUD = 1e-2
_DRAWS = 3
# Kernels of ours sum in another order than function bodies. Where activations are rounded to few levels, or to signs,
# that is another level now and then; a kernel that computes something else is further off than this.
_KERNEL_APART = 0.1
# Above this many multiply-accumulates (a sample, times the worlds) float64 takes minutes and is not tried.
_MACS_IN_DOUBLE = 20e9


@dataclass(frozen=True)
class Pair:
    """A rewritten model and the one it must equal.

    Attributes:
        reference, model: both as they are compared (half precision widened already).
        feeds: of the reference, one for each world.
        ports: what is left of inputs and outputs that became shorter.
        names: the outputs to compare; those that draw random numbers are left out.
    """

    reference: Model
    model: Model
    feeds: Sequence[Feeds]
    ports: Ports = field(default_factory=dict)
    names: frozenset[str] | None = None
    threads: int = 0

    def errors(self, run: Runner) -> dict[str, float]:
        """Return the largest error of each output over the worlds, when both are computed by `run`."""
        wanted = [take_kept(outputs, self.ports) for outputs in run(self.reference, self.feeds)]
        got = run(self.model, [take_kept(each, self.ports) for each in self.feeds])
        return _worst((self._named(a), self._named(b)) for a, b in zip(wanted, got, strict=True))

    def moved(self, run: Runner, precision: np.dtype[np.generic]) -> float:
        """Return how far the reference's outputs move when all floats it starts from move by one unit."""
        rng, feeds = np.random.default_rng(3), [widen_feeds(each, precision) for each in self.feeds]
        model = widened(self.reference, precision)
        plain, worst = run(model, feeds), 0.0
        for _ in range(_DRAWS):
            other = model.clone()
            steers = _settings(other)
            for name in [name for name in other.weights if name not in steers]:
                other.weights[name] = _nudged(other.weights[name], rng)
            nudged = run(
                other, [{name: _nudged(array, rng) for name, array in each.items()} for each in feeds]
            )
            worst = max(worst, self._apart(plain, nudged))
        return worst

    def noise(self) -> float:
        """Return how far the reference moves in float32: by nudges, and by onnxruntime's own optimisations."""
        plain = _in_single(self.threads, False)
        try:
            fused = _in_single(self.threads, True)(self.reference, self.feeds)
        except GraphRewriteError:
            fused = plain(self.reference, self.feeds)
        apart = self._apart(plain(self.reference, self.feeds), fused)
        return max(apart, self.moved(plain, np.dtype(np.float32)))

    def _apart(self, first: Sequence[Outputs], second: Sequence[Outputs]) -> float:
        pairs = ((self._named(a), self._named(b)) for a, b in zip(first, second, strict=True))
        return max(_worst(pairs).values(), default=0.0)

    def _named(self, outputs: Outputs) -> Outputs:
        return {name: array for name, array in outputs.items() if self.names is None or name in self.names}


@dataclass(frozen=True)
class Verdict:
    """What a difference is.

    Attributes:
        kind: "rounding", "defect" or "undecidable".
        errors: of each output, as far as they count: in float64 where that could be computed.
        rtol: what they were held against.
        text: both figures, for a person.
    """

    kind: Literal["rounding", "defect", "undecidable"]
    errors: Mapping[str, float]
    rtol: float
    text: str


def judge(pair: Pair, errors: Mapping[str, float], rtol: float) -> Verdict:
    """Judge a comparison in float32 that failed: `errors` by output, of which one is above `rtol`."""
    error = max(errors.values())
    if math.isinf(error) and _shapes_differ(pair):
        return Verdict("defect", errors, rtol, "the results have other shapes")
    if error <= _KERNEL_APART and (pair.reference.functions or pair.model.functions):
        bodies = pair.errors(_by_bodies(pair.threads))
        worst = max(bodies.values(), default=0.0)
        if worst <= rtol:
            text = (
                f"{worst:.3g} through function bodies; kernels, which sum in another order, add {error:.3g}"
            )
            return Verdict("rounding", bodies, rtol, text)
    noise = pair.noise()
    told = f"rounding alone moves the reference's outputs by {noise:.3g}"
    try:
        exact = _exact(pair)
    except UnsupportedOp:
        if error > _RUN_OVER_NUDGE * noise:
            return Verdict("defect", errors, rtol, told)
        if _RUN_OVER_NUDGE * noise > _TOO_LOUD:
            text = f"{told}, so the outputs cannot tell, and the model cannot be computed in float64"
            return Verdict("undecidable", errors, rtol, text)
        limit = _RUN_OVER_NUDGE * noise
        return Verdict("rounding", errors, limit, f"within the model's own rounding: {error:.3g}, and {told}")
    worst = max(exact.values(), default=0.0)
    if not worst <= rtol:
        floor = pair.moved(_in_double(pair.threads), np.dtype(np.float64))
        if worst <= _RUN_OVER_NUDGE * floor:
            text = f"even in float64 they differ by {worst:.3g}, and rounding alone moves the reference by {floor:.3g}"
            return Verdict("undecidable", exact, rtol, text)
        return Verdict("defect", exact, rtol, f"in float64 they differ by {worst:.3g}")
    if error > _SAME_ORDER * noise:
        text = (
            f"in float64 they differ by {worst:.3g} only, but {told}, which does not explain the difference"
        )
        return Verdict("defect", errors, rtol, text)
    text = f"within the model's own rounding: {error:.3g} in float32, {worst:.3g} in float64, and {told}"
    return Verdict("rounding", exact, rtol, text)


def _exact(pair: Pair) -> dict[str, float]:
    macs = cost.of(pair.reference).macs * len(pair.feeds)
    if macs > _MACS_IN_DOUBLE:
        raise UnsupportedOp(
            f"the model takes {macs / 1e9:.0f} G multiply-accumulates; expected at most {_MACS_IN_DOUBLE / 1e9:.0f} G "
            "for a comparison in float64; compare in float32"
        )
    return pair.errors(_in_double(pair.threads))


def _in_double(threads: int) -> Runner:
    return lambda model, feeds: run_exact(model, feeds, threads)


def _in_single(threads: int, optimize: bool) -> Runner:
    def run(model: Model, feeds: Sequence[Feeds]) -> list[dict[str, Array]]:
        started = session(model, threads=threads, optimize=optimize, spinning=False)
        return [run_session(started, each) for each in feeds]

    return run


def _by_bodies(threads: int) -> Runner:
    def run(model: Model, feeds: Sequence[Feeds]) -> list[dict[str, Array]]:
        started = session(model, threads=threads, optimize=False, spinning=False, kernels=False)
        return [run_session(started, each) for each in feeds]

    return run


def _shapes_differ(pair: Pair) -> bool:
    run = _in_single(pair.threads, False)
    wanted = [take_kept(outputs, pair.ports) for outputs in run(pair.reference, pair.feeds)]
    got = run(pair.model, [take_kept(each, pair.ports) for each in pair.feeds])
    return any(
        name not in b or a[name].shape != b[name].shape
        for a, b in zip(wanted, got, strict=True)
        for name in pair._named(a)
    )


def _worst(pairs: Iterable[tuple[Outputs, Outputs]]) -> dict[str, float]:
    worst: dict[str, float] = {}
    for a, b in pairs:
        for name, error in compare(a, b).items():
            worst[name] = max(error, worst.get(name, 0.0))
    return worst


def _settings(model: Model) -> set[str]:
    """Return the names of constants that steer an operator: a scale of Resize changes shapes, an exponent signs."""
    return {
        tensor.name
        for graph in all_graphs(model.graph)
        for node in graph.nodes
        for index, tensor in enumerate(node.inputs)
        if is_setting(key_of(node.domain, node.op), index) or (node.op, index) == ("Pow", 1)
    }


def _nudged(array: Array, rng: np.random.Generator) -> Array:
    """Move every float to the next there is, up or down; a zero means that there is nothing, and stays."""
    if array.dtype.kind != "f":
        return array
    towards = np.where(rng.random(array.shape) < 0.5, -np.inf, np.inf).astype(array.dtype)
    moved = np.nextafter(array, towards)
    return np.asarray(np.where((array == 0) | ~np.isfinite(moved), array, moved))
