"""Training data of every kind gives the same samples, in the model's types, and is refused by name where it cannot."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, IterableDataset, TensorDataset

from graphrewrite.bridge.train.samples import Data, Transform, samples_of
from graphrewrite.data import ArraySource, load
from graphrewrite.errors import InvalidData
from graphrewrite.ir import Array, Builder, Model

X = np.random.default_rng(0).standard_normal((6, 3)).astype(np.float32)
Y = np.array([3, 1, 4, 1, 5, 9])


def model(*inputs: str) -> Model:
    b = Builder(seed=0)
    tensors = [b.input(["N", 3], name) for name in inputs or ("x",)]
    return b.model(*(b.relu(tensor) for tensor in tensors))


class Columns:
    """Looks like a Hugging Face data set: columns, rows by number as dicts of Python lists."""

    def __init__(self, **columns: Array) -> None:
        self.columns = columns

    @property
    def column_names(self) -> list[str]:
        return list(self.columns)

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, number: int) -> dict[str, object]:
        return {name: column[number].tolist() for name, column in self.columns.items()}


class Dicts(Dataset[Mapping[str, object]]):
    """A torch data set whose rows are dicts of tensors."""

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, number: int) -> Mapping[str, object]:
        return {"x": torch.from_numpy(X[number]), "label": int(Y[number])}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.savez(tmp_path / "data.npz", x=X, labels=Y)
    return tmp_path / "data.npz"


KINDS: dict[str, Data] = {
    "source": ArraySource({"x": X}, Y),
    "mapping": {"x": X.astype(np.float64), "y": Y},
    "pairs": TensorDataset(torch.from_numpy(X), torch.from_numpy(Y)),
    "dicts": Dicts(),
    "columns": Columns(x=X, label=Y),
    "rows": [(row, label) for row, label in zip(X, Y, strict=True)],
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_samples(kind: str) -> None:
    samples = samples_of(KINDS[kind], model(), "the data")
    taken = samples.take(np.array([4, 0]))
    assert len(samples) == 6 and samples.has_labels
    assert taken.feeds["x"].dtype == np.float32
    assert np.array_equal(taken.feeds["x"], X[[4, 0]])
    assert taken.labels is not None and taken.labels.tolist() == [5, 3]


def test_what_load_opens_can_be_trained_on(folder: Path) -> None:
    taken = samples_of(load(folder, model()), model(), "the data").take(np.array([5]))
    assert (
        np.array_equal(taken.feeds["x"], X[5:]) and taken.labels is not None and taken.labels.tolist() == [9]
    )


def test_labels_come_from_a_column_or_from_outside() -> None:
    both = Columns(x=X, digit=Y, label=np.zeros(6))
    inside = samples_of(both, model(), "the data", "digit").take(np.array([2]))
    outside = samples_of([row for row in X], model(), "the data", Y).take(np.array([2]))
    over = samples_of(ArraySource({"x": X}, np.zeros(6)), model(), "the data", Y).take(np.array([2]))
    for taken in (inside, outside, over):
        assert taken.labels is not None and taken.labels.tolist() == [4]
    assert samples_of({"x": X}, model(), "the data").take(np.array([2])).labels is None


def shifted(sample: dict[str, Array], rng: np.random.Generator) -> Mapping[str, Array]:
    return {"x": np.add(sample["x"][:3], rng.integers(10))}


def test_a_transform_depends_on_seed_epoch_and_sample_only() -> None:
    wide = np.concatenate([X, X], axis=1)  # it may also change what does not fit yet
    samples = samples_of({"x": wide}, model(), "the data", transform=shifted, seed=3)
    together = samples.take(np.array([1, 2, 3]), 1).feeds["x"]
    alone = samples.take(np.array([2]), 1).feeds["x"]
    assert np.array_equal(together[1:2], alone)
    first, second = [np.subtract(samples.take(np.arange(6), epoch).feeds["x"], X) for epoch in (0, 1)]
    assert not np.array_equal(first, second)
    drawn = np.random.default_rng((3, 1, 2)).integers(10)
    assert np.allclose(np.float32(alone) - X[2], drawn, atol=1e-6)


def broken(sample: dict[str, Array], rng: np.random.Generator) -> Mapping[str, Array]:
    raise ValueError("no luck")


class Stream(IterableDataset[object]):
    """Has no length."""

    def __iter__(self) -> Iterator[object]:
        return iter(X)


@pytest.mark.parametrize(
    ("data", "labels", "transform", "message"),
    [
        ({"z": X}, None, None, "lacks the input 'x'"),
        ({"x": X[:, :2]}, None, None, r"shape \[1, 2\] for the input 'x'"),
        ({"x": X}, "digit", None, "no column 'digit'"),
        (ArraySource({"x": X}), "digit", None, "no column 'digit'"),
        (Columns(x=X), "digit", None, "no column 'digit'"),
        (Columns(z=X), None, None, "lacks the input 'x'"),
        ({"x": X}, Y[:4], None, "4 labels for 6 samples"),
        ([row for row in X], Y[:4], None, "4 labels for 6 samples"),
        ([], None, None, "holds no samples"),
        ({"x": X[:0]}, None, None, "samples"),
        ("digits.npz", None, None, "no samples by number"),
        (Stream(), None, None, "no samples by number"),
        ([object()], None, None, "a sample of the data is a object"),
        ({"x": X}, None, broken, "failed on sample 0 .* no luck"),
    ],
)
def test_what_cannot_be_used_is_named(
    data: Data, labels: object, transform: Transform | None, message: str
) -> None:
    with pytest.raises(InvalidData, match=message):
        samples_of(data, model(), "the data", labels, transform)  # type: ignore[arg-type]


def test_samples_of_different_size_are_refused() -> None:
    ragged = [{"x": X[0]}, {"x": X[0, :2]}]
    samples = samples_of(ragged, model(), "the data")
    with pytest.raises(InvalidData, match=r"different sizes for 'x' \(\[2\], \[3\]\)"):
        samples.take(np.array([0, 1]))


def test_a_model_of_two_inputs_needs_rows_by_name() -> None:
    two = model("a", "b")
    assert len(samples_of(Columns(a=X, b=X), two, "the data").take(np.arange(2)).feeds) == 2
    with pytest.raises(InvalidData, match="which input"):
        samples_of([row for row in X], two, "the data")
