"""Invented inputs are accepted by the model they are for, and data that does not fit is refused with the figures."""

from collections.abc import Callable

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx
import onnx_graphsurgeon as gs
import pytest
from onnx import TensorProto, helper

from graphrewrite.errors import InvalidData, InvalidModel
from graphrewrite.ir import Builder, Model
from graphrewrite.runtime import candidates, fits, run, sample_inputs

Arrays = dict[str, npt.NDArray[np.generic]]


def shapes(feeds: Arrays) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in feeds.items()}


def images() -> Model:
    b = Builder()
    x = b.input(["N", 3, "H", "W"], "x")
    return b.model(b.op("GlobalAveragePool", b.conv(x, out=4, into=3, kernel=7, pad=0)))


# ------------------------------------------------------------------------------------------------ sizes


def test_a_symbolic_batch_is_two_and_three_and_all_symbols_differ_between_the_worlds() -> None:
    one, two = (sample_inputs(images(), world=world)["x"].shape for world in (0, 1))

    assert (one[0], two[0]) == (2, 3)
    assert one[1] == two[1] == 3
    assert all(a != b for a, b in zip(one[2:], two[2:], strict=True))


def test_a_fixed_shape_is_kept() -> None:
    b = Builder()
    model = b.model(b.relu(b.input([5, 7], "x")))

    assert shapes(sample_inputs(model)) == shapes(sample_inputs(model, world=1)) == {"x": (5, 7)}
    assert len(list(candidates(model))) == 1


def test_one_symbol_is_one_size_everywhere() -> None:
    b = Builder()
    x, y = b.input(["N", "T", 4], "x"), b.input(["N", "T", 4], "y")
    feeds = sample_inputs(b.model(b.add(x, y)))

    assert feeds["x"].shape == feeds["y"].shape


