"""Training data of any kind as samples that can be taken in any order: arrays, sources, torch and Hugging Face sets."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

from graphrewrite.bridge.train.batches import Numbers
from graphrewrite.data import ArraySource, DataSource
from graphrewrite.data.fit import LABELS, as_labels, fit, only_input, signature
from graphrewrite.errors import InvalidData
from graphrewrite.ir import Array, Model

Transform: TypeAlias = Callable[[dict[str, Array], np.random.Generator], Mapping[str, Array]]
_COLUMNS = (*LABELS, "label")


@dataclass(frozen=True)
class Taken:
    """Some samples: what the model is fed, by input name, and their labels when there are any."""

    feeds: Mapping[str, Array]
    labels: Array | None


class Rows(Protocol):
    """Samples by number, each as arrays by name, as they were given."""

    @property
    def has_labels(self) -> bool:
        """Whether every sample has a label."""
        ...

    def __len__(self) -> int:
        """Return how many there are."""
        ...

    def row(self, number: int) -> tuple[dict[str, Array], Array | None]:
        """Return one sample and its label."""
        ...


@dataclass(frozen=True)
class Samples:
    """Samples that can be taken in any order, changed on the way, and that fit the model's inputs.

    What `transform` draws depends on the seed, the epoch and the sample only, not on the order or the process.
    """

    rows: Rows
    model: Model
    what: str
    transform: Transform | None = None
    seed: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def has_labels(self) -> bool:
        """Whether every sample has a label."""
        return self.rows.has_labels

    def take(self, numbers: Numbers, epoch: int = 0) -> Taken:
        """Return the samples of these numbers, in this order, one on each position of axis 0.

        Raises:
            InvalidData: a sample lacks an input, has another size than the others or does not fit; the transform fails.
        """
        if self.transform is None and isinstance(self.rows, Held):
            taken = self.rows.take(numbers)
            return Taken(fit(taken.feeds, self.model, self.what), taken.labels)
        feeds, labels = [], []
        for number in numbers:
            row, label = self.rows.row(int(number))
            feeds.append(self._changed(row, int(number), epoch))
            labels.append(label)
        stacked = {
            tensor.name: _stacked([_named(row, tensor.name, self) for row in feeds], tensor.name, self.what)
            for tensor in self.model.inputs
        }
        known = [label for label in labels if label is not None]
        return Taken(
            fit(stacked, self.model, self.what), _stacked(known, "labels", self.what) if known else None
        )

    def _changed(self, row: dict[str, Array], number: int, epoch: int) -> Mapping[str, Array]:
        if self.transform is None:
            return row
        try:
            return self.transform(row, np.random.default_rng((self.seed, epoch, number)))
        except Exception as error:
            raise InvalidData(
                f"the transform failed on sample {number} of {self.what} ({type(error).__name__}: {error}); expected a "
                "function of a dict of arrays and a random generator; mend it"
            ) from error


@runtime_checkable
class Listed(Protocol):
    """What torch's map-style data sets, Hugging Face data sets and sequences have in common."""

    def __len__(self) -> int: ...

    def __getitem__(self, number: int, /) -> object: ...


Data: TypeAlias = DataSource | Listed | Mapping[str, npt.ArrayLike]


@dataclass(frozen=True)
class Held:
    """Samples in memory."""

    arrays: Mapping[str, Array]
    labels: Array | None

    @property
    def has_labels(self) -> bool:
        """Whether there are labels."""
        return self.labels is not None

    def __len__(self) -> int:
        return len(next(iter(self.arrays.values())))

    def row(self, number: int) -> tuple[dict[str, Array], Array | None]:
        """Return copies."""
        taken = self.take(np.array([number]))
        label = None if taken.labels is None else taken.labels[0]
        return {name: array[0] for name, array in taken.feeds.items()}, label

    def take(self, numbers: Numbers) -> Taken:
        """Return several samples at once, copied."""
        labels = None if self.labels is None else self.labels[numbers]
        return Taken({name: array[numbers] for name, array in self.arrays.items()}, labels)


@dataclass(frozen=True)
class Fetched:
    """Samples read one by one out of a data set, when they are needed.

    `column` is where a row keeps its label, `given` are labels from elsewhere.
    """

    data: Listed
    model: Model
    what: str
    column: str | None
    given: Array | None

    @property
    def has_labels(self) -> bool:
        """Whether there are labels."""
        return self.given is not None or self.column is not None

    def __len__(self) -> int:
        return len(self.data)

    def row(self, number: int) -> tuple[dict[str, Array], Array | None]:
        """Read one.

        Raises:
            InvalidData: it has no label, and the first one has.
        """
        found = _row(self.data[number], self.model, self.what)
        if self.given is not None:
            return found, np.asarray(self.given[number])
        if self.column is None:
            return found, None
        if self.column not in found:
            raise _no_column(self.column, f"sample {number} of {self.what}", found)
        return found, found.pop(self.column)


