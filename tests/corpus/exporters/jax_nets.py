"""Flax and Equinox networks on JAX, through jax2onnx: primitives only, channels last, scans as Scan or Loop.

Run with a Python that has them: `pip install jax flax equinox jax2onnx`, then this file; then `tests/corpus/build.py`.
"""

import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import onnx
from flax import nnx
from jax import Array
from jax2onnx import to_onnx

sys.path.append(str(Path(__file__).resolve().parents[3]))

from tests.corpus.exporters.common import export, random_vector

ROLES = {"scale": "scale", "var": "variance"}
DRAW, KEY = nnx.Rngs(0), jax.random.PRNGKey(0)


def main() -> None:
    """Export everything."""
    for family, name, size, make in nets():
        export(family, f"jax_{name}.jax2onnx", partial(write, make, size))


def write(make: Callable[[], Callable[[Array], Array]], size: tuple[int, ...], path: Path) -> None:
    """Build, draw the vectors and export with a free batch."""
    net = make()
    if isinstance(net, nnx.Module):
        net.eval()
        for where, variable in nnx.iter_graph(net):
            value = variable.get_value() if isinstance(variable, nnx.Variable) else None
            if value is not None and value.ndim == 1 and np.issubdtype(value.dtype, np.floating):
                role = ROLES.get(str(where[-1]), "bias")
                variable.set_value(jnp.asarray(random_vector(role, value.shape[0])))
    onnx.save(to_onnx(net, [("B", *size)]), path)


def nets() -> Iterator[tuple[str, str, tuple[int, ...], Callable[[], Callable[[Array], Array]]]]:
    """Yield family, name, size of the input and a function that builds."""
    yield "mlp", "mlp", (12,), Mlp
    yield "cnn", "resnet", (16, 16, 3), Residual
    yield "cnn", "group_norm", (16, 16, 3), GroupNormed
    yield "transformer", "encoder", (10, 12), lambda: Encoder(nnx.LayerNorm)
    yield "transformer", "encoder_rms", (10, 12), lambda: Encoder(nnx.RMSNorm)
    yield "gan", "generator", (16,), Generator
    yield "segmentation", "unet", (16, 16, 3), Skips
    yield "recurrent", "lstm", (8, 16), lambda: Recurrent(eqx.nn.LSTMCell(16, 24, key=KEY))
    yield "recurrent", "gru", (8, 16), lambda: Recurrent(eqx.nn.GRUCell(16, 24, key=KEY))


def conv(given: int, made: int, size: int = 3, **settings: object) -> nnx.Conv:
    """A square convolution."""
    return nnx.Conv(given, made, (size, size), rngs=DRAW, **settings)


class Mlp(nnx.Module):
    """Three products, a norm, two smooth activations."""

    def __init__(self) -> None:
        self.first, self.norm = nnx.Linear(12, 48, rngs=DRAW), nnx.LayerNorm(48, rngs=DRAW)
        self.second, self.head = nnx.Linear(48, 32, rngs=DRAW), nnx.Linear(32, 5, rngs=DRAW)

    def __call__(self, x: Array) -> Array:
        """Return five scores."""
        return self.head(nnx.silu(self.second(nnx.gelu(self.norm(self.first(x))))))


class Block(nnx.Module):
    """A basic residual block."""

    def __init__(self, given: int, made: int, stride: int) -> None:
        self.first = conv(given, made, strides=stride, use_bias=False)
        self.second = conv(made, made, use_bias=False)
        self.norms = nnx.List([nnx.BatchNorm(made, rngs=DRAW), nnx.BatchNorm(made, rngs=DRAW)])
        self.shortcut = conv(given, made, 1, strides=stride) if given != made else None

    def __call__(self, x: Array) -> Array:
        """Return the sum of branch and shortcut."""
        y = self.norms[1](self.second(nnx.relu(self.norms[0](self.first(x)))))
        return nnx.relu(y + (x if self.shortcut is None else self.shortcut(x)))


