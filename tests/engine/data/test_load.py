"""Data from files and functions: what is accepted, and what is said about the rest."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graphrewrite.data import ArraySource, DataSource, load
from graphrewrite.errors import InvalidData
from graphrewrite.ir import Builder, Model

Inputs = dict[str, tuple[tuple[int | str, ...], type]]


def taking(**inputs: tuple[tuple[int | str, ...], type]) -> Model:
    """Return a model with the given inputs: name -> (shape, element type)."""
    b = Builder()
    tensors = [b.input(shape, name=name, dtype=dtype) for name, (shape, dtype) in inputs.items()]
    return b.model(
        *(b.op("Identity", tensor) for tensor in tensors), dtypes=[dtype for _, dtype in inputs.values()]
    )


PICTURE = {"x": (("N", 3, 4, 4), np.float32)}
PAIR = {"ids": (("N", 5), np.int64), "mask": (("N", 5), np.float32)}


def whole(source: DataSource) -> dict[str, np.ndarray]:
    """Return all samples of a source, read in batches of two."""
    batches = list(source.batches(2))
    return {name: np.concatenate([batch[name] for batch in batches]) for name in batches[0]}


def refused(spec: object, model: Model) -> str:
    """Return the message with which data is refused; it is one line and has three parts."""
    with pytest.raises(InvalidData) as caught:
        list(load(str(spec), model).batches(2))
    text = str(caught.value)
    assert "\n" not in text and "expected" in text and ";" in text
    return text


# ------------------------------------------------------------------------------------------------------------ npz


def test_npz_by_input_name_with_labels(tmp_path: Path) -> None:
    ids, mask = np.arange(15).reshape(3, 5), np.ones((3, 5), np.float32)
    np.savez(tmp_path / "d.npz", ids=ids, mask=mask, labels=[0, 1, 2])
    source = load(tmp_path / "d.npz", taking(**PAIR))
    assert len(source) == 3 and source.labels is not None and source.labels.tolist() == [0, 1, 2]
    assert np.array_equal(whole(source)["ids"], ids) and np.array_equal(whole(source)["mask"], mask)


def test_npz_with_one_unnamed_array(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((5, 3, 4, 4))
    np.savez(tmp_path / "d.npz", x)
    source = load(tmp_path / "d.npz", taking(**PICTURE))
    assert whole(source)["x"].dtype == np.float32
    np.testing.assert_allclose(whole(source)["x"], x, rtol=1e-6)
    assert source.labels is None


def test_an_input_called_y_is_an_input_and_not_labels(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", y=np.ones((2, 3), np.float32))
    source = load(tmp_path / "d.npz", taking(y=(("N", 3), np.float32)))
    assert source.labels is None and len(source) == 2


def test_a_bare_npy_file(tmp_path: Path) -> None:
    np.save(tmp_path / "d.npy", np.ones((2, 3, 4, 4), np.uint8))
    assert whole(load(tmp_path / "d.npy", taking(**PICTURE)))["x"].dtype == np.float32


def test_npz_names_are_checked(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", ids=np.ones((2, 5)), masc=np.ones((2, 5)))
    text = refused(tmp_path / "d.npz", taking(**PAIR))
    assert "lacks the input 'mask'" in text and "has 'masc'" in text and "'ids' int64[N, 5]" in text


def test_an_unnamed_array_for_two_inputs_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", np.ones((2, 5)))
    assert "the model has 2" in refused(tmp_path / "d.npz", taking(**PAIR))


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 1, 4, 4), (2, 3, 5, 4), ()])
def test_shapes_are_checked(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.savez(tmp_path / "d.npz", x=np.ones(shape))
    text = refused(tmp_path / "d.npz", taking(**PICTURE))
    assert f"has shape {list(shape)} for the input 'x'; expected [N, 3, 4, 4]" in text


def test_the_number_of_samples_is_free_where_the_batch_is_fixed(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.ones((7, 3), np.float32))
    assert len(load(tmp_path / "d.npz", taking(x=((1, 3), np.float32)))) == 7


def test_samples_and_shared_sizes_must_agree(tmp_path: Path) -> None:
    model = taking(a=(("N", "L"), np.float32), b=(("N", "L"), np.float32))
    np.savez(tmp_path / "d.npz", a=np.ones((2, 5)), b=np.ones((3, 5)))
    assert "samples = 2 in the input 'a' but 3 in 'b'" in refused(tmp_path / "d.npz", model)
    np.savez(tmp_path / "d.npz", a=np.ones((2, 5)), b=np.ones((2, 6)))
    assert "L = 5 in the input 'a' but 6 in 'b'" in refused(tmp_path / "d.npz", model)


def test_labels_must_be_one_per_sample(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.ones((2, 3, 4, 4)), labels=[1, 2, 3])
    assert "3 labels for 2 samples" in refused(tmp_path / "d.npz", taking(**PICTURE))
    np.savez(tmp_path / "d.npz", x=np.ones((2, 3, 4, 4)), y=np.float32(1))
    assert "labels for 2 samples" in refused(tmp_path / "d.npz", taking(**PICTURE))


def test_no_samples_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.ones((0, 3, 4, 4)))
    assert "holds no samples" in refused(tmp_path / "d.npz", taking(**PICTURE))


@pytest.mark.parametrize(
    ("given", "dtype", "expected"),
    [
        (np.array([[1.5]], np.float64), np.float32, [[1.5]]),
        (np.array([[1.5]], np.float32), np.float16, [[1.5]]),
        (np.array([[7]], np.uint8), np.float32, [[7.0]]),
        (np.array([[True]]), np.float32, [[1.0]]),
        (np.array([[7.0]]), np.int64, [[7]]),
        (np.array([[7]], np.int32), np.int64, [[7]]),
        (np.array([[300]], np.int64), np.int32, [[300]]),
        (np.array([[1]], np.int64), np.bool_, [[True]]),
        (np.array([[np.nan]]), np.float32, [[np.nan]]),
    ],
)
def test_numbers_are_converted_where_nothing_is_lost(
    given: np.ndarray, dtype: type, expected: list[list[float]]
) -> None:
    source = load_value(given, taking(x=(("N", 1), dtype)))
    assert whole(source)["x"].dtype == dtype
    assert np.array_equal(whole(source)["x"], np.array(expected, dtype), equal_nan=dtype == np.float32)


@pytest.mark.parametrize(
    ("given", "dtype", "why"),
    [
        (np.array([[1.5]]), np.int64, "not whole"),
        (np.array([[np.nan]]), np.int64, "not whole"),
        (np.array([[300]]), np.uint8, "it holds 300 to 300"),
        (np.array([[-1]]), np.uint8, "it holds -1 to -1"),
        (np.array([[2]]), np.bool_, "it holds 2 to 2"),
        (np.array([[1e30]]), np.float16, "too large"),
        (np.array([[1 + 2j]]), np.float32, "does not hold real numbers"),
        (np.array([["a"]]), np.float32, "does not hold real numbers"),
    ],
)
def test_numbers_that_would_be_lost_are_refused(given: np.ndarray, dtype: type, why: str) -> None:
    with pytest.raises(InvalidData, match="for the input 'x'") as caught:
        load_value(given, taking(x=(("N", 1), dtype)))
    assert why in str(caught.value)


class Pickled:
    """Writes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.target,)


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    evil = np.array([Pickled(trap)], dtype=object)
    np.savez(tmp_path / "d.npz", x=evil)
    np.save(tmp_path / "d.npy", evil)
    (tmp_path / "folder").mkdir()
    np.save(tmp_path / "folder" / "a.npy", evil)
    for name in ("d.npz", "d.npy", "folder"):
        assert "Python objects" in refused(tmp_path / name, taking(**PICTURE))
    assert not trap.exists()
    np.load(tmp_path / "d.npy", allow_pickle=True)  # the trap works where pickles are allowed
    assert trap.exists()


