"""What is slower in integers stays in floats: by hand, and against all splits there are of small graphs."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.cost.speeds import Point, Speeds, Work
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.match.view import View
from graphrewrite.passes.quant import InsertQdq, worth
from graphrewrite.passes.quant.worth import load_times
from tests.passes.quant.nets import context, left, quantised, served

SHAPE = (4, 8, 12, 12)
CONV, POINT, MAP = Work(8, 8, 144, 9), Work(8, 8, 144), Work(1, 1, 8 * 144)


def speeds(**us: float) -> Speeds:
    """Times in microseconds, `_8` on bytes: convolutions of 3 x 3, of 1 x 1 (Point), all else on maps."""
    points = []
    for form, seconds in us.items():
        work = {"Conv": CONV, "Point": POINT}.get(form.removesuffix("_8"), MAP)
        points.append(Point(form.replace("_8", "/8").replace("Point", "Conv"), work, seconds * 1e-6))
    return Speeds("none", "a machine", "a runtime", tuple(points))


def kept(path: Path, **us: float) -> InsertQdq:
    speeds(**us).save(path / "times.json")
    return InsertQdq(times=str(path / "times.json"), correct_bias=False)


def convolutions(count: int, between: str) -> Model:
    b = Builder(opset=17)
    y = b.input(["N", *SHAPE[1:]], "x")
    for number in range(count):
        y = b.conv(y if not number else b.op(between, y), 8, 8, name=f"conv{number}")
    return b.model(y)


def test_a_layer_alone_has_to_save_what_its_roundings_cost(tmp_path: Path) -> None:
    model, around = convolutions(1, "Relu"), context(SHAPE)

    # Bytes: 0.9 * 2 for the layer, and twice half of Turn on either side.
    dear = quantised(model, kept(tmp_path, Conv=10, Conv_8=2, Turn=5), around)
    cheap = quantised(model, kept(tmp_path, Conv=10, Conv_8=2, Turn=4), around)

    assert not dear.changed and "2.0 us on bytes, 10.0 us on floats" in left(dear)["conv0"]
    assert served(cheap.model)["QLinearConv"] == 1


def test_layers_that_bytes_join_pay_for_roundings_together(tmp_path: Path) -> None:
    step, around = kept(tmp_path, Conv=10, Conv_8=2, Turn=5), context(SHAPE)

    assert served(quantised(convolutions(2, "Relu"), step, around).model)["QLinearConv"] == 2
    assert not quantised(convolutions(2, "Tanh"), step, around).changed


def test_a_sum_behind_a_convolution_of_floats_costs_nothing(tmp_path: Path) -> None:
    b = Builder(opset=17)
    x = b.input(["N", *SHAPE[1:]], "x")
    first = b.relu(b.conv(x, 8, 8, name="first"))
    model, around = b.model(b.relu(b.add(b.conv(first, 8, 8, name="second"), first))), context(SHAPE)
    told = {"Conv": 10.0, "Conv_8": 2.0, "Turn": 7.0, "Add_8": 4.0}

    # Bytes: 0.9 * (2 + 2 + 4) + 2 * 7 = 21.2. Floats: 10 + 10, and the sum only if it cannot be part of the second.
    assert not quantised(model, kept(tmp_path, **told, Add=4), around).changed
    b = Builder(opset=17)
    first = b.relu(b.conv(b.input(["N", *SHAPE[1:]], "x"), 8, 8, name="first"))
    model = b.model(b.relu(b.add(b.relu(b.conv(first, 8, 8, name="second")), first)))
    assert served(quantised(model, kept(tmp_path, **told, Add=4), around).model)["QLinearAdd"] == 1


def test_what_is_large_or_of_unknown_size_or_never_measured_is_quantised(tmp_path: Path) -> None:
    step = kept(tmp_path, Conv=10, Conv_8=20, Turn=4)
    b = Builder(opset=17)
    model = b.model(b.conv(b.input(["N", 8, "H", 12], "x"), 8, 8, name="any"))
    assert served(quantised(model, step, context(SHAPE)).model)["QLinearConv"] == 1

    b = Builder(opset=17)
    model = b.model(b.conv(b.input(["N", 256, 2, 2], "x"), 128, 256, name="large"))
    assert served(quantised(model, step, context((4, 256, 2, 2))).model)["QLinearConv"] == 1

    b = Builder(opset=17)
    model = b.model(b.op("MatMul", b.input(["N", 8], "x"), b.weight(8, 8), name="unmeasured"))
    assert quantised(model, step, context((4, 8))).changed


def residual() -> Model:
    """Four convolutions, two of them 1 x 1, and two sums; floats and a convolution read the last."""
    b = Builder(opset=17, seed=2)
    first = b.relu(b.conv(b.input(["N", *SHAPE[1:]], "x"), 8, 8, name="first"))
    second = b.relu(b.conv(first, 8, 8, name="second"))
    total = b.relu(b.add(second, first))
    third = b.relu(b.conv(total, 8, 8, kernel=1, name="third"))
    last = b.relu(b.add(third, total))
    return b.model(b.op("Tanh", last), b.conv(last, 8, 8, kernel=1, name="fourth"))


# What each node reads, by number; number 6 is the operator of floats and the graph's end.
READS = {0: [-1], 1: [0], 2: [1, 0], 3: [2], 4: [3, 2], 5: [4], 6: [4, 5]}
FORMS = ("Conv", "Conv", "Add", "Point", "Add", "Point")


def seconds_of(integers: tuple[bool, ...], us: Mapping[str, float]) -> float:
    """What a split of the six nodes of `residual` takes, counted one node and one tensor after the other."""

    def is_integer(node: int) -> bool:
        return 0 <= node < 6 and integers[node]

    spent = 0.0
    for node in range(6):
        form = FORMS[node]
        spent += 0.9 * us[f"{form}_8"] if integers[node] else us[form]
        if form == "Add" and integers[node] and not all(map(is_integer, READS[node])):
            return float("inf")  # sums take bytes only
    for made in range(-1, 6):
        users = [node for node, read in READS.items() if made in read]
        if is_integer(made):
            spent += us["Turn"] * sum(not is_integer(user) for user in users)
        elif any(map(is_integer, users)):
            spent += us["Turn"]
    return spent


def split_by_the_pass(us: Mapping[str, float]) -> tuple[bool, ...]:
    view = View(residual())
    nodes = [node for node in view.graph.nodes if node.op in ("Add", "Conv")]
    by_id = {id(node): node for node in nodes}

    def ends(node: gs.Node) -> list[gs.Tensor]:
        users = view.users(node.outputs[0])
        return [users[0].outputs[0]] if users and users[0].op == "Relu" else [node.outputs[0]]

    region = worth.Region(
        {key: node for key, node in by_id.items() if node.op == "Conv"},
        {key: node for key, node in by_id.items() if node.op == "Add"},
        {},
        lambda node: node.inputs if node.op == "Add" else node.inputs[:1],
        ends,
    )
    slower = worth.slower_in_integers(view, region, speeds(**us))
    return tuple(id(node) not in slower for node in nodes)


def drawn(seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    names = ("Conv", "Conv_8", "Point", "Point_8", "Add", "Add_8", "Turn")
    return dict(zip(names, (rng.uniform(0.5, 10, 7) * [1, 1, 1, 1, 0.5, 0.5, 0.2]).tolist(), strict=True))


def least(us: Mapping[str, float]) -> float:
    return min(seconds_of(split, us) for split in product((False, True), repeat=6))


@pytest.mark.parametrize("seed", range(12))
def test_no_split_of_a_residual_net_takes_less(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worth, "_SPLIT_GAINS", 0.0)
    us = drawn(seed)
    assert seconds_of(split_by_the_pass(us), us) == pytest.approx(least(us))


def test_a_split_that_gains_less_than_times_are_off_by_is_none() -> None:
    kept = 0
    for us in map(drawn, range(40)):
        all_bytes, all_floats = (seconds_of((each,) * 6, us) for each in (True, False))
        is_close = all_bytes <= 1.1 * least(us) and all_bytes <= 1.05 * all_floats
        kept += is_close and all_bytes > least(us) + 1e-6
        want = all_bytes if is_close else least(us)
        assert seconds_of(split_by_the_pass(us), us) == pytest.approx(want)
    assert kept >= 3  # splits are passed up


def test_splits_that_leave_conversions_out_of_account_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [split_by_the_pass(drawn(seed)) for seed in range(12)]
    assert len(set(found)) > 2  # all integers and all floats are not the only answers
    monkeypatch.setattr(worth, "_AMONG_OTHERS", 0.0)
    gaps = [seconds_of(split_by_the_pass(us), us) - least(us) for us in map(drawn, range(12))]
    assert max(gaps) > 1


def test_times_that_come_with_the_package_know_all_forms() -> None:
    times = load_times("vnni")
    pairs = {form.removesuffix("/8") for form in times.forms() if form.endswith("/8")}
    assert pairs >= {"Conv", "ConvEach", "ConvGroups", "MatMul", "Add"}
    assert {"QuantizeLinear", "DequantizeLinear", "Turn", *pairs} <= set(times.forms())


def test_times_that_nobody_knows_are_refused() -> None:
    with pytest.raises(InvalidConfig, match="'vnny'; expected vnni"):
        quantised(convolutions(1, "Relu"), InsertQdq(times="vnny"), context(SHAPE))
