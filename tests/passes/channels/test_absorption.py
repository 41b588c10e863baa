"""Constant absorption: what a removed channel contributed, when that is a constant, moves into its readers' biases."""

import numpy as np
import pytest

from graphrewrite.data import ArraySource
from graphrewrite.errors import InvalidData
from graphrewrite.ir import Array, Builder, Model
from graphrewrite.passes.channels import RemoveChannels
from graphrewrite.passes.channels.reconstruct import reconstructions
from graphrewrite.pipeline import Context
from tests.passes.channels.nets import (
    cut,
    details,
    error,
    floats,
    outputs,
    samples,
    tower,
    values,
    weight,
    without,
)
from tests.support.tolerances import UNCHANGED

SILENT = (1, 4)


def silenced(values: Array, axis: int = 0) -> Array:
    """Zero the filters of the two channels that will be silent."""
    copy = np.array(values)
    np.moveaxis(copy, axis, 0)[list(SILENT)] = 0
    return copy


def maps(reader: str, bias: bool, pad: int = 0, norm: bool = True, seed: int = 2) -> Model:
    """Six channels on a map, two of them silent but for their biases, read by one convolution or product."""
    b = Builder(seed=seed)
    x = b.input(["N", 3, 6, 6], "x")
    weight = b.constant(silenced(floats(b.rng.standard_normal((6, 3, 1, 1)))), "made")
    y = b.op("Conv", x, weight, b.constant(floats([1, 2, 3, 4, 5, 6]), "made.bias"), kernel_shape=[1, 1])
    y = b.relu(b.batchnorm(y, 6) if norm else y)
    if reader == "conv":
        return b.model(b.conv(y, 4, 6, bias=bias, pad=pad, name="reader"))
    if reader == "flat":  # every position of a channel is a column of the weight
        return b.model(b.linear(b.op("Flatten", y, axis=1), 4, 6 * 36, bias=bias, name="reader"))
    y = b.op("Flatten", b.op("GlobalAveragePool", y), axis=1)
    return b.model(b.linear(y, 4, 6, bias=bias, name="reader"))


def vectors(reader: str, bias: object, transposed: bool = True) -> Model:
    """Six hidden features of [N, 5, 3] or [N, 3], two of them silent but for their biases, read by one product."""
    b = Builder(seed=4)
    three = reader.startswith("matmul")
    y = b.op(
        "MatMul",
        b.input(["N", 5, 3] if three else ["N", 3], "x"),
        b.constant(silenced(floats(b.rng.standard_normal((3, 6))), 1), "made"),
    )
    y = b.op("Tanh", b.add(y, b.constant(floats([0.1, -2, 3, 0.4, 0.5, -6]), "made.bias")))
    if reader == "gemm":
        shape = (4, 6) if transposed else (6, 4)
        sources = [y, b.weight(*shape, name="read")]
        if bias is not None:
            sources.append(b.constant(np.asarray(bias, np.float32), "read.bias"))
        return b.model(b.op("Gemm", *sources, name="reader", transB=int(transposed)))
    y = b.op("MatMul", y, b.weight(6, 4, name="read"), name="reader")
    return b.model(b.add(y, b.constant(floats([1, 2, 3, 4]))) if reader == "matmul+add" else y)


def nets() -> dict[str, Model]:
    """Every kind of reader that can take a constant in exactly."""
    found = {
        f"{r}, bias {b}, norm {n}": maps(r, b, norm=n)
        for r in ("conv", "flat", "pooled")
        for b in (False, True)
        for n in (False, True)
    }
    biases = {"none": None, "vector": [1, 2, 3, 4], "row": [[1, 2, 3, 4]], "scalar": 2.5, "one": [2.5]}
    found |= {
        f"gemm, bias {name}, transB {t}": vectors("gemm", bias, t)
        for name, bias in biases.items()
        for t in (False, True)
    }
    return found | {reader: vectors(reader, None) for reader in ("matmul", "matmul+add")}