@pytest.mark.parametrize(
    "content", [b"", b"no zip at all", b"PK\x03\x04broken", b"\x93NUMPY\x01\x00\xff\xff{"]
)
def test_damaged_files_are_one_clear_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.npz").write_bytes(content)
    assert "cannot be read" in refused(tmp_path / "d.npz", taking(**PICTURE))


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.ones((9, 3, 4, 4)))
    content = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "d.npz").write_bytes(content[: len(content) // 2])
    refused(tmp_path / "d.npz", taking(**PICTURE))
    damaged = bytearray(content)
    damaged[len(content) // 3] ^= 0xFF
    (tmp_path / "d.npz").write_bytes(bytes(damaged))
    assert "cannot be read" in refused(tmp_path / "d.npz", taking(**PICTURE))


def test_a_missing_path_and_an_unknown_kind_list_the_forms(tmp_path: Path) -> None:
    assert "module:function" in refused(tmp_path / "nothing.npz", taking(**PICTURE))
    (tmp_path / "d.csv").write_text("1,2")
    assert "no data file of a known kind" in refused(tmp_path / "d.csv", taking(**PICTURE))


# --------------------------------------------------------------------------------------------------- npy folders


def test_a_folder_of_samples_and_batches_is_read_in_name_order(tmp_path: Path) -> None:
    x = np.random.default_rng(0).standard_normal((6, 3, 4, 4)).astype(np.float32)
    np.save(tmp_path / "a.npy", x[0])  # one sample
    np.save(tmp_path / "b.npy", x[1:5])  # a batch
    np.save(tmp_path / "c.npy", x[5].astype(np.float64))
    np.save(tmp_path / "labels.npy", np.arange(6))
    source = load(tmp_path, taking(**PICTURE))
    assert len(source) == 6 and source.labels is not None and source.labels.tolist() == list(range(6))
    for size in (1, 4, 10):
        got = np.concatenate([batch["x"] for batch in source.batches(size)])
        assert np.array_equal(got, x)
    assert [len(batch["x"]) for batch in source.batches(4)] == [4, 2]


def test_a_subfolder_for_each_input(tmp_path: Path) -> None:
    model = taking(**{"in/ids:0": PAIR["ids"], "mask": PAIR["mask"]})
    for name, values in (("in_ids_0", np.arange(15).reshape(3, 5)), ("mask", np.ones((3, 5)))):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "part.npy", values)
    got = whole(load(tmp_path, model))
    assert got["in/ids:0"].tolist() == np.arange(15).reshape(3, 5).tolist()
    assert got["mask"].dtype == np.float32


def test_folders_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    (tmp_path / "ids").mkdir()
    np.save(tmp_path / "ids" / "a.npy", np.ones((3, 5), np.int64))
    assert "no subfolder with .npy files for the input 'mask' (there is 'ids')" in refused(
        tmp_path, taking(**PAIR)
    )
    (tmp_path / "mask").mkdir()
    np.save(tmp_path / "mask" / "a.npy", np.ones((2, 5)))
    assert "'ids': 3, 'mask': 2" in refused(tmp_path, taking(**PAIR))
    np.save(tmp_path / "mask" / "a.npy", np.ones((3, 6)))
    assert "a.npy' has shape [0, 6] for the input 'mask'" in refused(tmp_path, taking(**PAIR))


def test_an_input_name_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "data" / "other").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    np.save(tmp_path / "outside" / "a.npy", np.ones((2, 5)))
    np.save(tmp_path / "data" / "other" / "a.npy", np.ones((2, 5)))
    model = taking(**{"../outside": PAIR["mask"]})
    assert "no subfolder" in refused(tmp_path / "data", model)


def test_damaged_files_in_a_folder_are_named(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 3, 4, 4)))
    content = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "b.npy").write_bytes(content[:200])
    assert "b.npy' cannot be read" in refused(tmp_path, taking(**PICTURE))
    (tmp_path / "b.npy").write_bytes(b"")
    assert "b.npy' cannot be read" in refused(tmp_path, taking(**PICTURE))


