"""Ensembles of decision trees: all samples walk down all trees at once, one level at a time.

Splits are comparisons, so no gradient passes, and what trees hold is in attributes: they run, and are not trained.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from graphrewrite.bridge.forms import op
from graphrewrite.bridge.optable.classic import ML, transformed
from graphrewrite.errors import UnsupportedOp

_MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")
_LEAF = "LEAF"


class Trees(nn.Module):
    """Tables of all nodes, numbered through; a leaf leads to itself.

    Args:
        tree_of, number_of: by node, its tree and its number there; the first of a tree is its root.
        features, splits, modes, yes, no, missing: by node, as the attributes of the operator have them.
        leaves: (tree, node, target, weight) of all that leaves add to targets.
        targets: number of columns of the result.
        average: whether trees are averaged and not added up.

    Raises:
        UnsupportedOp: a mode is unknown.
    """

    def __init__(
        self,
        tree_of: Sequence[int],
        number_of: Sequence[int],
        features: Sequence[int],
        splits: Sequence[float],
        modes: Sequence[str],
        yes: Sequence[int],
        no: Sequence[int],
        missing: Sequence[int],
        leaves: Sequence[tuple[int, int, int, float]],
        targets: int,
        average: bool = False,
    ) -> None:
        super().__init__()
        unknown = sorted(set(modes) - {*_MODES, _LEAF})
        if unknown:
            raise UnsupportedOp(
                f"a tree ensemble has the split {unknown[0]!r}, which has no torch form; expected one of "
                f"{', '.join(_MODES)}; leave the ensemble out of the bridge"
            )
        places = {key: i for i, key in enumerate(zip(tree_of, number_of, strict=True))}
        inner = [mode != _LEAF for mode in modes]
        ahead, other = (
            [
                places[tree, to] if is_inner else i
                for i, (tree, to, is_inner) in enumerate(zip(tree_of, ways, inner, strict=True))
            ]
            for ways in (yes, no)
        )
        roots = {tree: i for i, tree in reversed(list(enumerate(tree_of)))}
        added = torch.zeros(len(places), targets)
        for tree, number, target, weight in leaves:
            added[places[tree, number], target] += weight
        self.depth = _depth(sorted(roots.values()), ahead, other)
        self.average = average
        tables = {
            "roots": torch.tensor(sorted(roots.values())),
            "features": torch.tensor(features),
            "splits": torch.tensor(splits, dtype=torch.float32),
            "modes": torch.tensor([_MODES.index(mode) if mode != _LEAF else 0 for mode in modes]),
            "ahead": torch.tensor(ahead),
            "other": torch.tensor(other),
            "missing": torch.tensor(list(missing) or [0] * len(places), dtype=torch.bool),
            "added": added,
        }
        for name, table in tables.items():
            self.register_buffer(name, table, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum, or mean, of what all trees give to each sample: [samples, targets]."""
        at = self.roots.expand(x.shape[0], -1)
        for _ in range(self.depth):
            seen, split, mode = x.gather(1, self.features[at]), self.splits[at], self.modes[at]
            answers = torch.stack(
                (seen <= split, seen < split, seen >= split, seen > split, seen == split, seen != split)
            )
            goes = answers.gather(0, mode[None])[0]
            goes = goes | (torch.isnan(seen) & self.missing[at])
            at = torch.where(goes, self.ahead[at], self.other[at])
        found: Tensor = self.added[at]
        return found.mean(1) if self.average else found.sum(1)