NETS = nets()


@pytest.mark.parametrize("name", NETS)
def test_silent_channels_leave_without_a_trace(name: str) -> None:
    model = NETS[name]

    smaller = without(model, SILENT)

    assert error(model, smaller) < UNCHANGED
    assert (
        smaller.weights["made"].shape[
            1 if "made" in smaller.weights and smaller.weights["made"].ndim == 2 else 0
        ]
        == 4
    )


@pytest.mark.parametrize("name", NETS)
def test_without_absorption_they_are_missed(name: str) -> None:
    model = NETS[name]

    assert error(model, without(model, SILENT, absorb=False)) > 0.01


def test_channels_that_are_not_silent_are_missed_all_the_same() -> None:
    model = maps("conv", bias=True)

    assert error(model, without(model, (0, 1))) > 0.01


def test_absorption_is_worth_the_bias_sent_through_norm_and_rectifier() -> None:
    """By hand: channel 1 is 2, doubled by a norm and kept by the rectifier; channel 0 is read as it is."""
    b = Builder()
    made = b.op(
        "Conv",
        b.input([1, 1, 2, 2], "x"),
        b.constant(floats([[[[1]]], [[[0]]]])),
        b.constant(floats([0, 2])),
        kernel_shape=[1, 1],
    )
    vectors = [b.constant(floats(v)) for v in ([1, 2], [0, 0], [0, 0], [1, 1])]
    y = b.relu(b.op("BatchNormalization", made, *vectors, epsilon=0.0))
    model = b.model(
        b.op("Conv", y, b.constant(floats([[[[1]], [[10]]]]), "read"), kernel_shape=[1, 1], name="reader")
    )

    smaller = without(model, (1,))

    (reader,) = [node for node in smaller.nodes("Conv") if node.name == "reader"]
    assert smaller.weights[reader.inputs[2].name].tolist() == [40]
    assert smaller.weights["read"].tolist() == [[[[1]]]]


@pytest.mark.parametrize("norm", [False, True])
def test_behind_padding_the_inside_is_exact_and_the_border_is_not(norm: bool) -> None:
    """The padding of a map is zero, not the constant: so a border hears less of it than the bias now says."""
    model = maps("conv", bias=True, pad=1, norm=norm)

    want, got = outputs(model), outputs(without(model, SILENT))

    scale = np.abs(want).max()
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    assert np.abs(got - want)[inside].max() / scale < UNCHANGED
    assert np.abs(got - want).max() / scale > 0.01


@pytest.mark.parametrize("through", ["MaxPool", "depthwise", "Concat", "residual"])
def test_constants_are_followed_through_what_lies_between(through: str) -> None:
    b = Builder(seed=7)
    x = b.input(["N", 3, 6, 6], "x")

    def made(bias: list[float]) -> object:
        weight = b.constant(silenced(floats(b.rng.standard_normal((6, 3, 1, 1)))))
        return b.op("Conv", x, weight, b.constant(floats(bias)), kernel_shape=[1, 1])

    y, width = b.relu(made([1, 2, 3, 4, 5, 6])), 6
    if through == "MaxPool":
        y = b.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2])
    elif through == "depthwise":
        y = b.conv(y, 6, 6, group=6, pad=0)
    elif through == "Concat":
        y, width = b.concat(b.op("Sigmoid", x), y), 9
    else:
        y = b.add(y, b.relu(made([6, 5, 4, 3, 2, 1])))
    model = b.model(b.conv(y, 2, width, pad=0))

    assert error(model, without(model, SILENT)) < UNCHANGED