def test_an_empty_folder_and_a_mixed_one_are_refused(tmp_path: Path) -> None:
    assert "holds no data (nothing)" in refused(tmp_path, taking(**PICTURE))
    (tmp_path / "readme.txt").write_text("x")
    assert "holds no data (.txt)" in refused(tmp_path, taking(**PICTURE))
    np.save(tmp_path / "a.npy", np.ones((2, 3, 4, 4)))
    (tmp_path / "a.png").write_bytes(b"")
    assert "both images and .npy" in refused(tmp_path, taking(**PICTURE))


def test_samples_of_different_sizes_in_one_batch_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones((1, 4)))
    np.save(tmp_path / "b.npy", np.ones((1, 5)))
    model = taking(x=(("N", "L"), np.float32))
    text = refused(tmp_path, model)
    assert "different sizes ([4], [5])" in text
    assert [batch["x"].shape for batch in load(tmp_path, model).batches(1)] == [(1, 4), (1, 5)]


# ------------------------------------------------------------------------------------------------------ functions


def load_value(value: object, model: Model) -> DataSource:
    """Load what a function returns, through a module made for it."""
    import sys
    from types import ModuleType

    module = ModuleType("given_data")
    module.give = lambda: value  # type: ignore[attr-defined]
    sys.modules["given_data"] = module
    try:
        return load("given_data:give", model)
    finally:
        del sys.modules["given_data"]


