"""Small transformers of many shapes, written as exporters write them, for the tests of kinds of units."""

import numpy as np
import onnx_graphsurgeon as gs

from graphrewrite.ir import Builder, Model

WIDTH, HEADS, DIM, HIDDEN, TOKENS = 12, 4, 6, 20, 5


def ints(b: Builder, *values: int) -> gs.Constant:
    """Return a constant vector of integers."""
    return b.constant(np.array(values, np.int64))


def project(b: Builder, x: gs.Tensor, into: int, out: int, name: str) -> gs.Variable:
    """A product with a weight [into, out] and a bias."""
    y = b.op("MatMul", x, b.weight(into, out, name=name))
    return b.add(y, b.constant(b.rng.standard_normal(out).astype(np.float32), f"{name}.bias"))


def norm(b: Builder, x: gs.Tensor, width: int = WIDTH) -> gs.Variable:
    """Layer normalisation over the last axis."""
    vectors = [b.constant(1 + 0.1 * b.rng.standard_normal(width).astype(np.float32)) for _ in range(2)]
    return b.op("LayerNormalization", x, *vectors, axis=-1)


def heads_of(b: Builder, x: gs.Tensor, heads: int = HEADS, dim: int = DIM) -> gs.Variable:
    """See the last axis as heads x dims, heads before tokens."""
    return b.op("Transpose", b.op("Reshape", x, ints(b, 0, 0, heads, dim)), perm=[0, 2, 1, 3])


