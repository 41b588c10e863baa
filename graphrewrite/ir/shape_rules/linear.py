"""Matrix products."""

from graphrewrite.ir.shape_rules.call import INT32, Call, Shape, shape_rule
from graphrewrite.ir.shape_rules.elementwise import broadcast_shapes
from graphrewrite.ir.sizes import broadcast, note_equal
from graphrewrite.ir.symbols import Dim


def matmul_shape(a: Shape, b: Shape) -> Shape:
    """Return the shape of a @ b: numpy's rules, one-axis operands included."""
    if not a or not b:
        raise ValueError("matrix product with a scalar")
    note_equal(a[-1], b[0] if len(b) == 1 else b[-2])
    batch: Shape = ()
    if len(a) > 2 or len(b) > 2:
        batch = broadcast_shapes([a[:-2], b[:-2]])
    rows = a[-2:-1]
    columns = b[-1:] if len(b) > 1 else ()
    return (*batch, *rows, *columns)


@shape_rule("MatMul")
def matmul(call: Call) -> None:
    """Batch axes broadcast."""
    call.put(0, matmul_shape(call.known(0), call.known(1)))


@shape_rule("MatMulInteger", dtype=INT32)
def matmul_integer(call: Call) -> None:
    """Like MatMul, to int32."""
    call.put(0, matmul_shape(call.known(0), call.known(1)))


@shape_rule("QLinearMatMul")
def matmul_quantized(call: Call) -> None:
    """Like MatMul with scales and zero points between; the type is that of the output's zero point."""
    call.put(0, None, call.dtype(7))
    call.put(0, matmul_shape(call.known(0), call.known(3)))


@shape_rule("Gemm")
def gemm(call: Call) -> None:
    """Either operand may be transposed."""
    a, b = call.known(0), call.known(1)
    across, down = call.integer("transA", 0), call.integer("transB", 0)
    note_equal(a[0 if across else 1], b[1 if down else 0])
    bias = call.shape(2)
    if bias:
        note_equal(b[0 if down else 1], bias[-1], or_one=True)
    call.put(0, (a[1 if across else 0], b[0 if down else 1]))


@shape_rule("Einsum")
def einsum(call: Call) -> None:
    """Every letter is a size; an ellipsis stands for broadcast axes."""
    equation = call.text("equation", "").replace(" ", "")
    left, arrow, right = equation.partition("->")
    letters: dict[str, Dim] = {}
    hidden: Shape = ()
    counts: dict[str, int] = {}
    for index, term in enumerate(left.split(",")):
        shape = call.known(index)
        before, dots, after = term.partition("...")
        width = len(shape) - len(before) - len(after)
        if dots:
            hidden = broadcast_shapes([hidden, shape[len(before) : len(before) + width]])
        elif width:
            raise ValueError(f"term {term} for a tensor of rank {len(shape)}")
        sizes = shape[: len(before)] + shape[len(before) + width :]
        for letter, dim in zip(before + after, sizes, strict=True):
            letters[letter] = broadcast(letters[letter], dim) if letter in letters else dim
            counts[letter] = counts.get(letter, 0) + 1
    if not arrow:
        right = ("..." if "..." in left else "") + "".join(sorted(x for x in letters if counts[x] == 1))
    before, dots, after = right.partition("...")
    middle = hidden if dots else ()
    call.put(0, (*(letters[x] for x in before), *middle, *(letters[x] for x in after)))


@shape_rule("Det")
def determinant(call: Call) -> None:
    """Drop the last two axes."""
    call.put(0, call.known(0)[:-2])
