"""Is anything tied that could be kept apart? Everything that may be cut from a tiny graph, found by trying all of it.

A proof that a cut is right never sees a tie too many: the cut model is merely larger than it need be. So the set of all
possible cuts is built here without labels, unions or rules, and compared with the set that the labels allow.

Formulation. A cut keeps a non-empty set of positions of every weight axis longer than one, and thereby of every axis of
every tensor (inputs and outputs of the graph stay whole). It is possible when every node is: when the node, run on the
kept positions with *some* numbers (any reshape target, any split sizes, any group count), gives exactly the kept
positions of what it gives on everything; where positions mix (sums, means, softmax), "everything" means everything kept
of its data. Whether that holds is decided by running numpy on random numbers: two different positions never agree by
chance. The possible cuts of the graph are those whose nodes agree on the tensors between them, found node by node.

This is exact for the operators in the table below, apart from what the analysis leaves whole on purpose: places of a
feature map, the kernel, whole copies made by Tile, picks by an index of rank two or more.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, product

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.dims import Groups
from graphrewrite.ir import Model, ShapeInfo, constant_value, infer

Floats = npt.NDArray[np.float64]
Kept = tuple[int, ...]  # the kept positions of one axis
Box = tuple[Kept, ...]  # of all axes of one tensor
Key = tuple[
    str, int, int
]  # a weight: (name, -1, -1), or (name, node, slot) for a vector, which is cut per use
Cut = frozenset[tuple[Key, Box]]


class TooMany(Exception):
    """The graph is not tiny."""


# ------------------------------------------------------------------------------------------------ all possible cuts


def possible_cuts(model: Model, limit: int = 1000) -> set[Cut]:
    """Return every cut that some numbers make right.

    Raises:
        TooMany: more than `limit` partial cuts are alive at some node.
        KeyError: an operator is not in the table.
    """
    info = infer(model)
    uses = dict(_uses(model))
    whole = {t.name: _whole(info.sizes(t.name) or ()) for t in model.inputs}
    states: set[tuple[Cut, frozenset[tuple[str, Box]]]] = {(frozenset(), frozenset(whole.items()))}
    last_reader = {t.name: i for i, node in enumerate(model.graph.nodes) for t in node.inputs}
    ends = {t.name: _whole(info.sizes(t.name) or ()) for t in model.outputs}
    for index, node in enumerate(model.graph.nodes):
        if node.op == "Constant":
            continue
        relation = _Relation(node, index, info, uses)
        following: set[tuple[Cut, frozenset[tuple[str, Box]]]] = set()
        for cut, env in states:
            boxes = dict(env)
            for weights, outputs in relation.ways([boxes.get(t.name) for t in node.inputs], dict(cut)):
                grown = {**boxes, **outputs}
                if any(grown[name] != box for name, box in ends.items() if name in grown):
                    continue
                live = {n: b for n, b in grown.items() if last_reader.get(n, -1) > index or n in ends}
                following.add((cut | frozenset(weights.items()), frozenset(live.items())))
            if len(following) > limit:
                raise TooMany(f"{len(following)} cuts at {node.name}")
        states = following
    return {cut for cut, _ in states}


def allowed_cuts(found: Groups, limit: int = 12) -> set[Cut]:
    """Return every cut that the labels allow and that empties no axis.

    Raises:
        TooMany: there are more than `limit` free units.
    """
    analysis = found.analysis
    labels = analysis.labels
    uses = {(key[0], key[1], key[2]): use for key, use in analysis.weights.items()}
    tables = {key: [None if a.is_rigid else analysis.rows(a) for a in use.axes] for key, use in uses.items()}
    sizes = {key: [a.sizes[0] for a in use.axes] for key, use in uses.items()}
    inner = [
        analysis.rows(axis)
        for index, node in enumerate(analysis.model.graph.nodes)
        for tensor in node.outputs
        if index not in analysis.bypassed
        for axis in analysis.env.get(tensor.name) or ()
        if not axis.is_rigid
    ]
    every = [*inner, *(rows for mine in tables.values() for rows in mine if rows is not None)]
    free = (
        np.unique(np.concatenate([rows.ravel() for rows in every])) if every else np.zeros(0, dtype=np.int64)
    )
    free = free[(free > 0) & (labels.pin_number(free) == 0)]
    if len(free) > limit:
        raise TooMany(f"{len(free)} free units")
    cuts = set()
    for chosen in product([False, True], repeat=len(free)):
        dead = free[np.array(chosen, dtype=bool)]
        if any(np.isin(rows, dead).any(axis=1).all() for rows in every):
            continue
        cuts.add(
            frozenset(
                (
                    key,
                    tuple(
                        _all(size) if rows is None else _alive(rows, dead)
                        for rows, size in zip(mine, sizes[key], strict=True)
                    ),
                )
                for key, mine in tables.items()
                if any(size > 1 for size in sizes[key])
            )
        )
    return cuts


def difference(model: Model, found: Groups) -> str:
    """Return "" when labels and trial agree, else what one of them allows and the other does not."""
    possible, allowed = possible_cuts(model), allowed_cuts(found)
    missing, wrong = possible - allowed, allowed - possible
    lines = [f"tied too much ({len(missing)} cuts), for instance {_text(cut)}" for cut in _largest(missing)]
    lines += [f"not tied enough ({len(wrong)} cuts), for instance {_text(cut)}" for cut in _largest(wrong)]
    return "; ".join(lines)


def _largest(cuts: set[Cut]) -> list[Cut]:
    """Return the cut that removes least, as the clearest example."""
    return sorted(
        cuts, key=lambda cut: (-sum(len(kept) for _, box in cut for kept in box), str(sorted(cut)))
    )[:1]


def _text(cut: Cut) -> str:
    return ", ".join(
        f"{key[0]} keeps {' x '.join(str(list(kept)) for kept in box)}" for key, box in sorted(cut)
    )


def _alive(rows: npt.NDArray[np.int64], dead: npt.NDArray[np.int64]) -> Kept:
    return tuple(int(i) for i in np.flatnonzero(~np.isin(rows, dead).any(axis=1)))


def _all(size: int) -> Kept:
    return tuple(range(size))


def _whole(sizes: Sequence[int]) -> Box:
    return tuple(_all(size) for size in sizes)


def _uses(model: Model) -> Iterator[tuple[tuple[int, int], Key]]:
    """Yield what is cut with what: vectors per use, everything else per tensor."""
    for index, node in enumerate(model.graph.nodes):
        for slot, tensor in enumerate(node.inputs):
            value = constant_value(tensor) if tensor.name else None
            if value is None or slot in NUMBERS.get(node.op, ()) or not any(size > 1 for size in value.shape):
                continue
            alone = sum(size > 1 for size in value.shape) <= 1
            yield (index, slot), (tensor.name, index, slot) if alone else (tensor.name, -1, -1)


# ------------------------------------------------------------------------------------------------ one node


@dataclass
class _Relation:
    """Which kept positions of a node's inputs, weights and outputs go together."""

    node: gs.Node
    index: int
    info: ShapeInfo
    uses: Mapping[tuple[int, int], Key]
    known: dict[tuple[Box | None, ...], list[tuple[Box, ...]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.index)
        self.op = TABLE[self.node.op]
        self.values: list[Floats | None] = []
        for slot, tensor in enumerate(self.node.inputs):
            sizes = self.info.sizes(tensor.name)
            if not tensor.name or slot in NUMBERS.get(self.node.op, ()):
                self.values.append(None)
            else:
                assert sizes is not None, tensor.name
                self.values.append(rng.uniform(0.5, 2.0, sizes))

    def ways(
        self, boxes: Sequence[Box | None], cut: Mapping[Key, Box]
    ) -> Iterator[tuple[dict[Key, Box], dict[str, Box]]]:
        """Yield (weights kept, outputs kept) for these kept inputs and the weights already decided."""
        keys = [self.uses.get((self.index, slot)) for slot in range(len(self.node.inputs))]
        options: list[list[Box | None]] = []
        for value, box, key in zip(self.values, boxes, keys, strict=True):
            if value is None or key is None:
                options.append([box if box is not None else None if value is None else _whole(value.shape)])
            elif key in cut:
                options.append([cut[key]])
            else:
                options.append([tuple(each) for each in product(*(_subsets(size) for size in value.shape))])
        if np.prod([len(each) for each in options]) > 1500:
            raise TooMany(f"too many ways to cut the weights of {self.node.name}")
        for chosen in product(*options):
            weights = {
                key: box for key, box in zip(keys, chosen, strict=True) if key is not None and box is not None
            }
            consistent = all(
                weights[key] == box for key, box in zip(keys, chosen, strict=True) if key is not None
            )
            for outputs in self._outputs(chosen) if consistent else []:
                yield (
                    weights,
                    {t.name: box for t, box in zip(self.node.outputs, outputs, strict=False) if t.name},
                )

    def _outputs(self, boxes: tuple[Box | None, ...]) -> list[tuple[Box, ...]]:
        if boxes not in self.known:
            try:
                self.known[boxes] = list(self.op(self.node, self.values, boxes, self.info))
            except (ValueError, IndexError):  # numpy refuses the shapes: no such model
                self.known[boxes] = []
        return self.known[boxes]


def _subsets(size: int) -> list[Kept]:
    return [kept for count in range(1, size + 1) for kept in combinations(range(size), count)]


Op = Callable[[gs.Node, Sequence[Floats | None], Sequence[Box | None], ShapeInfo], Iterator[tuple[Box, ...]]]
TABLE: dict[str, Op] = {}
# Inputs that are numbers of the node rather than data; they may be anything in the cut model.
NUMBERS = {
    "Reshape": (1,), "Split": (1,), "Slice": (1, 2, 3, 4), "Gather": (1,), "Pad": (1, 2), "Expand": (1,), "Tile": (1,),
    "Squeeze": (1,), "Unsqueeze": (1,), "ReduceSum": (1,), "ReduceMean": (1,), "ReduceMax": (1,),
}  # fmt: skip


def op(*names: str) -> Callable[[Op], Op]:
    def add(function: Op) -> Op:
        for name in names:
            TABLE[name] = function
        return function

    return add


def located(cut: Floats, whole: Floats) -> Box | None:
    """Return the positions of `whole` that `cut` consists of, by value; None when they are no box of it."""
    if not cut.size or cut.ndim != whole.ndim:
        return None
    flat = whole.ravel()
    order = np.argsort(flat)
    near = np.searchsorted(flat[order], cut.ravel())
    below, above = np.maximum(near - 1, 0), np.minimum(near, len(flat) - 1)
    closer = np.abs(flat[order[below]] - cut.ravel()) < np.abs(flat[order[above]] - cut.ravel())
    index = order[np.where(closer, below, above)]
    places = np.unravel_index(index, whole.shape)
    box = []
    for axis, place in enumerate(places):
        corner = [0] * cut.ndim
        lines = place.reshape(cut.shape)[
            tuple(slice(None) if k == axis else corner[k] for k in range(cut.ndim))
        ]
        box.append(tuple(int(i) for i in lines))
    if any(list(kept) != sorted(set(kept)) for kept in box):
        return None
    return tuple(box) if np.allclose(whole[np.ix_(*box)], cut, rtol=1e-9, atol=1e-12) else None


def taken(values: Sequence[Floats | None], boxes: Sequence[Box | None]) -> list[Floats]:
    """Return the kept parts of the data inputs."""
    return [
        v[np.ix_(*b)] if v.ndim else v
        for v, b in zip(values, boxes, strict=True)
        if v is not None and b is not None
    ]


def computed(
    run: Callable[[gs.Node, list[Floats]], Floats],
    mixed: Callable[[gs.Node, list[Floats]], dict[int, list[int]]],
    stays: bool = False,
) -> Op:
    """Make an operator of a function of its data inputs; `mixed` names the axes of each input that go with input 0's.

    {0: [2], 1: [0]} says: axis 2 of input 0 is mixed, and axis 0 of input 1 runs along with it. `stays` says that the
    mixed axes are axes of the output too. Only the pattern of what depends on what matters, so `run` may be any
    function with the right one; it should not give equal numbers at unlike positions.
    """

    def decide(
        node: gs.Node, values: Sequence[Floats | None], boxes: Sequence[Box | None], info: ShapeInfo
    ) -> Iterator[tuple[Box, ...]]:
        full = [v for v in values if v is not None]
        kept = [b for v, b in zip(values, boxes, strict=True) if v is not None]
        axes = mixed(node, full)
        narrow = list(full)
        for slot, numbers in axes.items():
            for number, lead in zip(numbers, axes[0], strict=True):
                narrow[slot] = np.take(narrow[slot], kept[0][lead], axis=number)  # type: ignore[index]
        cut, whole = run(node, taken(values, boxes)), run(node, narrow)
        box = located(cut, whole)
        if box is None:
            return
        if stays:
            box = tuple(
                tuple(kept[0][axis][i] for i in mine) if axis in axes[0] else mine  # type: ignore[index]
                for axis, mine in enumerate(box)
            )
        yield (box,)

    return decide


def nothing(node: gs.Node, inputs: list[Floats]) -> dict[int, list[int]]:
    return {}


def moved(
    run: Callable[[gs.Node, list[npt.NDArray[np.int64]], ShapeInfo], list[npt.NDArray[np.int64]]],
) -> Op:
    """Make an operator of a function that moves elements about and whose numbers may be written anew.

    Elements are numbered; what is kept of an output are the elements kept of the inputs, if that is a box.
    """

    def decide(
        node: gs.Node, values: Sequence[Floats | None], boxes: Sequence[Box | None], info: ShapeInfo
    ) -> Iterator[tuple[Box, ...]]:
        numbers, alive, start = [], [], 0
        for value, box in zip(values, boxes, strict=True):
            if value is None or box is None:
                continue
            numbers.append(np.arange(start, start + value.size).reshape(value.shape))
            alive.append(numbers[-1][np.ix_(*box)].ravel())
            start += value.size
        kept = np.concatenate(alive)
        result = []
        for out in run(node, numbers, info):
            mask = np.isin(out, kept)
            box = tuple(
                tuple(
                    int(i)
                    for i in np.flatnonzero(mask.any(axis=tuple(k for k in range(mask.ndim) if k != axis)))
                )
                for axis in range(mask.ndim)
            )
            if not mask.any() or not mask[np.ix_(*box)].all():
                return
            result.append(box)
        yield tuple(result)

    return decide
