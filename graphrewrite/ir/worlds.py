"""Sample worlds: two sets of numbers for the symbolic sizes of a model's inputs, chosen so that the graph can run.

An axis 0 has 2 and 3, image-like axes 64 and 96, all others 8 and 12. One name is one size wherever it occurs. Where
these contradict the graph (an axis meets a constant of another size, a window does not fit), others are tried.
"""

import ast
from collections.abc import Iterable, Mapping, Sequence
from math import gcd

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir.declared import item_of
from graphrewrite.ir.shape_rules.call import Elements, Fact
from graphrewrite.ir.shape_rules.sweep import Sweep
from graphrewrite.ir.symbols import Dim, Sym, Symbols, floor_div, sample_of

Sizes = dict[str, tuple[int, int]]

_BATCH = (2, 3)
_IMAGE = (64, 96)
_SEQUENCE = (8, 12)
# A window that does not fit: sizes other than the batch grow by this factor.
_GROWTH = 4
# When the graph contradicts every choice so far: sizes that networks with a fixed input size are trained for.
_COMMON = (224, 64, 32, 256, 128, 28, 512, 384, 299, 320, 640, 48, 96, 16, 77)
# Beyond this an axis is not made longer.
_LONGEST = 1 << 17


def first_sizes(inputs: Iterable[gs.Variable]) -> Sizes:
    """Choose numbers for every symbolic size of the inputs; computed sizes such as "past + 1" are left out."""
    roles: dict[str, tuple[int, int]] = {}
    declared = list(inputs)
    plain = _plain_names(declared)
    for tensor in declared:
        for axis, dim in enumerate(tensor.shape or ()):
            name = symbol_name(tensor, axis, dim)
            if name is None or _expression(name, plain) is not None:
                continue
            role = _role(tensor, axis)
            # Of several roles of one name the batch counts most, then the image.
            if name not in roles or role < roles[name]:
                if name in roles and roles[name] == _BATCH:
                    continue
                roles[name] = role if role == _BATCH else max(role, roles.get(name, role))
    return roles


def _role(tensor: gs.Variable, axis: int) -> tuple[int, int]:
    if axis == 0:
        return _BATCH
    shape = tensor.shape
    floats = (
        tensor.dtype is None or np.dtype(tensor.dtype).kind not in "iub" or np.dtype(tensor.dtype) == np.uint8
    )
    if floats and len(shape) in (4, 5):
        first, last = isinstance(shape[1], (int, np.integer)), isinstance(shape[-1], (int, np.integer))
        if axis >= 2 and (first or not last):
            return _IMAGE
        if last and not first and axis < len(shape) - 1:
            return _IMAGE
    return _SEQUENCE


def symbol_name(tensor: gs.Variable, axis: int, dim: object) -> str | None:
    """Return the name of a symbolic axis (an unnamed one is called after its place), None for a static axis."""
    if isinstance(dim, (int, np.integer)) and dim >= 0:
        return None
    return dim if isinstance(dim, str) and dim else f"{tensor.name}.{axis}"


def declare_inputs(sweep: Sweep, inputs: Sequence[gs.Variable], sizes: Mapping[str, tuple[int, int]]) -> None:
    """File shapes and types of the inputs, naming their symbolic sizes."""
    plain = _plain_names(inputs)
    for tensor in inputs:
        if tensor.dtype is not None:
            sweep.dtypes[tensor.name] = np.dtype(tensor.dtype)
        held = item_of(tensor)
        if held is not None:
            dtype, dims = held
            sizes_held = tuple(dim if isinstance(dim, int) else sweep.symbols.unknown() for dim in dims)
            sweep.sequences[tensor.name] = Elements((Fact(sizes_held, dtype),), counted=False)
        if tensor.shape is None:
            continue
        shape: list[Dim] = []
        for axis, dim in enumerate(tensor.shape):
            name = symbol_name(tensor, axis, dim)
            if name is None:
                shape.append(int(dim))
                continue
            tree = _expression(name, plain)
            known = None if tree is None else _value_of(tree, sweep.symbols, sizes)
            shape.append(sweep.symbols.size(name, sizes.get(name, _SEQUENCE)) if known is None else known)
        sweep.shapes[tensor.name] = tuple(shape)


def other_sizes(symbols: Symbols, tried: list[Sizes], improved: bool) -> Sizes | None:
    """Return sizes that mend what the last sweep found contradictory, None when nothing is left to try.

    `tried` lists what was swept already; the last of it is what `symbols` tells about, and `improved` whether it was
    the best so far. If not, mending goes astray and sizes that networks are often made for are tried instead.
    """
    contradicted = bool(symbols.conflicts or symbols.remainders)
    if improved or not contradicted:
        changed = dict(tried[-1])
        for a, b in symbols.conflicts:
            _make_equal(a, b, tried[-1], changed)
        for a, b in symbols.remainders:
            _make_divisible(a, b, tried[-1], changed)
        if symbols.too_small and changed == tried[-1]:
            for name, pair in changed.items():
                if pair[0] > _BATCH[1] and pair[1] * _GROWTH <= _LONGEST:
                    changed[name] = (pair[0] * _GROWTH, pair[1] * _GROWTH)
        if changed not in tried:
            return changed
    if not contradicted:
        return None
    for common in _COMMON:
        changed = {name: pair if pair == _BATCH else (common, common) for name, pair in tried[0].items()}
        if changed not in tried:
            return changed
    return None


