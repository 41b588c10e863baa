"""One sweep of the data through onnxruntime, for any tensors of the main graph."""

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.data import Accumulator, ArraySource, Gram, MinMax, Moments, collect
from graphrewrite.errors import InvalidData, UnknownNameError
from graphrewrite.ir import Builder, Model


def doubled(batch: int | str = "N") -> Model:
    """Return y = relu(2 x + 1) on [batch, 3], every tensor named."""
    b = Builder()
    x = b.input([batch, 3], name="x")
    two = b.constant(np.full(3, 2.0, np.float32), name="two")
    one = b.op("Constant", value=gs.Constant("", np.ones(3, np.float32)), name="one")
    scaled = b.op("Mul", x, two, name="scaled")
    return b.model(b.op("Relu", b.op("Add", scaled, one, name="shifted"), name="y"))


def samples(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 3)).astype(np.float32)


@pytest.mark.parametrize("batch", [1, 4, 32])
def test_inputs_activations_outputs_and_constants_in_one_sweep(batch: int) -> None:
    x = samples(10)
    wanted = {name: Moments(-1) for name in ("x", "scaled_out", "shifted_out", "y_out", "two", "one_out")}
    found = collect(doubled(), ArraySource({"x": x}), wanted, batch=batch)
    assert found == wanted
    expected = {"x": x, "scaled_out": 2 * x, "shifted_out": 2 * x + 1, "y_out": np.maximum(2 * x + 1, 0)}
    for name, values in expected.items():
        spread = wanted[name].result()
        assert spread.rows == 10
        np.testing.assert_allclose(spread.mean, values.astype(np.float64).mean(axis=0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(spread.variance, values.astype(np.float64).var(axis=0), rtol=1e-5)
    # a constant is handed over once, whatever the number of batches
    assert (wanted["two"].result().rows, wanted["two"].result().mean.tolist()) == (1, [2.0] * 3)
    assert wanted["one_out"].result().mean.tolist() == [1.0] * 3


def test_several_accumulators_for_one_tensor_and_one_for_a_pair() -> None:
    x = samples(7)
    moments, extremes, gram = Moments(), MinMax(), Gram(-1)
    wanted: dict[str | tuple[str, str], Accumulator | list[Accumulator]] = {
        "x": [moments, extremes],
        ("x", "scaled_out"): gram,
    }
    collect(doubled(), ArraySource({"x": x}), wanted, batch=3)
    assert moments.result().rows == 21
    assert extremes.result().high.tolist() == [float(x.max())]
    products = gram.result()
    assert products.cross is not None
    np.testing.assert_allclose(products.cross, 2 * products.gram, rtol=1e-6)


def test_a_fixed_batch_is_kept_and_what_does_not_fill_it_is_left_out() -> None:
    moments = Moments()
    collect(doubled(4), ArraySource({"x": samples(10)}), {"y_out": moments}, batch=32)
    assert moments.result().rows == 8 * 3


def test_too_few_samples_for_a_fixed_batch_is_an_error() -> None:
    with pytest.raises(InvalidData, match="3 samples, but the model takes batches of exactly 4"):
        collect(doubled(4), ArraySource({"x": samples(3)}), {"y_out": Moments()})


def test_batches_are_made_to_fit_or_refused() -> None:
    extremes = MinMax()
    collect(doubled(), ArraySource({"x": samples(3).astype(np.float64)}), {"y_out": extremes})
    assert extremes.result().low.tolist() >= [0.0]
    with pytest.raises(InvalidData, match="lacks the input 'x'"):
        collect(doubled(), ArraySource({"z": samples(3)}), {"y_out": MinMax()})


def test_progress_counts_samples() -> None:
    seen: list[tuple[str, int, int]] = []
    collect(
        doubled(),
        ArraySource({"x": samples(10)}),
        {"y_out": Moments()},
        batch=4,
        progress=lambda *step: seen.append(step),
    )
    assert seen == [("data", 4, 10), ("data", 8, 10), ("data", 10, 10)]


def test_constants_alone_need_no_data() -> None:
    class Untouchable:
        labels = None

        def __len__(self) -> int:
            return 1

        def batches(self, size: int, seed: int = 0) -> Iterator[Mapping[str, np.ndarray]]:
            raise AssertionError("the data was read")

    extremes = MinMax()
    collect(doubled(), Untouchable(), {"two": extremes})
    assert extremes.result().low.tolist() == [2.0]


def test_an_unknown_name_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match=r"no tensor 'scaled_ou'.*scaled_out"):
        collect(doubled(), ArraySource({"x": samples(2)}), {"scaled_ou": Moments()})


def test_a_sequence_has_no_statistics() -> None:
    b = Builder()
    x = b.input(["N", 4], name="x")
    parts = b.op("SplitToSequence", x, axis=1, name="parts")
    model = b.model(b.op("ConcatFromSequence", parts, axis=1))
    with pytest.raises(InvalidData, match="'parts_out' is a sequence"):
        collect(model, ArraySource({"x": samples(2)[:, :1].repeat(4, axis=1)}), {"parts_out": Moments()})


def test_the_model_is_left_as_it_was() -> None:
    model = doubled()
    before = model.to_proto().SerializeToString(deterministic=True)
    collect(model, ArraySource({"x": samples(2)}), {"scaled_out": Moments()})
    assert model.to_proto().SerializeToString(deterministic=True) == before