@pytest.mark.parametrize("size", [224, 320])
def test_the_size_that_the_graph_needs_is_found(size: int) -> None:
    b = Builder()
    x = b.input(["N", 1, "S", "S"], "x")
    small = b.op("AveragePool", x, kernel_shape=[32, 32], strides=[32, 32])
    flat = b.op("Reshape", small, b.constant(np.array([-1, (size // 32) ** 2])))
    batch = b.op("Unsqueeze", b.op("ReduceMean", x, axes=[1, 2, 3], keepdims=0), b.constant(np.array([1])))
    feeds = sample_inputs(b.model(b.add(flat, batch)))

    assert feeds["x"].shape[1:] == (1, size, size)


def test_other_sizes_are_tried_when_shape_inference_cannot_know() -> None:
    """The graph is content with one number of pixels only, and computes that from the values: nothing shows before."""
    b = Builder()
    x = b.input(["N", 1, "S", "S"], "x")
    ones = b.op("Greater", b.op("Abs", x), b.constant(np.array(-1, np.float32)))
    per_sample = b.op("ReduceSum", b.op("Cast", ones, to=1), b.constant(np.array([1, 2, 3])), keepdims=0)
    wanted = b.op("Equal", b.op("Cast", per_sample, to=7), b.constant(np.array([128 * 128])))
    size = b.op("Where", wanted, b.constant(np.array([16])), b.constant(np.array([5])))
    one_size = b.op("ReduceMax", size, keepdims=1)
    model = b.model(b.op("Reshape", b.constant(np.zeros(16, np.float32)), one_size))

    assert sample_inputs(model)["x"].shape == (2, 1, 128, 128)


def test_huge_inputs_are_tried_last() -> None:
    """A window of 5000 makes shape inference grow the image; smaller ones must have been tried before."""
    b = Builder()
    x = b.input(["N", 1, "H", "W"], "x")
    model = b.model(b.op("MaxPool", x, kernel_shape=[5000, 5000]))
    tried = [feeds["x"].size for feeds, _ in zip(candidates(model), range(3), strict=False)]

    assert max(tried) < 1 << 24


def test_a_batch_of_one_is_tried_when_the_graph_takes_no_other() -> None:
    b = Builder()
    flat = b.op("Reshape", b.input(["N", 4], "x"), b.constant(np.array([1, 4])))

    assert shapes(sample_inputs(b.model(flat))) == {"x": (1, 4)}


def test_a_sum_of_names_is_computed() -> None:
    b = Builder()
    past, now = b.input(["batch", "past", 4], "cache"), b.input(["batch", "new", 4], "x")
    mask = b.input(["batch", "past + new"], "mask")
    joined = b.concat(past, now, axis=1)
    scaled = b.op("Mul", joined, b.op("Unsqueeze", mask, b.constant(np.array([2]))))
    feeds = sample_inputs(b.model(scaled))

    assert feeds["mask"].shape[1] == feeds["cache"].shape[1] + feeds["x"].shape[1]


def decoder(*names: str) -> Model:
    """Look up the tokens, put the past before them, and read the mask at every place of both."""
    tokens, past, mask = names
    b = Builder()
    ids, known, kept = (
        b.input(["N", tokens], "ids", dtype=np.int64),
        b.input(["N", past, 4], "past"),
        b.input(["N", mask], "attention_mask", dtype=np.int64),
    )
    x = b.op("Concat", known, b.op("Gather", b.weight(50, 4), ids), axis=1)
    zero, one = (b.constant(np.array(number, np.int64)) for number in (0, 1))
    places = b.op("Range", zero, b.op("Gather", b.op("Shape", x), one), one)
    return b.model(x, b.op("Gather", b.op("Cast", kept, to=1), places, axis=1))


def test_a_mask_may_be_as_long_as_two_other_inputs_together() -> None:
    model = decoder("new", "known", "both")

    found = [shapes(sample_inputs(model, world=world)) for world in (0, 1)]

    for feeds in found:
        assert feeds["attention_mask"][1] == feeds["ids"][1] + feeds["past"][1]
    assert found[0] != found[1]


def test_token_rows_stay_short_enough_for_their_scores() -> None:
    b = Builder()
    ids = b.input(["N", "T"], "ids", dtype=np.int64)
    words = [feeds["ids"].shape[1] for feeds in candidates(b.model(b.op("Gather", b.weight(50, 4), ids)))]
    sound = Builder()
    samples = sound.input(["N", "S"], "samples")
    heard = [feeds["samples"].shape[1] for feeds in candidates(sound.model(sound.relu(samples)))]

    assert max(words) <= 2048 < max(heard)


def test_when_nothing_fits_the_error_says_what_was_tried_and_why_not() -> None:
    b = Builder()
    wrong = b.op("Reshape", b.input(["N", 4], "x"), b.constant(np.array([3, 5])))

    with pytest.raises(InvalidModel, match=r"tried \(x \[2, 4\]\).*pass real data.*Reshape"):
        sample_inputs(b.model(wrong))


def test_samples_depend_on_the_seed_and_on_nothing_else() -> None:
    model = images()
    one, again, other = (sample_inputs(model, seed=seed)["x"] for seed in (1, 1, 2))

    assert np.array_equal(one, again) and not np.array_equal(one, other)


# ------------------------------------------------------------------------------------------------ values


def test_floats_are_standard_normal() -> None:
    b = Builder()
    x = sample_inputs(b.model(b.relu(b.input([100, 100], "x"))))["x"]

    assert (
        abs(float(np.mean(x.astype(np.float64)))) < 0.05
        and abs(float(np.std(x.astype(np.float64))) - 1) < 0.05
    )


def gather(b: Builder, ids: gs.Variable) -> gs.Variable:
    return b.op("Gather", b.weight(5, 4), ids)


def gather_after_a_detour(b: Builder, ids: gs.Variable) -> gs.Variable:
    flat = b.op("Reshape", b.op("Cast", ids, to=7), b.constant(np.array([-1])))
    return b.op("Gather", b.weight(5, 4), flat)


def gather_on_the_second_axis(b: Builder, ids: gs.Variable) -> gs.Variable:
    return b.op("Gather", b.weight(99, 5), ids, axis=1)


def gather_from_a_computed_table(b: Builder, ids: gs.Variable) -> gs.Variable:
    return b.op("Gather", b.relu(b.weight(5, 4)), ids)


def one_hot(b: Builder, ids: gs.Variable) -> gs.Variable:
    ids = b.op("Cast", ids, to=7)  # onnxruntime's kernel wants these types alike
    return b.op("OneHot", ids, b.constant(np.array(5)), b.constant(np.array([0, 1], np.float32)))


def two_tables(b: Builder, ids: gs.Variable) -> gs.Variable:
    return b.concat(b.op("Gather", b.weight(5, 4), ids), b.op("Gather", b.weight(90, 4), ids), axis=-1)


@pytest.mark.parametrize(
    "use",
    [
        gather,
        gather_after_a_detour,
        gather_on_the_second_axis,
        gather_from_a_computed_table,
        one_hot,
        two_tables,
    ],
)
@pytest.mark.parametrize("dtype", [np.int64, np.int32])
def test_indices_stay_inside_the_tables_they_look_up(
    use: Callable[[Builder, gs.Variable], gs.Variable], dtype: npt.DTypeLike
) -> None:
    b = Builder()
    ids = b.input(["N", "T"], "ids", dtype)
    values = sample_inputs(b.model(use(b, ids)))["ids"]

    # All five rows are used, and none beyond.
    assert values.dtype == dtype and sorted(set(values.reshape(-1).tolist())) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("named", [True, False])
def test_masks_are_ones_that_may_end_in_zeros(named: bool) -> None:
    b = Builder()
    mask = b.input(["N", 12], "attention_mask" if named else "m", np.int64)
    wide = b.op("Cast", mask, to=1)
    model = b.model(b.op("Sub", b.constant(np.array(1, np.float32)), wide))

    seen = [sample_inputs(model, seed=seed)[mask.name] for seed in range(6)]

    assert all(row.dtype == np.int64 and row[0].all() for row in seen)
    for row in seen:
        assert (np.diff(row.astype(int), axis=1) <= 0).all()  # ones, then zeros
    assert any(not row.all() for row in seen)


def test_sizes_and_counts_are_one() -> None:
    b = Builder()
    x, k = b.input(["N", 4], "x"), b.input([1], "k", np.int64)
    model = b.model(b.op_all("TopK", x, k, outputs=2)[0])

    assert sample_inputs(model)["k"].tolist() == [1]


def test_every_element_type_gets_values_of_its_kind() -> None:
    b = Builder()
    kinds = [np.float64, np.float16, ml_dtypes.bfloat16, np.bool_, np.uint8, np.int8, np.uint64]
    model = b.model(
        *(b.op("Identity", b.input([2, 3], f"x{i}", kind)) for i, kind in enumerate(kinds)), dtypes=kinds
    )

    feeds = sample_inputs(model)

    assert [feeds[f"x{i}"].dtype for i in range(len(kinds))] == [np.dtype(kind) for kind in kinds]
    assert int(feeds["x4"].max()) < 10 and set(feeds["x3"].reshape(-1).tolist()) <= {True, False}
    run(model, feeds)


def test_pixels_use_the_whole_byte() -> None:
    b = Builder()
    model = b.model(b.op("Cast", b.input([1, 8, 8, 3], "x", np.uint8), to=1))

    assert int(sample_inputs(model)["x"].max()) > 200


def test_texts_are_words() -> None:
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.STRING, ["N"])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, ["N"])],
    )
    model = Model.from_proto(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    )

    assert set(sample_inputs(model)["x"].tolist()) <= {"a", "b", "c"}


def test_a_sequence_cannot_be_invented_and_the_error_says_so() -> None:
    graph = helper.make_graph(
        [helper.make_node("SequenceLength", ["s"], ["y"])],
        "g",
        [helper.make_tensor_sequence_value_info("s", 1, None)],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [])],
    )
    model = Model.from_proto(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    )

    with pytest.raises(InvalidData, match="the input 's', a sequence.*pass real data"):
        sample_inputs(model)