def attend(
    b: Builder, q: gs.Tensor, k: gs.Tensor, v: gs.Tensor, bias: gs.Tensor | None = None
) -> gs.Variable:
    """Attention of [batch, heads, tokens, dim]; heads are packed behind tokens again."""
    scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2]))
    scores = b.op("Mul", scores, b.constant(np.float32(0.4)))
    scores = b.add(scores, bias) if bias is not None else scores
    mixed = b.op("Transpose", b.op("MatMul", b.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    return b.op("Reshape", mixed, ints(b, 0, 0, -1))


def mlp(b: Builder, x: gs.Tensor, name: str, width: int = WIDTH, hidden: int = HIDDEN) -> gs.Variable:
    """Two products with a rectifier between."""
    return project(b, b.relu(project(b, x, width, hidden, f"{name}.one")), hidden, width, f"{name}.two")


def self_attention(b: Builder, x: gs.Tensor, name: str, bias: gs.Tensor | None = None) -> gs.Variable:
    """Separate projections of queries, keys and values, and one behind."""
    q, k, v = (heads_of(b, project(b, x, WIDTH, HEADS * DIM, f"{name}.{part}")) for part in "qkv")
    return project(b, attend(b, q, k, v, bias), HEADS * DIM, WIDTH, f"{name}.out")


def vision(seed: int = 0) -> Model:
    """Patches by a convolution, positions, two pre-norm blocks, a head."""
    b = Builder(seed=seed)
    y = b.conv(b.input(["N", 3, 8, 8], "x"), WIDTH, 3, kernel=4, stride=4, pad=0, name="patches")
    y = b.op("Transpose", b.op("Reshape", y, ints(b, 0, WIDTH, 4)), perm=[0, 2, 1])
    y = b.add(y, b.constant(b.rng.standard_normal((1, 4, WIDTH)).astype(np.float32), "positions"))
    for block in range(2):
        y = b.add(y, self_attention(b, norm(b, y), f"block{block}"))
        y = b.add(y, mlp(b, norm(b, y), f"block{block}.mlp"))
    return b.model(project(b, b.op("ReduceMean", norm(b, y), axes=[1], keepdims=0), WIDTH, 3, "head"))


def text(seed: int = 0) -> Model:
    """An embedding that the input picks from, one post-norm block, a bias of scores made by a small net."""
    b = Builder(seed=seed)
    ids = b.input(["N", TOKENS], "ids", dtype=np.int64)
    y = norm(b, b.op("Gather", b.weight(9, WIDTH, name="words"), ids, axis=0))
    places = b.constant(b.rng.standard_normal((TOKENS, TOKENS, 2)).astype(np.float32), "places")
    bias = project(b, b.relu(project(b, places, 2, 7, "places.one")), 7, HEADS, "places.two")
    bias = b.op("Unsqueeze", b.op("Transpose", bias, perm=[2, 0, 1]), ints(b, 0))
    y = norm(b, b.add(y, self_attention(b, y, "block", bias)))
    y = norm(b, b.add(y, mlp(b, y, "mlp")))
    return b.model(project(b, y, WIDTH, 3, "head"))


def grouped_queries(seed: int = 0) -> Model:
    """Two key heads for four query heads, gated hidden units, no biases."""
    b = Builder(seed=seed)
    y = b.op(
        "Gather", b.weight(9, WIDTH, name="words"), b.input(["N", TOKENS], "ids", dtype=np.int64), axis=0
    )
    x = norm(b, y)
    q = heads_of(b, b.op("MatMul", x, b.weight(WIDTH, 24, name="q")), 4, 6)

    def repeated(name: str) -> gs.Variable:
        part = heads_of(b, b.op("MatMul", x, b.weight(WIDTH, 12, name=name)), 2, 6)
        part = b.op("Expand", b.op("Unsqueeze", part, ints(b, 2)), ints(b, 1, 2, 2, TOKENS, 6))
        return b.op("Reshape", part, ints(b, 0, 4, TOKENS, 6))

    y = b.add(y, b.op("MatMul", attend(b, q, repeated("k"), repeated("v")), b.weight(24, WIDTH, name="out")))
    x = norm(b, y)
    gate = b.op("Sigmoid", b.op("MatMul", x, b.weight(WIDTH, HIDDEN, name="gate")))
    up = b.op("Mul", gate, b.op("MatMul", x, b.weight(WIDTH, HIDDEN, name="up")))
    y = b.add(y, b.op("MatMul", up, b.weight(HIDDEN, WIDTH, name="down")))
    return b.model(b.op("MatMul", norm(b, y), b.weight(WIDTH, 3, name="head")))


def fused(seed: int = 0) -> Model:
    """Queries, keys and values from one weight, heads mixed with each other before and after the softmax."""
    b = Builder(seed=seed)
    y = project(b, b.input(["N", TOKENS, 4], "x"), 4, WIDTH, "embed")
    y = b.add(y, mlp(b, norm(b, y), "first"))
    packed = b.op(
        "Reshape", project(b, norm(b, y), WIDTH, 3 * HEADS * DIM, "qkv"), ints(b, 0, 0, 3, HEADS, DIM)
    )
    packed = b.op("Transpose", packed, perm=[2, 0, 3, 1, 4])
    q, k, v = (b.op("Gather", packed, b.constant(np.array(i, np.int64)), axis=0) for i in range(3))
    scores = b.op("MatMul", q, b.op("Transpose", k, perm=[0, 1, 3, 2]))

    def talk(x: gs.Tensor, name: str) -> gs.Variable:
        mixed = project(b, b.op("Transpose", x, perm=[0, 2, 3, 1]), HEADS, HEADS, name)
        return b.op("Transpose", mixed, perm=[0, 3, 1, 2])

    scores = talk(b.op("Softmax", talk(scores, "before"), axis=-1), "after")
    mixed = b.op(
        "Reshape", b.op("Transpose", b.op("MatMul", scores, v), perm=[0, 2, 1, 3]), ints(b, 0, 0, -1)
    )
    y = b.add(y, project(b, mixed, HEADS * DIM, WIDTH, "out"))
    return b.model(project(b, y, WIDTH, 3, "head"))


def crossed(seed: int = 0) -> Model:
    """A decoder block that also looks at an encoder of another width; queries of it are a sum of two projections."""
    b = Builder(seed=seed)
    memory = project(b, b.input(["N", 7, 4], "source"), 4, 10, "encoder")
    memory = b.add(memory, mlp(b, norm(b, memory, 10), "encoder.mlp", width=10))
    y = project(b, b.input(["N", TOKENS, 4], "x"), 4, WIDTH, "embed")
    y = b.add(y, self_attention(b, norm(b, y), "own"))
    x = norm(b, y)
    q = b.add(project(b, x, WIDTH, HEADS * DIM, "q"), project(b, b.relu(x), WIDTH, HEADS * DIM, "q.places"))
    k, v = (project(b, memory, 10, HEADS * DIM, f"cross.{part}") for part in "kv")
    y = b.add(y, project(b, attend(b, *(heads_of(b, t) for t in (q, k, v))), HEADS * DIM, WIDTH, "cross.out"))
    return b.model(project(b, y, WIDTH, 3, "head"))


def unprojected(seed: int = 0) -> Model:
    """Attention whose heads, packed, are added to the stream as they are."""
    b = Builder(seed=seed)
    y = project(b, b.input(["N", TOKENS, 4], "x"), 4, HEADS * DIM, "embed")
    parts = [heads_of(b, project(b, y, HEADS * DIM, HEADS * DIM, part)) for part in "qkv"]
    return b.model(project(b, b.add(y, attend(b, *parts)), HEADS * DIM, 3, "head"))


def mixer(seed: int = 0) -> Model:
    """Tokens mixed by one block of hidden units, channels by another."""
    b = Builder(seed=seed)
    y = project(b, b.input(["N", TOKENS, 4], "x"), 4, WIDTH, "embed")
    turned = b.op("Transpose", norm(b, y), perm=[0, 2, 1])
    y = b.add(y, b.op("Transpose", mlp(b, turned, "tokens", width=TOKENS), perm=[0, 2, 1]))
    y = b.add(y, mlp(b, norm(b, y), "channels"))
    return b.model(project(b, y, WIDTH, 3, "head"))


TRANSFORMERS = {net.__name__: net for net in (vision, text, grouped_queries, fused, crossed, mixer)}


def cached(seed: int = 0, past: int | str = "P", batch: int | str = "N") -> Model:
    """One step of decoding: keys and values of earlier steps come in, those of all steps go out."""
    b = Builder(seed=seed)
    x = b.input([batch, "T", 4], "x")
    earlier = [b.input([batch, HEADS, past, DIM], f"past_{part}") for part in "kv"]
    y = project(b, x, 4, WIDTH, "embed")
    q, k, v = (heads_of(b, project(b, norm(b, y), WIDTH, HEADS * DIM, part)) for part in "qkv")
    k, v = (b.concat(old, new, axis=2) for old, new in zip(earlier, (k, v), strict=True))
    k, v = (b.op("Identity", part, name=f"present_{name}") for part, name in ((k, "k"), (v, "v")))
    y = b.add(y, project(b, attend(b, q, k, v), HEADS * DIM, WIDTH, "out"))
    y = b.add(y, mlp(b, norm(b, y), "mlp"))
    return b.model(project(b, y, WIDTH, 3, "head"), k, v)