X = np.ones((3, 3, 4, 4))


@pytest.mark.parametrize(
    "value", [X, {"x": X}, (X, [0, 1, 2]), ({"x": X}, np.arange(3)), {"x": X, "y": [0, 1, 2]}, X.tolist()]
)
def test_functions_return_arrays_mappings_and_pairs(value: object) -> None:
    source = load_value(value, taking(**PICTURE))
    assert len(source) == 3 and whole(source)["x"].dtype == np.float32
    if isinstance(value, tuple) or (isinstance(value, dict) and "y" in value):
        assert source.labels is not None and source.labels.tolist() == [0, 1, 2]


def test_a_function_may_return_a_source_whose_batches_are_made_to_fit() -> None:
    source = load_value(ArraySource({"x": X}, np.arange(3)), taking(**PICTURE))
    assert len(source) == 3 and source.labels is not None
    assert [batch["x"].dtype for batch in source.batches(2)] == [np.float32, np.float32]
    wrong = load_value(ArraySource({"z": X}), taking(**PICTURE))
    with pytest.raises(InvalidData, match="lacks the input 'x'"):
        list(wrong.batches(2))


@pytest.mark.parametrize(
    ("value", "part"),
    [
        (7, "is a int; expected a DataSource"),
        (None, "is a NoneType"),
        ((X, X, X), "is a tuple of 3"),
        ([[1.0], [1.0, 2.0]], "form no array"),
        ({}, "lacks the input 'x'"),
    ],
)
def test_other_values_are_refused(value: object, part: str) -> None:
    with pytest.raises(InvalidData) as caught:
        load_value(value, taking(**PICTURE))
    assert part in str(caught.value)


def test_a_script_in_the_present_folder_is_found_and_may_ask_for_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_calibration.py").write_text(
        "import numpy as np\n"
        "def for_model(model):\n"
        "    return {tensor.name: np.zeros((2, *tensor.shape[1:])) for tensor in model.inputs}\n"
        "def plain(count=4):\n"
        "    return np.zeros((count, 3, 4, 4))\n"
        "def broken():\n"
        "    raise RuntimeError('no camera')\n"
        "limit = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    import sys

    before = list(sys.path)
    model = taking(**PICTURE)
    assert len(load("my_calibration:for_model", model)) == 2
    assert len(load("my_calibration:plain", model)) == 4
    assert "failed (RuntimeError: no camera)" in refused("my_calibration:broken", model)
    assert "has no 'absent'" in refused("my_calibration:absent", model)
    assert "is a int; expected a function" in refused("my_calibration:limit", model)
    assert "cannot be imported (ModuleNotFoundError" in refused("no_such_module:make", model)
    assert sys.path == before
    del sys.modules["my_calibration"]
