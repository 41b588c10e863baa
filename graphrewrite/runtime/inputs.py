"""Inputs invented for a model that came without data, and the check that given data fits.

Sizes come from shape inference, values from what the graph does with them: indices stay inside the tables they look
up, masks are ones with a padded end, sizes and repeats are one, everything else is standard normal.
"""

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.errors import InvalidData, InvalidModel
from graphrewrite.ir import Array, Model, ShapeInfo, infer
from graphrewrite.runtime.session import Feeds, run_session, session
from graphrewrite.runtime.uses import Use, use_of

# Tried in this order when onnxruntime refuses the sizes that shape inference chose.
IMAGE_SIZES = (32, 64, 96, 128, 224, 256, 320, 384, 512, 640)
SEQUENCE_SIZES = (8, 16, 32, 64, 128, 256, 512, 1024, 4096, 16000)

# Tokens are compared with each other: beyond this their scores alone would fill a machine.
_MOST_TOKENS = 2048

# Elements of one input that are drawn without a thought: a tenth of a second's work.
_MODEST = 1 << 24

_BATCH = "batch"
_IMAGE = "image"
_SEQUENCE = "sequence"


def sample_inputs(
    model: Model, seed: int = 0, world: int = 0, info: ShapeInfo | None = None
) -> dict[str, Array]:
    """Return seeded random inputs that onnxruntime accepts for this model.

    Symbolic sizes are those of sample world 0 or 1 of shape inference (a batch-like axis has 2 or 3), so all of them
    differ between the worlds. When onnxruntime refuses them, others are tried.

    Raises:
        InvalidData: an input is of a kind no sample can be made for (a sequence, a map, an unknown type).
        InvalidModel: onnxruntime refuses all sizes tried; the message holds its reason for the first.
        UnsupportedOp: onnxruntime has no kernel for an operator of the model.
    """
    options = candidates(model, seed, world, info)
    likely = next(options)
    upcoming = next(options, None)
    if upcoming is None:
        return likely
    started = session(model, optimize=False)
    tried: list[str] = []
    first: InvalidModel | None = None
    for feeds in itertools.chain([likely, upcoming], options):
        try:
            run_session(started, feeds)
        except InvalidModel as error:
            first = first or error
            tried.append(_sizes_text(feeds))
        else:
            return feeds
    more = f" and {len(tried) - 3} more" if len(tried) > 3 else ""
    raise InvalidModel(
        f"no sizes could be found that the model runs with; tried {', '.join(tried[:3])}{more}; pass real data. "
        f"The first failure: {first}"
    )


def candidates(
    model: Model, seed: int = 0, world: int = 0, info: ShapeInfo | None = None
) -> Iterator[dict[str, Array]]:
    """Yield inputs to try, the most plausible sizes first; just one when no dimension is symbolic.

    Raises:
        InvalidData: an input is of a kind no sample can be made for.
    """
    if any(tensor.type != "tensor_type" or tensor.dtype is None for tensor in model.inputs):
        _refuse(model)
    info = info or infer(model)
    plan = [_Input.of(tensor, info) for tensor in model.inputs]
    roles = _roles(plan)
    seen: set[tuple[tuple[int, ...], ...]] = set()
    inferred = info.sample_shapes(world)
    complete = all(entry.name in inferred for entry in plan)
    first = [inferred[entry.name] for entry in plan] if complete else []
    # Inference may grow an axis far to make a window fit; what takes a while just to draw comes last.
    is_modest = all(math.prod(shape) <= _MODEST for shape in first)
    if complete and is_modest:
        seen.add(tuple(first))
        yield _filled(plan, first, seed, world)
    for by_symbol in _of_tokens(plan, roles, world):
        shapes = [entry.sizes(by_symbol, {symbol: symbol for symbol in by_symbol}) for entry in plan]
        seen.add(tuple(shapes))
        yield _filled(plan, shapes, seed, world)
    for attempt in range(len(IMAGE_SIZES)):
        sizes = {_IMAGE: IMAGE_SIZES[attempt] + 32 * world, _SEQUENCE: SEQUENCE_SIZES[attempt] * (1 + world)}
        if sizes[_SEQUENCE] > _MOST_TOKENS and any(entry.holds_tokens(roles) for entry in plan):
            break
        for batch in (2 + world, 1):
            shapes = [entry.sizes({**sizes, _BATCH: batch}, roles) for entry in plan]
            if tuple(shapes) not in seen:
                seen.add(tuple(shapes))
                yield _filled(plan, shapes, seed, world)
    if complete and not is_modest:
        yield _filled(plan, first, seed, world)