def test_an_input_of_unknown_rank_gets_one_axis() -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = Model.from_proto(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    )

    assert sample_inputs(model)["x"].ndim == 1


# ------------------------------------------------------------------------------------------------ given data


def two_inputs() -> Model:
    b = Builder()
    x, ids = b.input(["N", 3, "H"], "x"), b.input(["N"], "ids", np.int64)
    return b.model(b.add(x, b.op("Unsqueeze", b.op("Cast", ids, to=1), b.constant(np.array([1, 2])))))


GOOD: Arrays = {"x": np.zeros((2, 3, 5), np.float32), "ids": np.zeros(2, np.int64)}
BAD: list[tuple[Arrays, str]] = [
    ({"x": GOOD["x"]}, "lacks the input 'ids'"),
    ({**GOOD, "z": GOOD["x"]}, r"has 'z'.*expected the inputs x float32\[N, 3, H\], ids int64\[N\]"),
    ({"X": GOOD["x"], "ids": GOOD["ids"]}, "lacks the input 'x' and has 'X'"),
    ({**GOOD, "x": np.zeros((2, 3), np.float32)}, r"shape \[2, 3\] for the input 'x'; expected \[N, 3, H\]"),
    ({**GOOD, "x": np.zeros((2, 4, 5), np.float32)}, r"shape \[2, 4, 5\].*expected \[N, 3, H\]"),
    ({**GOOD, "x": np.zeros((2, 3, 5))}, "float64 for the input 'x'; expected float32"),
    ({**GOOD, "ids": np.zeros(3, np.int64)}, "N = 2 in the input 'x' but 3 in 'ids'"),
]


def test_data_that_fits_passes() -> None:
    fits(two_inputs(), GOOD)
    fits(two_inputs(), {**GOOD, "x": np.zeros((2, 3, 50), np.float32)})


@pytest.mark.parametrize(("feeds", "message"), BAD, ids=[str(number) for number in range(len(BAD))])
def test_data_that_does_not_fit_is_refused_with_the_figures(feeds: Arrays, message: str) -> None:
    with pytest.raises(InvalidData, match=f"digits.npz.*{message}"):
        fits(two_inputs(), feeds, "digits.npz")