def _make_equal(a: Dim, b: Dim, sizes: Sizes, changed: Sizes) -> None:
    """Solve a == b for one named size that occurs linearly; a size that was changed already stays."""
    difference = a - b
    if not isinstance(difference, Sym):
        return
    for name in _candidates(difference, sizes):
        if changed[name] != sizes[name]:
            return
        solved = [_solution(difference, name, sizes[name][world], world) for world in (0, 1)]
        if solved[0] is not None and solved[1] is not None:
            changed[name] = (solved[0], solved[1])
            return


def _solution(difference: Sym, name: str, present: int, world: int) -> int | None:
    """Return the number for which a difference vanishes in one world, if it is linear in the name."""
    slope = 0
    total = sample_of(difference, world)
    for monomial, factor in difference.terms:
        atoms = [difference.table.atoms[index] for index in monomial]
        own = [atom for atom in atoms if atom.kind == "size" and atom.args[0] == name]
        rest = [atom for atom in atoms if atom not in own]
        if len(own) > 1 or any(name in _names_within(atom.args) for atom in rest if atom.kind != "size"):
            return None
        if own:
            for atom in rest:
                number = atom.sample[world]
                if number is None:
                    return None
                factor *= number
            slope += factor
    if total is None or not slope or total % slope:
        return None
    number = present - total // slope
    return number if 1 <= number <= _LONGEST else None


def _make_divisible(a: Dim, b: Dim, sizes: Sizes, changed: Sizes) -> None:
    """Make b divide a by lengthening one named size in a."""
    if not isinstance(a, Sym):
        return
    for name in _candidates(a, sizes):
        if changed[name] != sizes[name]:
            return
        pair = []
        for world in (0, 1):
            above, below = sample_of(a, world), sample_of(b, world)
            pair.append(sizes[name][world] * (below // gcd(above, below)) if above and below else 0)
        if all(0 < size <= _LONGEST for size in pair):
            changed[name] = (pair[0], pair[1])
            return


def _candidates(dim: Sym, sizes: Sizes) -> list[str]:
    """Return the named sizes that may be changed to mend an expression: the batch only when it stands alone."""
    names = sorted(_names_within([dim]) & set(sizes))
    return [name for name in names if sizes[name] != _BATCH] or names


def _names_in(dim: Sym) -> set[str]:
    atoms = {index for monomial, _ in dim.terms for index in monomial}
    return {str(dim.table.atoms[index].args[0]) for index in atoms if dim.table.atoms[index].kind == "size"}


def _names_within(args: Iterable[object]) -> set[str]:
    """Return the named sizes anywhere inside an expression."""
    names: set[str] = set()
    seen: set[int] = set()
    stack = [arg for arg in args if isinstance(arg, Sym)]
    while stack:
        dim = stack.pop()
        if dim.number in seen:
            continue
        seen.add(dim.number)
        names |= _names_in(dim)
        for index in {index for monomial, _ in dim.terms for index in monomial}:
            atom = dim.table.atoms[index]
            if atom.kind != "size":
                stack.extend(arg for arg in atom.args if isinstance(arg, Sym))
    return names


def _plain_names(inputs: Iterable[gs.Variable]) -> frozenset[str]:
    names = {dim for tensor in inputs for dim in tensor.shape or () if isinstance(dim, str)}
    return frozenset(name for name in names if name.isidentifier())


def _expression(name: str, plain: frozenset[str]) -> ast.expr | None:
    """Parse a dimension such as "past + 1" whose names are all dimensions themselves; None for any other name."""
    if name in plain:
        return None
    try:
        tree = ast.parse(name, mode="eval").body
    except (SyntaxError, ValueError):
        return None
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return tree if names and names <= plain and not isinstance(tree, ast.Name) else None


def _value_of(tree: ast.expr, symbols: Symbols, sizes: Mapping[str, tuple[int, int]]) -> Dim | None:
    if isinstance(tree, ast.Name):
        return symbols.size(tree.id, sizes.get(tree.id, _SEQUENCE))
    if isinstance(tree, ast.Constant):
        return tree.value if isinstance(tree.value, int) else None
    if not isinstance(tree, ast.BinOp):
        return None
    left, right = _value_of(tree.left, symbols, sizes), _value_of(tree.right, symbols, sizes)
    if left is None or right is None:
        return None
    if isinstance(tree.op, ast.Add):
        return left + right
    if isinstance(tree.op, ast.Sub):
        return left - right
    if isinstance(tree.op, ast.Mult):
        return left * right
    if isinstance(tree.op, ast.FloorDiv) and (isinstance(right, Sym) or right > 0):
        return floor_div(left, right)
    return None
