"""Matrix products: the contracted axis is shared and mixed, batch axes are shared, the rest passes."""

from collections.abc import Sequence
from math import prod

from graphrewrite.dims.axes import ONE, Axis
from graphrewrite.dims.cells import may_differ, product_in_groups
from graphrewrite.dims.rules.elementwise import broadcast_axes
from graphrewrite.dims.sweep import Step, rule


@rule("Gemm")
def gemm(s: Step) -> None:
    """A [m, k] times B [k, n] plus C, either transposed."""
    a, b = s.forced(s.own(0)), s.forced(s.axes(1))
    rows, inner_a = (a[1], a[0]) if s.integer("transA", 0) else (a[0], a[1])
    inner_b, columns = (b[1], b[0]) if s.integer("transB", 0) else (b[0], b[1])
    s.tie(inner_a, inner_b)
    s.contracts(0, 0 if s.integer("transA", 0) else 1)
    s.contracts(1, 1 if s.integer("transB", 0) else 0)
    s.mix("zero", 0, {0 if s.integer("transA", 0) else 1: inner_a})
    out = [rows, columns]
    if s.has(2):
        out = broadcast_axes(s, [out, s.axes(2)])
    s.macs(1, [rows, inner_a, columns])
    s.out(out)


@rule("MatMul")
def matmul(s: Step) -> None:
    """Batched product over the last axis of A and the last but one of B."""
    a, b = s.own(0), s.axes(1)
    if may_differ(s):
        out = product_in_groups(s, a, b, lambda: product_of(s, s.forced(a), s.forced(b)))
        if out is not None:
            s.out(out)
            return
    product_of(s, s.forced(a), s.forced(b))


def product_of(
    s: Step,
    a: list[Axis],
    b: list[Axis],
    slot: int = 1,
    kind: str = "zero",
    places: tuple[int, int] | None = None,
) -> None:
    """Tie and record a matrix product of input 0 with the input at `slot`, seen as A [..., m, k] and B [..., k, n].

    `places` says which axes of the two tensors k is, where the operator transposes them; `kind` how the proof masks A.
    """
    inner_b = b[-2] if len(b) > 1 else b[0]
    s.tie(a[-1], inner_b)
    in_a, in_b = places or (len(a) - 1, max(len(b) - 2, 0))
    s.contracts(0, in_a)
    s.contracts(slot, in_b)
    s.mix(kind, 0, {in_a: a[-1]})
    batch = broadcast_axes(s, [a[:-2] or [ONE], b[:-2] or [ONE]]) if len(a) > 2 or len(b) > 2 else []
    rows = [a[-2]] if len(a) > 1 else []
    columns = [b[-1]] if len(b) > 1 else []
    s.macs(1, [*batch, *rows, a[-1], *columns])
    s.multiplies((0, slot), batch, [*rows, a[-1], *columns])
    s.out([*batch, *rows, *columns])


@rule("Einsum")
def einsum(s: Step) -> None:
    """Equal letters are one axis; a letter that is summed is mixed."""
    ranks = [s.rank(slot) for slot in range(len(s.node.inputs))]
    terms, right = letters_of(str(s.attr("equation", "")), ranks)
    if any(len(set(term)) != len(term) for term in terms):
        s.refuse("an Einsum that takes a diagonal is not followed")
        return
    letters: dict[str, Axis] = {}
    for slot, term in enumerate(terms):
        for letter, axis in zip(term, s.forced(s.axes(slot)), strict=True):
            if letter in letters and letters[letter].sizes != (1, 1) and axis.sizes != (1, 1):
                s.tie(letters[letter], axis)
                if letters[letter].is_rigid:
                    letters[letter] = axis
            elif letter not in letters or letters[letter].sizes == (1, 1):
                letters[letter] = axis
    for slot, term in enumerate(terms):
        # Masking the first operand that carries a summed letter is enough: the product is zero there.
        earlier = {letter for other in terms[:slot] for letter in other}
        summed = {i: letters[c] for i, c in enumerate(term) if c not in right and c not in earlier}
        for i in (i for i, c in enumerate(term) if c not in right):
            s.contracts(slot, i)
        if summed:
            s.mix("zero", slot, summed)
    left = set(terms[0])
    for slot, term in enumerate(
        terms[1:], start=2
    ):  # two operands at a time, as `graphrewrite.cost` counts them
        s.macs(1, [axis for c, axis in letters.items() if c in left or c in term])
        left = (left | set(term)) & set(right).union(*terms[slot:])
    held = [{letter for letter in term if letters[letter].sizes != (1, 1)} for term in terms]
    batch = [letter for letter in right if sum(letter in term for term in held) > 1]
    s.multiplies(
        range(len(terms)),
        [letters[c] for c in batch],
        [axis for c, axis in letters.items() if c not in batch],
    )
    s.out([letters[c] for c in right])


def letters_of(equation: str, ranks: Sequence[int]) -> tuple[list[list[str]], list[str]]:
    """Return the letters of the operands and of the result; an ellipsis is "...1", "...2" counted from the right."""
    left, arrow, right = equation.replace(" ", "").partition("->")

    def spread(term: str, rank: int) -> list[str]:
        before, dots, after = term.partition("...")
        hidden = rank - len(before) - len(after) if dots else 0
        return [*before, *(f"...{k}" for k in range(hidden, 0, -1)), *after]

    terms = [spread(term, rank) for term, rank in zip(left.split(","), ranks, strict=True)]
    longest = max((sum(letter.startswith("...") for letter in term) for term in terms), default=0)
    if arrow:
        return terms, spread(right, longest + len(right.replace("...", "")))
    plain = [letter for term in terms for letter in term if not letter.startswith("...")]
    once = sorted(letter for letter in set(plain) if plain.count(letter) == 1)
    return terms, [*(f"...{k}" for k in range(longest, 0, -1)), *once]


def size(pairs: list[tuple[int, int]]) -> int:
    """Return the number of elements in world A."""
    return prod(max(pair[0], 0) for pair in pairs)
