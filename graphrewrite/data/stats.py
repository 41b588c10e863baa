"""Statistics of named tensors, all of them in one sweep of the data through onnxruntime."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import TypeAlias, TypeVar, cast

import numpy as np

from graphrewrite.data.accumulators import Accumulator, Paired
from graphrewrite.data.fit import fit
from graphrewrite.data.source import Arrays, DataSource
from graphrewrite.errors import InvalidData, UnknownNameError
from graphrewrite.ir import Array, Model, constant_value
from graphrewrite.runtime import run_session, session

# One tensor, or the pair of tensors that some accumulators take.
Key = TypeVar("Key", bound=str | tuple[str, str])
Wanted = TypeVar("Wanted", bound=Accumulator | Sequence[Accumulator])
AnyKey: TypeAlias = str | tuple[str, str]


def collect(
    model: Model,
    source: DataSource,
    wanted: Mapping[Key, Wanted],
    batch: int = 32,
    seed: int = 0,
    progress: Callable[[str, int, int], None] | None = None,
    threads: int = 0,
) -> dict[Key, Wanted]:
    """Feed the values of tensors to accumulators and return those, ready for `result()`.

    `wanted` maps the name of any tensor of the main graph (activation, input, output, constant) to its accumulator or
    several; a pair of names hands both arrays to one that takes pairs. A constant is given once, everything else batch
    by batch in the source's order. A model with a fixed batch gets batches of that size, and what does not fill one is
    left out; otherwise every sample is used. `progress(step, done, total)` counts samples.

    Raises:
        UnknownNameError: the main graph has no such tensor.
        InvalidData: a batch does not fit the inputs, the source has fewer samples than the model's fixed batch, or a
            tensor is no plain array.
        InvalidModel: onnxruntime cannot run the model.
    """
    constants, inputs, computed = _sorted_names(model, wanted)
    sized = [
        (key, consumers)
        for key, consumers in _flat(wanted)
        if not all(name in constants for name in _names(key))
    ]
    for key, consumers in _flat(wanted):
        if all(name in constants for name in _names(key)):
            _hand_over(key, consumers, constants)
    if not sized:
        return dict(wanted)
    declared = {tensor.name for tensor in model.outputs}
    started = (
        session(model, threads=threads, outputs=[name for name in computed if name not in declared])
        if computed
        else None
    )
    fixed = fixed_batch(model)
    done = 0
    for given in _batches(source, batch, fixed, seed):
        feeds = fit(given, model, "the data")
        values: dict[str, Array] = {name: np.asarray(feeds[name]) for name in inputs if name in feeds}
        if started is not None:
            values |= run_session(started, feeds, computed)
        values |= constants
        for key, consumers in sized:
            _hand_over(key, consumers, values)
        done += _samples(feeds)
        if progress is not None:
            progress("data", done, len(source))
    if not done:
        raise no_full_batch(source, model)
    return dict(wanted)


def no_full_batch(source: DataSource, model: Model) -> InvalidData:
    """Return the error that says that a source is too short for a model exported for one batch size."""
    return InvalidData(
        f"the data has {len(source)} samples, but the model takes batches of exactly {fixed_batch(model)}; expected at "
        "least one full batch; give more data, or export the model with a symbolic batch"
    )


def fixed_batch(model: Model) -> int | None:
    """Return the batch size a model was exported for, None when the first axis of every input is symbolic."""
    for tensor in model.inputs:
        if tensor.shape and isinstance(tensor.shape[0], (int, np.integer)) and tensor.shape[0] > 0:
            return int(tensor.shape[0])
    return None


def _batches(source: DataSource, batch: int, fixed: int | None, seed: int) -> Iterator[Arrays]:
    for feeds in source.batches(fixed or batch, seed):
        size = _samples(feeds)
        if size and (fixed is None or size == fixed):
            yield feeds


def _samples(feeds: Arrays) -> int:
    return min((int(np.shape(array)[0]) for array in feeds.values() if np.ndim(array)), default=0)


def _sorted_names(
    model: Model, wanted: Mapping[Key, Wanted]
) -> tuple[dict[str, Array], list[str], list[str]]:
    """Return the wanted constants with their values, the wanted graph inputs, and the tensors that must be computed."""
    tensors = {tensor.name: tensor for node in model.graph.nodes for tensor in node.outputs}
    entering = {tensor.name for tensor in model.inputs}
    constants: dict[str, Array] = {}
    inputs: list[str] = []
    computed: list[str] = []
    for name in dict.fromkeys(name for key in wanted for name in _names(key)):
        if name in entering:
            inputs.append(name)
        elif name in model.graph.initializers:
            constants[name] = model.weights[name]
        elif name in tensors:
            value = constant_value(tensors[name])
            if value is None:
                computed.append(name)
            else:
                constants[name] = value
        else:
            close = get_close_matches(name, [*tensors, *entering, *model.graph.initializers], n=3)
            raise UnknownNameError(
                f"the model has no tensor {name!r} in its main graph; "
                + (f"did you mean {', '.join(close)}?" if close else "`graphrewrite inspect` lists the names")
            )
    return constants, inputs, computed


def _flat(wanted: Mapping[Key, Wanted]) -> Iterator[tuple[Key, Sequence[Accumulator]]]:
    for key, consumers in wanted.items():
        yield key, list(consumers) if isinstance(consumers, Sequence) else [consumers]


def _names(key: AnyKey) -> tuple[str, ...]:
    return (key,) if isinstance(key, str) else key


def _hand_over(key: AnyKey, consumers: Sequence[Accumulator], values: Mapping[str, Array]) -> None:
    arrays = []
    for name in _names(key):
        if name not in values:
            raise InvalidData(
                f"the tensor {name!r} is a sequence, a map or absent, and has no statistics; expected a plain array; "
                "name another tensor"
            )
        arrays.append(values[name])
    for consumer in consumers:
        if len(arrays) == 1:
            consumer.update(arrays[0])
        elif getattr(consumer, "takes_pairs", False):
            cast(Paired, consumer).update(arrays[0], arrays[1])
        else:
            raise InvalidData(
                f"{type(consumer).__name__} was asked for the pair {key}; it takes one tensor at a time; ask for "
                "each on its own"
            )
