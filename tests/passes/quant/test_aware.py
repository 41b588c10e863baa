"""What is trained is what is deployed: the module, the graph, integer kernels and plain whole numbers agree."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest
import torch

from graphrewrite import custom_ops
from graphrewrite.bridge.transforms import LearnedThresholds
from graphrewrite.bridge.transforms.thresholds import Thresholds
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder
from graphrewrite.match.view import View
from graphrewrite.passes.quant.aware import Scheme, ends_of, place
from graphrewrite.passes.quant.learned import written
from graphrewrite.passes.quant.quantizers import Quantizer, quantizers
from graphrewrite.passes.quant.quantizers.lsq import Lsq
from graphrewrite.passes.quant.quantizers.n2uq import N2uq
from graphrewrite.passes.quant.quantizers.pams import Pams
from graphrewrite.runtime import run
from tests.passes.quant.learning import Codes, Trained, Whole, chain, feed, layers, residual, trained
from tests.passes.quant.nets import served

Floats = npt.NDArray[np.float64]
EVEN = [Lsq(2), Lsq(3, per_channel=False), Lsq(4), Lsq(8), Pams(3), Pams(8)]
ALL = [*EVEN, N2uq(2), N2uq(4)]


def in_whole_numbers(net: Trained, x: npt.NDArray[np.float32]) -> tuple[dict[str, Codes], Floats, Floats]:
    """Return the codes of a chain's tensors and its output, from sums of whole numbers; and what is near a tie.

    The last is a distance for each sample: that of the sum nearest to the middle between two codes.
    """
    a, b, c, d = layers(net.placed, net.learned)
    forms = net.learned.forms
    (inner,) = net.placed.casts
    grids = [grid for name, grid in forms.items() if name != inner]
    names = [name for name in forms if name != inner]
    codes = {inner: np.clip(np.rint(x / np.float32(a.read.step)), -128, 127).astype(np.int64)}
    near = np.full(len(x), np.inf)
    hidden = codes[inner]
    for layer, name, grid in zip((a, b, c), names, grids, strict=True):
        value = product(layer, hidden) / grid.step
        edge = np.abs(np.abs(value - np.floor(value)) - 0.5).reshape(len(x), -1)
        near = np.minimum(near, (edge / np.maximum(1, np.abs(value).reshape(len(x), -1))).min(axis=1))
        hidden = codes[name] = np.clip(np.rint(value), max(grid.low, 0), grid.high).astype(np.int64)  # type: ignore[union-attr]
        if layer is b:
            hidden = hidden.reshape(len(x), -1, 4, 2, 4, 2).max(axis=(3, 5))
    return codes, product(d, hidden.reshape(len(x), -1)), near


def product(layer: Whole, codes: Codes) -> Floats:
    """Return what a layer makes of codes: a sum of whole numbers, then one multiplication."""
    weight, given = (torch.from_numpy(each.astype(np.float64)) for each in (layer.weight, codes))
    if weight.ndim == 4:
        sums = torch.nn.functional.conv2d(given, weight, padding=1).numpy()
        return (sums + layer.bias[:, None, None]) * layer.unit.astype(np.float64)[:, None, None]
    transposed = weight if weight.shape[1] == given.shape[1] else weight.T
    return ((given @ transposed.T).numpy() + layer.bias) * layer.unit.astype(np.float64)


def deployed_codes(net: Trained, x: npt.NDArray[np.float32]) -> dict[str, Codes]:
    """Return the codes that the deployed graph makes of each rounded activation, less the code of zero."""
    model = net.integers
    makers = {out.name: node for node in model.graph.nodes for out in node.outputs}
    ends = {name: makers[name].inputs for name in net.learned.forms if makers[name].op == "DequantizeLinear"}
    found = run(model, {"x": x}, [codes.name for codes, *_ in ends.values()])
    return {
        name: found[codes.name].astype(np.int64) - int(zero.values) for name, (codes, _, zero) in ends.items()
    }


def only(outputs: Mapping[str, object]) -> Floats:
    (values,) = outputs.values()
    return np.asarray(values, np.float64)


@pytest.mark.parametrize("quantizer", EVEN, ids=str)
def test_module_graph_and_kernels_give_the_codes_of_whole_numbers(quantizer: Quantizer) -> None:
    net, x = trained(chain(), Scheme(quantizer)), feed()
    wanted, output, near = in_whole_numbers(net, x)
    # Sums of floats may fall on the other side of a tie that they are this near to.
    clear = near > 2e-6
    assert clear.mean() > 0.8

    for found in (net.codes(x), deployed_codes(net, x)):
        assert found.keys() == wanted.keys()
        for name, codes in wanted.items():
            assert np.array_equal(found[name][clear], codes[clear]), name
    for values in (
        run(net.integers, {"x": x}),
        run(net.integers, {"x": x}, optimize=True),
        net.module.run({"x": x}),
    ):
        assert np.abs(only(values) - output)[clear].max() < 1e-5 * np.abs(output).max()
    assert all(np.ptp(codes) > 0 for codes in wanted.values())


@pytest.mark.parametrize("quantizer", ALL, ids=str)
@pytest.mark.parametrize("build", [chain, residual])
def test_graph_and_module_say_the_same(quantizer: Quantizer, build: "object") -> None:
    net, x = trained(build(), Scheme(quantizer)), feed()  # type: ignore[operator]
    found, wanted = deployed_codes(net, x), net.codes(x)

    # Sums end in other digits in torch and onnxruntime: one code in thousands may be the next one.
    for name, codes in wanted.items():
        assert np.abs(found[name] - codes).max() <= 1, name
        assert (found[name] != codes).mean() < 2e-3, name
    deployed, slow = run(net.integers, {"x": x}), run(written(net.placed, net.learned, False), {"x": x})
    assert np.array_equal(only(deployed), only(slow))


def test_a_wrong_code_would_be_seen() -> None:
    net, x = trained(chain(), Scheme(Lsq(4))), feed()
    name, weight = next((name, each) for name, each in net.learned.weights.items() if each.codes.ndim == 4)
    codes = np.array(weight.codes, np.int8)
    codes.flat[0] += 1
    wrong = net.learned._replace(weights={**net.learned.weights, name: weight._replace(codes=codes)})
    wanted = in_whole_numbers(net, x)[0]
    found = deployed_codes(dataclasses.replace(net, learned=wrong), x)
    assert any(not np.array_equal(found[name], each) for name, each in wanted.items())


@pytest.mark.parametrize("signed", [False, True])
def test_numbers_that_equal_a_threshold_are_not_above_it(signed: bool) -> None:
    form = LearnedThresholds(3, signed).module(None)
    assert isinstance(form, Thresholds)
    form(torch.randn(50, generator=torch.Generator().manual_seed(3)))
    thresholds = form.thresholds().detach()
    x = torch.cat([thresholds, torch.nextafter(thresholds, torch.tensor(torch.inf)), torch.zeros(1)])
    counted = (form(x).detach() / form.step().detach()).round().numpy() + form.zero
    op = custom_ops.find("ThresholdQuantize")
    assert np.array_equal(counted, op.reference(x.numpy(), thresholds.numpy()))
    assert counted[:7].tolist() == [0, 1, 2, 3, 4, 5, 6] and counted[7:14].tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_everything_between_bytes_runs_in_integer_kernels() -> None:
    for quantizer in (Lsq(8), Lsq(4), Pams(4), Pams(4)):
        found = served(trained(chain(), Scheme(quantizer)).integers)
        assert (found["QLinearConv"], found["QGemm"], found["Conv"], found["Gemm"]) == (3, 1, 0, 0)
        found = served(trained(residual(), Scheme(quantizer)).integers)
        assert (found["QLinearConv"], found["QLinearAdd"], found["QGemm"]) == (4, 1, 1)
        assert not found.keys() & {"Conv", "Add", "Relu"}


@pytest.mark.parametrize("quantizer", [Lsq(4), Lsq(3), N2uq(2)], ids=str)
def test_a_file_holds_as_many_bits_as_were_asked_for(quantizer: Quantizer) -> None:
    net = trained(chain(), Scheme(quantizer))
    planes = [np.asarray(values) for name, values in net.integers.weights.items() if ".bits" in name]
    inner = [layer.weight.size for layer in layers(net.placed, net.learned) if layer.name in ("b", "c")]
    bits = sum(size * quantizer.bits for size in inner)
    assert bits <= 8 * sum(plane.size for plane in planes) < bits + 8 * len(planes)


def test_a_channel_that_is_all_but_zero_leaves_its_bias_alone() -> None:
    model = chain()
    weight, bias = (tensor.name for tensor in model.graph.nodes[0].inputs[1:])
    numbers, added = (np.array(model.weights[name]) for name in (weight, bias))
    numbers[1], added[1] = 1e-20, 0.7
    model.weights[weight], model.weights[bias] = numbers, added
    net, x = trained(model, Scheme(Lsq(8)), steps=1), feed()
    assert min(each.steps.min() for each in net.learned.weights.values()) < 1e-6
    found, wanted = only(run(net.integers, {"x": x})), only(net.module.run({"x": x}))
    # What is near a tie may go the other way, which is less than the bias by far.
    assert np.abs(found - wanted).max() < 0.02 * np.abs(wanted).max()


def test_what_a_sum_reads_keeps_eight_bits_and_its_layer_rounds_once_more() -> None:
    placed = place(residual(), Scheme(Lsq(2)), {})
    assert len(placed.casts) == 2  # of the input, and of what the shortcut reads too
    bits = {name: getattr(transform, "bits", 0) for name, transform in placed.transforms.items()}
    stem = next(node for node in placed.model.graph.nodes if node.name == "stem")
    shared = stem.outputs[0].outputs[0].outputs[0].name
    assert bits[shared] == 8 and bits[f"{shared}.graphrewrite.read"] == 2
    assert len(place(residual(), Scheme(Pams(4), between_bits=4), {}).casts) == 1
    assert len(place(residual(), Scheme(N2uq(2)), {}).casts) == 4


def test_ends_may_stay_in_float() -> None:
    placed = place(chain(), Scheme(Lsq(4), first_bits=32, last_bits=32), {})
    assert placed.bits == {"b": 4, "c": 4}
    assert set(placed.choice.left) == {"a", "d"}


def test_a_weight_that_is_not_trained_stays_in_float() -> None:
    model = chain()
    placed = place(model, Scheme(Lsq(4)), {model.graph.nodes[0].inputs[1].name: "a reason"})
    assert "a reason" in placed.choice.left["a"] and "a" not in placed.bits


def test_first_and_last_are_found_on_every_branch() -> None:
    b = Builder(seed=0)
    x = b.input(["N", 3, 8, 8], "x")
    left, right = b.conv(x, 4, 3, name="left"), b.conv(b.relu(x), 4, 3, name="right")
    trunk = b.relu(b.conv(b.add(left, right), 4, 4, name="trunk"))
    b.graph.outputs.append(b.conv(trunk, 2, 4, name="boxes"))
    found = ends_of(View(b.model(b.conv(b.relu(b.conv(trunk, 4, 4, name="deep")), 2, 4, name="classes"))))
    assert found.first == {"left", "right"} and found.last == {"boxes", "classes"}


def test_a_shared_weight_that_is_to_be_rounded_in_two_ways_is_refused() -> None:
    b = Builder(seed=0)
    weight = b.weight(4, 4, 3, 3)
    x = b.input(["N", 4, 8, 8], "x")
    for name in ("one", "two"):
        x = b.relu(b.op("Conv", x, weight, pads=[1] * 4, name=name))
    with pytest.raises(InvalidConfig, match="is shared"):
        place(b.model(b.conv(x, 2, 4)), Scheme(Lsq(4)), {})


@pytest.mark.parametrize("name", list(quantizers))
def test_quantizers_refuse_bits_that_bytes_do_not_hold(name: str) -> None:
    with pytest.raises(InvalidConfig, match="bits"):
        quantizers.make(name, bits=9)
    with pytest.raises(InvalidConfig, match="first_bits"):
        Scheme(quantizers.make(name), first_bits=16)