def fits(model: Model, feeds: Feeds, what: str = "the data") -> None:
    """Check that arrays can be fed to a model: names, ranks, fixed sizes, element types, symbols that agree.

    Raises:
        InvalidData: with the input's name, what the model expects and what was given.
    """
    expected = {tensor.name: tensor for tensor in model.inputs}
    missing = [name for name in expected if name not in feeds]
    unknown = [name for name in feeds if name not in expected]
    if missing or unknown:
        wrong = [f"lacks the input {', '.join(map(repr, missing))}"] if missing else []
        wrong += [f"has {', '.join(map(repr, unknown))}, which the model does not take"] if unknown else []
        raise InvalidData(
            f"{what} {' and '.join(wrong)}; expected the inputs {_signature(model)}; rename the arrays"
        )
    symbols: dict[str, tuple[str, int]] = {}
    for name, tensor in expected.items():
        array = np.asarray(feeds[name])
        if (
            tensor.dtype is not None
            and array.dtype != np.dtype(tensor.dtype)
            and not _both_text(tensor.dtype, array)
        ):
            raise InvalidData(
                f"{what} has {array.dtype} for the input {name!r}; expected {np.dtype(tensor.dtype)}; convert the array"
            )
        if tensor.shape is None:
            continue
        fixed_differs = any(
            isinstance(d, int) and d > 0 and d != n for d, n in zip(tensor.shape, array.shape, strict=False)
        )
        if array.ndim != len(tensor.shape) or fixed_differs:
            raise InvalidData(
                f"{what} has shape {list(array.shape)} for the input {name!r}; expected {_shape_text(tensor.shape)}; "
                "reshape or crop the array"
            )
        for symbol, size in zip(tensor.shape, array.shape, strict=True):
            if isinstance(symbol, str) and symbols.setdefault(symbol, (name, size))[1] != size:
                other, there = symbols[symbol]
                raise InvalidData(
                    f"{what} has {symbol} = {there} in the input {other!r} but {size} in {name!r}; expected one size; "
                    "check that the samples belong together"
                )


