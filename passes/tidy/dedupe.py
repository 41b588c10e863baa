"""Equal initializers are stored once, equal nodes computed once."""

import hashlib
from collections import defaultdict
from collections.abc import Hashable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Array, Model
from graphrewrite.match import Draft, Rule, RuleSet, is_default_domain
from graphrewrite.match.rules import Result
from graphrewrite.passes.tidy.family import tidy
from graphrewrite.passes.tidy.fold_constants import UNSTABLE
from graphrewrite.passes.tidy.reading import integer
from graphrewrite.pipeline import Claim, Context, Outcome, Same, passes

# In keys of nodes a constant of up to this many bytes counts by its contents, a larger one by identity.
_BY_CONTENTS = 512
_CHUNK = 1 << 20


class MergeNodes(Rule):
    """A node that computes what another computes already is dropped.

    Equal means: same type, attributes and inputs. Random nodes, nodes with bodies and custom nodes are left alone. One
    instance belongs to one run: it remembers the nodes it has seen.
    """

    name = "repeated computation"

    def __init__(self) -> None:
        self._seen: dict[Hashable, gs.Node] = {}

    def apply(self, draft: Draft, node: gs.Node) -> Result:
        """Let readers of `node` read an equal node instead."""
        key = _key(draft, node)
        if key is None:
            return False
        twin = self._seen.get(key)
        if twin is None or twin is node or not draft.is_alive(twin) or _key(draft, twin) != key:
            self._seen[key] = node
            return False
        pairs = [
            (old, new) for old, new in zip(node.outputs, twin.outputs, strict=True) if not old.is_empty()
        ]
        if not all(draft.can_replace(old, new) for old, new in pairs if draft.use_count(old)):
            return False
        if any(new.is_empty() for old, new in pairs if draft.use_count(old)):
            return False
        changed = False
        for old, new in pairs:
            if draft.use_count(old):
                changed = draft.replace(old, new) or changed
        return changed


def _key(draft: Draft, node: gs.Node) -> Hashable:
    if node.op in UNSTABLE or node.op == "Constant" or not is_default_domain(node):
        return None
    if node.op == "Dropout" and (draft.opset >= 12 and len(node.inputs) > 2):
        return None
    if node.op == "BatchNormalization" and integer(node, "training_mode", 0):
        return None
    attributes = []
    for name in sorted(node.attrs):
        value = _hashable(node.attrs[name])
        if value is None:
            return None
        attributes.append((name, value))
    return (
        node.op,
        tuple(attributes),
        tuple(_identity(draft, tensor) for tensor in node.inputs),
        len(node.outputs),
    )


def _hashable(value: object) -> Hashable:
    if isinstance(value, (int, float, str, bytes)):
        return type(value).__name__, value
    if isinstance(value, list) and all(isinstance(item, (int, float, str, bytes)) for item in value):
        return tuple(value)
    return None


def _identity(draft: Draft, tensor: gs.Tensor) -> Hashable:
    if tensor.is_empty():
        return None
    if isinstance(tensor, gs.Constant) and tensor._values.nbytes <= _BY_CONTENTS:
        values = draft.constant(tensor)
        if values is not None and values.dtype != object:
            return str(values.dtype), values.shape, values.tobytes()
    return id(tensor)


class MergeInitializers:
    """Equal initializers are stored once.

    Vectors that hold one number throughout (zero biases, unit gains) stay apart: they are equal by accident, and
    training or pruning will treat them differently. So do initializers a caller may override or that are outputs.
    """

    kind = "equal initializer"

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.left: dict[str, str] = {}

    def run(self) -> list[str]:
        """Let readers of equal initializers read one of them; return the names of the others."""
        draft = self.draft
        alike: dict[Hashable, list[gs.Constant]] = defaultdict(list)
        for constant in draft.graph.initializers.values():
            if draft.is_constant(constant) and not draft.is_output(constant) and draft.use_count(constant):
                alike[str(constant.dtype), tuple(constant.shape)].append(constant)
        merged = []
        for group in alike.values():
            if len(group) < 2:
                continue
            looks: dict[bytes, list[tuple[gs.Constant, Array]]] = defaultdict(list)
            for constant in group:
                values = draft.constant(constant)
                if values is not None and values.dtype != object and not _is_accidental(values):
                    looks[_glance(values)].append((constant, values))
            for candidates in looks.values():
                merged += _merge_equal(draft, candidates)
        return merged


def _merge_equal(draft: Draft, candidates: list[tuple[gs.Constant, Array]]) -> list[str]:
    if len(candidates) < 2:
        return []
    first: dict[bytes, gs.Constant] = {}
    merged = []
    for constant, values in candidates:
        kept = first.setdefault(_digest(values), constant)
        if kept is not constant and draft.replace(constant, kept):
            merged.append(constant.name)
    return merged


def _glance(values: Array) -> bytes:
    """Return a few bytes of an array: most that differ differ here already, without reading all of them."""
    flat = np.ascontiguousarray(values).reshape(-1)
    return flat[:64].tobytes() + flat[flat.size // 2 : flat.size // 2 + 64].tobytes()


def _is_accidental(values: Array) -> bool:
    if values.dtype.kind not in "fV" or values.ndim == 0:
        return False
    flat = values.reshape(-1)
    return values.ndim == 1 and bool(flat.size == 0 or (flat[0] == flat[-1] and np.all(flat == flat[0])))


def _digest(values: Array) -> bytes:
    """Hash an array's bytes piece by piece, so that a mapped file is read, not copied."""
    state = hashlib.blake2b(digest_size=16)
    raw = np.ascontiguousarray(values).reshape(-1).view(np.uint8)
    for start in range(0, raw.size, _CHUNK):
        state.update(raw[start : start + _CHUNK].data)
    return state.digest()


@passes.register("merge_duplicates")
@dataclass(frozen=True)
class MergeDuplicates:
    """Store equal initializers once and compute equal nodes once."""

    claim: ClassVar[Claim] = Same()

    def run(self, model: Model, context: Context) -> Outcome:
        """Merge them."""
        return tidy(model, lambda: RuleSet.of(MergeNodes()), (MergeInitializers,))