@op("TreeEnsembleRegressor", domain=ML, gradient=False, ignores=("nodes_hitrates",))
class TreeRegressor(nn.Module):
    """Trees whose leaves add to targets; attributes as the operator has them."""

    def __init__(
        self,
        *,
        aggregate_function: str = "SUM",
        base_values: Sequence[float] = (),
        n_targets: int = 1,
        nodes_falsenodeids: Sequence[int],
        nodes_featureids: Sequence[int],
        nodes_missing_value_tracks_true: Sequence[int] = (),
        nodes_modes: Sequence[str],
        nodes_nodeids: Sequence[int],
        nodes_treeids: Sequence[int],
        nodes_truenodeids: Sequence[int],
        nodes_values: Sequence[float],
        post_transform: str = "NONE",
        target_ids: Sequence[int],
        target_nodeids: Sequence[int],
        target_treeids: Sequence[int],
        target_weights: Sequence[float],
    ) -> None:
        super().__init__()
        if aggregate_function not in ("SUM", "AVERAGE"):
            raise UnsupportedOp(
                f"a TreeEnsembleRegressor with aggregate_function={aggregate_function!r} has no torch form; expected "
                "SUM or AVERAGE; leave the ensemble out of the bridge"
            )
        self.trees = Trees(
            nodes_treeids,
            nodes_nodeids,
            nodes_featureids,
            nodes_values,
            nodes_modes,
            nodes_truenodeids,
            nodes_falsenodeids,
            nodes_missing_value_tracks_true,
            list(zip(target_treeids, target_nodeids, target_ids, target_weights, strict=True)),
            n_targets,
            aggregate_function == "AVERAGE",
        )
        self.post = post_transform
        self.register_buffer("base", torch.tensor(list(base_values) or [0.0]), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return [samples, targets]."""
        return transformed(self.trees(x.float()) + self.base, self.post)


@op("TreeEnsembleClassifier", domain=ML, gradient=False, ignores=("nodes_hitrates",))
class TreeClassifier(nn.Module):
    """Trees whose leaves add to classes; attributes as the operator has them. Labels are whole numbers."""

    def __init__(
        self,
        *,
        base_values: Sequence[float] = (),
        class_ids: Sequence[int],
        class_nodeids: Sequence[int],
        class_treeids: Sequence[int],
        class_weights: Sequence[float],
        classlabels_int64s: Sequence[int],
        nodes_falsenodeids: Sequence[int],
        nodes_featureids: Sequence[int],
        nodes_missing_value_tracks_true: Sequence[int] = (),
        nodes_modes: Sequence[str],
        nodes_nodeids: Sequence[int],
        nodes_treeids: Sequence[int],
        nodes_truenodeids: Sequence[int],
        nodes_values: Sequence[float],
        post_transform: str = "NONE",
    ) -> None:
        super().__init__()
        if len(set(class_ids)) < len(classlabels_int64s):
            raise UnsupportedOp(
                "a TreeEnsembleClassifier whose trees score fewer classes than it has labels has no torch form; "
                "expected a weight for each; leave the ensemble out of the bridge"
            )
        self.trees = Trees(
            nodes_treeids,
            nodes_nodeids,
            nodes_featureids,
            nodes_values,
            nodes_modes,
            nodes_truenodeids,
            nodes_falsenodeids,
            nodes_missing_value_tracks_true,
            list(zip(class_treeids, class_nodeids, class_ids, class_weights, strict=True)),
            len(classlabels_int64s),
        )
        self.post = post_transform
        self.register_buffer("base", torch.tensor(list(base_values) or [0.0]), persistent=False)
        self.register_buffer("labels", torch.tensor(classlabels_int64s), persistent=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the best label of each sample, and all scores [samples, classes]."""
        scores = self.trees(x.float()) + self.base
        return self.labels[scores.argmax(1)], transformed(scores, self.post)


def _depth(roots: Sequence[int], ahead: Sequence[int], other: Sequence[int]) -> int:
    """Return the longest way from a root to a leaf."""
    level, steps = set(roots), 0
    while level := {to for i in level for to in (ahead[i], other[i]) if to != i}:
        steps += 1
        if steps > len(ahead):
            raise UnsupportedOp(
                "a tree ensemble leads back to a node it came from; expected trees; export the model again"
            )
    return steps