def test_with_data_it_is_the_mean_of_the_channel() -> None:
    """The reader's bias grows by its weights times the means, worked out here in numpy."""
    model = vectors("gemm", [1, 2, 3, 4])
    source = samples(model, 40)
    hidden = model.nodes("Gemm")[0].inputs[0].name
    means = values(model, source, hidden)[0].mean(axis=0)

    smaller = without(model, (0, 3), Context(data=source))

    lost = model.weights["read"][:, [0, 3]] @ means[[0, 3]]
    np.testing.assert_allclose(weight(smaller, "read.bias"), weight(model, "read.bias") + lost, rtol=1e-5)
    np.testing.assert_array_equal(smaller.weights["read"], model.weights["read"][:, [1, 2, 4, 5]])


def test_the_mean_balances_the_outputs_on_the_data_it_was_taken_from() -> None:
    """With the mean the outputs' error averages to zero over the data, so nothing smaller is left of a bias."""
    model = vectors("gemm", [1, 2, 3, 4])
    source = samples(model, 40)

    def offset(smaller: Model) -> float:
        (want,), (got,) = values(model, source), values(smaller, source)
        return float(np.abs((got - want).mean(axis=0)).max())

    assert offset(without(model, (0, 3), Context(data=source))) < 1e-5
    assert offset(without(model, (0, 3), Context(data=source), absorb=False)) > 1e-2


def test_reconstruction_by_the_mean_is_absorption() -> None:
    model = vectors("gemm", [1, 2, 3, 4])
    context = Context(data=samples(model, 40))

    one = without(model, (0, 3), context)
    two = without(model, (0, 3), context, absorb=False, reconstruct=reconstructions.make("mean"))

    np.testing.assert_array_equal(one.weights["read.bias"], two.weights["read.bias"])


def test_a_bias_keeps_its_name_when_it_is_the_readers_own() -> None:
    model = maps("conv", bias=True)
    bias = next(node for node in model.nodes("Conv") if node.name == "reader").inputs[2].name

    smaller = without(model, SILENT)

    assert next(node for node in smaller.nodes("Conv") if node.name == "reader").inputs[2].name == bias
    assert set(smaller.weights) == set(model.weights)


def test_a_bias_that_others_read_too_is_copied_and_the_copy_is_listed() -> None:
    """Two heads share a bias; only one of them loses channels."""
    b = Builder(seed=4)
    x = b.input(["N", 3], "x")
    y = b.relu(
        b.op(
            "Gemm",
            x,
            b.constant(silenced(floats(b.rng.standard_normal((6, 3))))),
            b.constant(floats(range(6))),
            transB=1,
        )
    )
    bias = b.constant(floats([1, 2]), "shared")
    one = b.op("Gemm", y, b.weight(2, 6), bias, transB=1, name="one")
    two = b.op("Gemm", x, b.weight(2, 3), bias, transB=1, name="two")
    model = b.model(one, two)
    smaller = without(model, SILENT)

    source = samples(model)
    for want, got in zip(values(model, source), values(smaller, source), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(smaller.weights["shared"], [1, 2])
    assert next(n for n in smaller.nodes("Gemm") if n.name == "one").inputs[2].name == "shared.absorbed"


def test_no_data_and_nothing_silent_means_no_compensation() -> None:
    result = cut(tower(), RemoveChannels(absorb=True), Context())
    plain = cut(tower(), RemoveChannels(absorb=False), Context())

    assert details(result)["compensated"] == []
    for name in plain.model.weights:
        np.testing.assert_array_equal(plain.model.weights[name], result.model.weights[name])


def test_a_second_cut_of_a_compensated_model_works() -> None:
    """Every compensation of a MatMul adds a node; two of them must not share a name."""
    model = vectors("matmul", None)
    context = Context(data=samples(model))

    once = without(model, (0,), context)
    twice = without(once, (1,), context)

    names = [node.name for node in twice.graph.nodes]
    assert len(names) == len(set(names))
    assert twice.weights["read"].shape == (4, 4)


def test_data_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidData):
        without(
            maps("conv", bias=True),
            SILENT,
            Context(data=ArraySource({"other": np.zeros((2, 2), np.float32)})),
        )