class Residual(nnx.Module):
    """Three residual blocks."""

    def __init__(self) -> None:
        self.stem, self.head = conv(3, 16), nnx.Linear(32, 7, rngs=DRAW)
        self.blocks = nnx.List([Block(16, 16, 1), Block(16, 24, 2), Block(24, 32, 2)])

    def __call__(self, x: Array) -> Array:
        """Return seven scores."""
        x = nnx.relu(self.stem(x))
        for part in self.blocks:
            x = part(x)
        return self.head(jnp.mean(x, axis=(1, 2)))


class GroupNormed(nnx.Module):
    """A group norm and a depthwise convolution."""

    def __init__(self) -> None:
        self.stem, self.norm = conv(3, 16), nnx.GroupNorm(16, num_groups=4, rngs=DRAW)
        self.depthwise, self.point = conv(16, 16, feature_group_count=16), conv(16, 24, 1)
        self.head = nnx.Linear(24, 7, rngs=DRAW)

    def __call__(self, x: Array) -> Array:
        """Return seven scores."""
        x = nnx.swish(self.point(self.depthwise(nnx.swish(self.norm(self.stem(x))))))
        return self.head(x.mean((1, 2)))


class Encoder(nnx.Module):
    """One pre-norm block with a gated feed-forward."""

    def __init__(self, norm: Callable[..., nnx.Module]) -> None:
        self.embed, self.head = nnx.Linear(12, 32, rngs=DRAW), nnx.Linear(32, 5, rngs=DRAW)
        self.norms = nnx.List([norm(32, rngs=DRAW), norm(32, rngs=DRAW)])
        self.attention = nnx.MultiHeadAttention(4, 32, 32, decode=False, rngs=DRAW)
        self.gate, self.up = nnx.Linear(32, 64, rngs=DRAW), nnx.Linear(32, 64, rngs=DRAW)
        self.down = nnx.Linear(64, 32, rngs=DRAW)

    def __call__(self, x: Array) -> Array:
        """Return five scores a token."""
        x = self.embed(x)
        x = x + self.attention(self.norms[0](x))
        y = self.norms[1](x)
        return self.head(x + self.down(nnx.silu(self.gate(y)) * self.up(y)))


class Generator(nnx.Module):
    """A picture from a vector by transposed convolutions."""

    def __init__(self) -> None:
        self.first, self.norm = nnx.Linear(16, 4 * 4 * 32, rngs=DRAW), nnx.BatchNorm(16, rngs=DRAW)
        self.second = nnx.ConvTranspose(32, 16, (4, 4), strides=(2, 2), rngs=DRAW)
        self.third = nnx.ConvTranspose(16, 3, (4, 4), strides=(2, 2), rngs=DRAW)

    def __call__(self, x: Array) -> Array:
        """Return a picture of 16 x 16."""
        x = self.first(x).reshape(-1, 4, 4, 32)
        return jnp.tanh(self.third(nnx.leaky_relu(self.norm(self.second(x)))))


class Skips(nnx.Module):
    """Down by slices, up by repeats, a skip by concatenation."""

    def __init__(self) -> None:
        self.outer, self.inner, self.joined, self.head = (
            conv(3, 16),
            conv(16, 24),
            conv(40, 16),
            conv(16, 2, 1),
        )

    def __call__(self, x: Array) -> Array:
        """Return a map of two classes."""
        a = nnx.relu(self.outer(x))
        b = nnx.relu(self.inner(a[:, ::2, ::2]))
        b = jnp.repeat(jnp.repeat(b, 2, 1), 2, 2)
        return self.head(nnx.elu(self.joined(jnp.concatenate([a, b], -1))))


class Recurrent(eqx.Module):
    """A cell scanned over the steps of each sequence, its last state read by a linear layer."""

    cell: eqx.Module
    head: eqx.nn.Linear

    def __init__(self, cell: eqx.Module) -> None:
        self.cell, self.head = cell, eqx.nn.Linear(24, 5, key=KEY)

    def __call__(self, x: Array) -> Array:
        """Return five scores."""
        zeros = jnp.zeros(24)
        start = (zeros, zeros) if isinstance(self.cell, eqx.nn.LSTMCell) else zeros

        def one(sequence: Array) -> Array:
            state, _ = jax.lax.scan(lambda state, step: (self.cell(step, state), None), start, sequence)
            return self.head(state[0] if isinstance(state, tuple) else state)

        return jax.vmap(one)(x)


if __name__ == "__main__":
    main()
