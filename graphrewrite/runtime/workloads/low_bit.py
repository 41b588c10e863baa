"""Products with weights of few bits, by bits; one scale for 64 inputs."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from graphrewrite import custom_ops
from graphrewrite.custom_ops.ops.low_bit_mat_mul.pack import pack, pack_scales
from graphrewrite.ir import Builder, Model
from graphrewrite.runtime.workloads import Work, declared, workloads
from graphrewrite.runtime.workloads.dense import matrices

_GROUP = 64


@dataclass(frozen=True)
class LowBitMatMul:
    """A product with random codes."""

    bits: int

    def sizes(self) -> Iterator[Work]:
        """Return the dense sizes."""
        return matrices()

    def chain(self, work: Work, layers: int, seed: int) -> Model:
        """Draw the products."""
        b = Builder(seed=seed)
        x = b.input([work.positions, work.inputs], "x")
        groups = -(-work.inputs // _GROUP)
        gain = np.full(work.outputs, 2.0 / (1 << self.bits) / np.sqrt(work.inputs), np.float32)
        for _ in range(layers):
            codes = b.rng.integers(0, 1 << self.bits, (work.outputs, work.inputs), dtype=np.uint8)
            scales = b.rng.uniform(0.5, 1, (work.outputs, groups))
            x = b.op(
                "LowBitMatMul",
                x,
                *(b.constant(values) for values in (pack(codes, self.bits), pack_scales(scales), gain)),
                b.constant(np.zeros(work.outputs, np.float32)),
                domain=custom_ops.DOMAIN,
                bits=self.bits,
                group=_GROUP,
                offset=(1 << self.bits) - 1,
                depth=work.inputs,
            )
        return declared(b.model(x), "LowBitMatMul")


for _bits in (1, 2, 4):
    workloads.register(f"LowBitMatMul/{_bits}")(partial(LowBitMatMul, _bits))