def samples_of(
    data: Data,
    model: Model,
    what: str,
    labels: str | npt.ArrayLike | None = None,
    transform: Transform | None = None,
    seed: int = 0,
) -> Samples:
    """Return data as samples that fit the model's inputs.

    A `DataSource` (what `graphrewrite.data.load` gives) or a mapping of arrays is held in memory. A torch `Dataset` or
    a Hugging Face data set is read sample by sample: a row is a mapping by input name, or, for a model with one input,
    an array or a pair of input and label. `labels` is the name of a column, or an array with one label for each sample;
    without it, labels lie with the source, in the second part of a pair, or in a column `labels`, `y` or `label`.

    Raises:
        InvalidData: the data is empty, of no known kind, or does not fit; names the input.
    """
    rows = _rows(data, model, what, labels)
    if not len(rows):
        raise InvalidData(f"{what} holds no samples; expected at least one; check how it was made")
    samples = Samples(rows, model, what, transform, seed)
    samples.take(np.zeros(1, np.int64))
    return samples


def _rows(data: Data, model: Model, what: str, labels: str | npt.ArrayLike | None) -> Rows:
    column = labels if isinstance(labels, str) else None
    given = None if isinstance(labels, str) else labels
    if isinstance(data, DataSource):
        if column is not None and data.labels is None:
            raise _no_column(column, what, {})
        return _held(data, model, what, given)
    if isinstance(data, Mapping):
        arrays = dict(data)
        column = column or _label_column(arrays, model)
        if column is not None and column not in arrays:
            raise _no_column(column, what, arrays)
        inner = arrays.pop(column) if column is not None else None
        held = ArraySource({name: np.asarray(array) for name, array in arrays.items()})
        return _held(held, model, what, inner if given is None else given)
    if isinstance(data, (str, bytes)) or not isinstance(data, Listed):
        raise InvalidData(
            f"{what} is a {type(data).__name__}, which has no samples by number; expected arrays by input name, a "
            "DataSource, a torch Dataset or a Hugging Face data set (a stream has no length: take a part of it first)"
        )
    if not len(data):
        raise InvalidData(f"{what} holds no samples; expected at least one; check how it was made")
    if given is not None:
        return Fetched(data, model, what, None, as_labels(given, len(data), what))
    first = _row(data[0], model, what)
    if column is not None and column not in first:
        raise _no_column(column, what, first)
    return Fetched(data, model, what, column or _label_column(first, model), None)


def _label_column(present: Mapping[str, object], model: Model) -> str | None:
    inputs = {tensor.name for tensor in model.inputs}
    return next((name for name in _COLUMNS if name in present and name not in inputs), None)


def _held(source: DataSource, model: Model, what: str, given: npt.ArrayLike | None) -> Held:
    if isinstance(source, ArraySource):
        arrays = {name: np.asarray(array) for name, array in source.arrays.items()}
    else:
        parts = [fit(batch, model, what) for batch in source.batches(256)]
        arrays = {
            name: np.concatenate([part[name] for part in parts]) for name in (parts[0] if parts else ())
        }
    if not arrays:
        raise InvalidData(f"{what} holds no samples; expected at least one; check how it was made")
    chosen = given if given is not None else source.labels
    samples = len(next(iter(arrays.values())))
    return Held(arrays, None if chosen is None else as_labels(chosen, samples, what))


def _named(row: Mapping[str, Array], name: str, samples: Samples) -> Array:
    if name not in row:
        raise InvalidData(
            f"a sample of {samples.what} lacks the input {name!r} (it has {', '.join(row) or 'nothing'}); expected "
            f"{signature(samples.model)}; rename the columns"
        )
    return np.asarray(row[name])


def _no_column(name: str, what: str, present: Mapping[str, object]) -> InvalidData:
    return InvalidData(
        f"{what} has no column {name!r} for the labels; it has {', '.join(present) or 'none'}; name one of them"
    )


def _row(row: object, model: Model, what: str) -> dict[str, Array]:
    """Return one sample as arrays by name; a label that came in a pair is called `labels`."""
    label: object = None
    if isinstance(row, (tuple, list)) and len(row) == 2:
        row, label = row
    if isinstance(row, Mapping):
        found = {str(name): np.asarray(value) for name, value in row.items()}
    elif hasattr(row, "__array__") or isinstance(row, (int, float, list)):
        found = {only_input(model, what).name: np.asarray(row)}
    else:
        raise InvalidData(
            f"a sample of {what} is a {type(row).__name__}; expected a mapping by input name, an array, or a pair of "
            f"inputs and label, for {signature(model)}; change what the data set returns"
        )
    if label is not None:
        found[LABELS[0]] = np.asarray(label)
    return found


def _stacked(arrays: Sequence[Array], name: str, what: str) -> Array:
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        sizes = ", ".join(str(list(shape)) for shape in sorted(shapes))
        raise InvalidData(
            f"{what} has samples of different sizes for {name!r} ({sizes}); expected one size in a batch; pad or "
            "crop them in a transform"
        )
    return np.stack(arrays)