@dataclass(frozen=True)
class _Input:
    """One graph input: its declared dimensions and what the graph does with it."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int | str | None, ...]
    use: Use

    @classmethod
    def of(cls, tensor: gs.Variable, info: ShapeInfo) -> "_Input":
        shape = tuple(tensor.shape) if tensor.shape is not None else (None,)
        return cls(tensor.name, np.dtype(tensor.dtype), shape, use_of(tensor, info))

    def symbol(self, axis: int) -> str:
        """Return the name of a symbolic axis; an unnamed one is called after its place."""
        dim = self.shape[axis]
        return dim if isinstance(dim, str) and dim else f"{self.name}.{axis}"

    def holds_tokens(self, roles: dict[str, str]) -> bool:
        """Whether it is a row of whole numbers of free length: indices of words, or a mask of them."""
        free = [roles[self.symbol(axis)] for axis, dim in enumerate(self.shape) if not _is_fixed(dim)]
        return self.dtype.kind in "iub" and len(self.shape) == 2 and _SEQUENCE in free

    def sizes(self, by_role: dict[str, int], roles: dict[str, str]) -> tuple[int, ...]:
        found = []
        for axis, dim in enumerate(self.shape):
            if isinstance(dim, int) and dim >= 0:
                found.append(dim)
            else:
                # "past_length + 1": exporters of language models write sums as names.
                terms = [term.strip() for term in self.symbol(axis).split("+")]
                if all(term.isdigit() or term in roles for term in terms):
                    found.append(sum(int(t) if t.isdigit() else by_role[roles[t]] for t in terms))
                else:
                    found.append(by_role[roles[self.symbol(axis)]])
        return tuple(found)


def _is_fixed(dim: int | str | None) -> bool:
    return isinstance(dim, int) and dim >= 0


def _of_tokens(plan: Sequence[_Input], roles: dict[str, str], world: int) -> Iterator[dict[str, int]]:
    """Yield small sizes by symbol (tables of positions are short), then those where a mask is as long as two others.

    A mask covers past and new tokens; an exporter that gives every size a name of its own leaves that unsaid.
    """
    free = [symbol for symbol, role in roles.items() if role != _BATCH and "+" not in symbol]
    masks = dict.fromkeys(e.symbol(1) for e in plan if e.holds_tokens(roles) and not _is_fixed(e.shape[1]))
    if not masks or not 2 <= len(free) <= 6:
        return
    sizes = {symbol: 2 + world for symbol, role in roles.items() if role == _BATCH}
    sizes |= {symbol: 3 + world + 2 * number for number, symbol in enumerate(free)}
    yield sizes
    for total in masks:
        for a, b in itertools.combinations([symbol for symbol in free if symbol != total], 2):
            yield {**sizes, total: sizes[a] + sizes[b]}


def _roles(plan: Sequence[_Input]) -> dict[str, str]:
    """Decide for every symbol what it measures; one name has one role, and the batch goes before all."""
    roles: dict[str, str] = {}
    for entry in plan:
        for axis, dim in enumerate(entry.shape):
            if isinstance(dim, int) and dim >= 0:
                continue
            symbol = entry.symbol(axis)
            role = _role(dim if isinstance(dim, str) else "", axis, len(entry.shape))
            if roles.get(symbol) != _BATCH:
                roles[symbol] = role
    return roles


def _role(name: str, axis: int, rank: int) -> str:
    """Judge a symbolic dimension by what it is called, then by where it stands."""
    word = name.lower()
    if "batch" in word:
        return _BATCH
    if re.search("seq|len|time|token|frame", word):
        return _SEQUENCE
    if re.search("height|width", word):
        return _IMAGE
    if axis == 0:
        return _BATCH
    return _IMAGE if rank >= 4 and axis != 1 else _SEQUENCE


def _refuse(model: Model) -> None:
    for tensor in model.inputs:
        if tensor.type == "tensor_type" and tensor.dtype is not None:
            continue
        kind = (
            tensor.type.removesuffix("_type") if tensor.type != "tensor_type" else "tensor of undeclared type"
        )
        raise InvalidData(
            f"no sample can be made up for the input {tensor.name!r}, a {kind}; expected plain tensors; "
            "pass real data, or a model without that input"
        )


def _filled(
    plan: Sequence[_Input], shapes: Sequence[tuple[int, ...]], seed: int, world: int
) -> dict[str, Array]:
    rng = np.random.default_rng([seed, world])
    return {entry.name: _values(entry, shape, rng) for entry, shape in zip(plan, shapes, strict=True)}


def _values(entry: _Input, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    kind = entry.dtype.kind
    if entry.dtype.hasobject or kind in "US":
        return np.array(rng.choice(["a", "b", "c"], size=shape), dtype=object)
    if entry.use.is_parameter:
        return np.ones(shape, dtype=entry.dtype)
    if entry.use.is_mask and kind in "iub":
        return _mask(shape, rng).astype(entry.dtype)
    if kind == "b":
        return np.asarray(rng.integers(0, 2, shape).astype(bool))
    if kind in "iu":
        pixels = entry.dtype == np.uint8 and len(shape) >= 3
        limit = entry.use.limit if entry.use.limit is not None else 256 if pixels else 10
        largest = 2 ** (8 * entry.dtype.itemsize - (kind == "i")) - 1
        return np.asarray(rng.integers(0, max(min(limit, largest), 1), shape).astype(entry.dtype))
    if kind == "c":
        return np.asarray((rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(entry.dtype))
    if "int" in entry.dtype.name:  # the sub-byte integers, which numpy files as "void"
        return np.asarray(rng.integers(0, 2, shape).astype(np.int8).astype(entry.dtype))
    return np.asarray(rng.standard_normal(shape).astype(entry.dtype))


def _mask(shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Ones; every row but the first may end in a few zeros, as padded batches do."""
    mask = np.ones(shape, dtype=np.int8)
    if len(shape) == 2 and shape[1] > 2:
        for row in range(1, shape[0]):
            padded = int(rng.integers(0, shape[1] // 3 + 1))
            mask[row, shape[1] - padded :] = 0
    return mask


def _both_text(dtype: np.dtype[np.generic], array: Array) -> bool:
    return np.dtype(dtype).kind in "OUS" and array.dtype.kind in "OUS"


def _shape_text(shape: Sequence[int | str | None]) -> str:
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"


def _signature(model: Model) -> str:
    return ", ".join(
        f"{tensor.name} {np.dtype(tensor.dtype) if tensor.dtype is not None else '?'}"
        f"{_shape_text(tensor.shape) if tensor.shape is not None else ''}"
        for tensor in model.inputs
    )


def _sizes_text(feeds: Feeds) -> str:
    return "(" + ", ".join(f"{name} {list(np.shape(array))}" for name, array in feeds.items()) + ")"
