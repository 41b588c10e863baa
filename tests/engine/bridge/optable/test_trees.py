"""Tree ensembles against onnxruntime: every kind of split, several trees and targets, missing numbers."""

import numpy as np
import pytest

from graphrewrite.bridge.optable.classic import ML
from graphrewrite.errors import UnsupportedOp
from graphrewrite.ir import Array
from tests.engine.bridge.nodes import bridged, by_onnxruntime, node_model, same

RNG = np.random.default_rng(0)
X = np.round(RNG.standard_normal((40, 3)), 1).astype(np.float32)
X[::7, 1] = np.nan


def forest(mode: str, trees: int = 3) -> dict[str, object]:
    """Trees of two levels; the right branch of the root is a leaf already."""
    nodes = [
        (tree, number, int(RNG.integers(3)), float(np.round(RNG.standard_normal(), 1)), kind, yes, no)
        for tree in range(trees)
        for number, kind, yes, no in (
            (0, mode, 1, 2),
            (1, mode, 3, 4),
            (2, "LEAF", 0, 0),
            (3, "LEAF", 0, 0),
            (4, "LEAF", 0, 0),
        )
    ]
    columns = list(zip(*nodes, strict=True))
    names = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    found: dict[str, object] = {
        f"nodes_{name}": list(column) for name, column in zip(names, columns, strict=True)
    }
    found["nodes_missing_value_tracks_true"] = [tree % 2 for tree, *_ in nodes]
    return found


def leaves(name: str, trees: int, targets: int) -> dict[str, object]:
    entries = [(t, n, target) for t in range(trees) for n in (2, 3, 4) for target in range(targets)]
    columns = list(zip(*entries, strict=True))
    found: dict[str, object] = {
        f"{name}_{kind}": list(column)
        for kind, column in zip(("treeids", "nodeids", "ids"), columns, strict=True)
    }
    found[f"{name}_weights"] = RNG.random(len(entries)).tolist()
    return found


@pytest.mark.parametrize(
    "mode", ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
)
@pytest.mark.parametrize("how", ["SUM", "AVERAGE"])
def test_regression(mode: str, how: str) -> None:
    settings = {
        **forest(mode), **leaves("target", 3, 2), "n_targets": 2, "aggregate_function": how,
        "base_values": [0.5, -1.0],
    }  # fmt: skip
    given: list[Array | None] = [X]
    proto = node_model("TreeEnsembleRegressor", given, 1, settings, domain=ML)
    assert same(bridged(proto, given), by_onnxruntime(proto, given))


@pytest.mark.parametrize("post", ["NONE", "SOFTMAX", "LOGISTIC"])
def test_classes(post: str) -> None:
    settings = {
        **forest("BRANCH_LEQ", 4), **leaves("class", 4, 3), "classlabels_int64s": [4, 7, 9], "post_transform": post,
    }  # fmt: skip
    given: list[Array | None] = [X]
    proto = node_model("TreeEnsembleClassifier", given, 2, settings, domain=ML)
    assert same(bridged(proto, given), by_onnxruntime(proto, given))


def test_what_has_no_form_is_refused() -> None:
    settings = {**forest("BRANCH_LEQ"), **leaves("target", 3, 1), "aggregate_function": "MAX"}
    with pytest.raises(UnsupportedOp, match="MAX"):
        bridged(node_model("TreeEnsembleRegressor", [X], 1, settings, domain=ML), [X])
