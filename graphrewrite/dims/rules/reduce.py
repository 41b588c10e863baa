"""Reductions: the reduced axes are mixed and vanish; operators whose values are positions pin their axis."""

from graphrewrite.dims.axes import ONE, Axis, rigid
from graphrewrite.dims.places import choose
from graphrewrite.dims.ragged import mix_members, seen_in_groups
from graphrewrite.dims.record import Members
from graphrewrite.dims.sweep import Step, rule

KINDS = {
    "ReduceMean": "mean",
    "ReduceSum": "zero",
    "ReduceL1": "zero",
    "ReduceL2": "zero",
    "ReduceSumSquare": "zero",
    "ReduceLogSumExp": "softmax",
    "ReduceLogSum": "zero",
    "ReduceMax": "lowest",
    "ReduceMin": "highest",
    "ReduceProd": "one",
}


@rule(*KINDS)
def reduction(s: Step) -> None:
    """Reduced axes drop or keep length one."""
    x = s.axes(0)
    axes = s.integers("axes")
    if axes is None and s.has(1):
        axes = s.numbers(1)
        if axes is None:
            s.refuse("the reduced axes depend on the input")
            return
    if not axes:
        axes = [] if s.integer("noop_with_empty_axes", 0) else list(range(len(x)))
    picked = {a % len(x) for a in axes}
    kind = KINDS[s.node.op]

    def as_product() -> None:
        forced = s.forced(x)
        s.mix(kind, 0, {i: forced[i] for i in picked})

    found = seen_in_groups(x)
    if found is not None and _is_inside_groups(x, found[1], picked):
        mix_members(s, found, kind, as_product)
    else:
        x = s.forced(x)
        as_product()
    keep = s.integer("keepdims", 1)
    s.out([ONE if i in picked else axis for i, axis in enumerate(x) if keep or i not in picked])


def _is_inside_groups(x: list[Axis], members: Members, picked: set[int]) -> bool:
    """Whether the members of each group are reduced, with nothing else that could go."""
    others = picked - {members.inner}
    return members.inner in picked and members.outer not in picked and all(x[i].is_rigid for i in others)


@rule("ArgMax", "ArgMin")
def arg(s: Step) -> None:
    """The values name positions of the axis."""
    x = s.forced(s.axes(0))
    axis = s.integer("axis", 0) % len(x)
    choose(s, axis, x[axis], 1, 0, s.node.op == "ArgMax")
    s.out([ONE if i == axis else a for i, a in enumerate(x) if s.integer("keepdims", 1) or i != axis])


@rule("TopK")
def top_k(s: Step) -> None:
    """The second output names positions of the axis; as many as are chosen have to stay."""
    x = s.forced(s.axes(0))
    axis = s.integer("axis", -1) % len(x)
    given = s.numbers(1) if s.has(1) else [s.integer("k", 1)]
    s.ignore(1)
    choose(s, axis, x[axis], given[0] if given else None, 1, bool(s.integer("largest", 1)))
    for output in range(len(s.node.outputs)):
        s.out([rigid(s.out_sizes(output)[i]) if i == axis else a for i, a in enumerate(x)], output)


@rule("CumSum", "CumProd")
def cumulative(s: Step) -> None:
    """Order along the axis matters; a removed position adds nothing to a sum."""
    x = s.forced(s.axes(0))
    given = s.numbers(1)
    if given is None:
        s.refuse("the axis depends on the input")
        return
    axis = given[0] % len(x)
    if s.node.op == "CumSum":
        s.neighbours(axis, x[axis])
    else:
        s.pin(x[axis], "products run along this axis")
    s.out(x)


@rule("Trilu")
def trilu(s: Step) -> None:
    """The last two axes are compared by position."""
    x = s.forced(s.axes(0))
    for axis in x[-2:]:
        s.pin(axis, "positions are compared with each other")
    s.out(x)
