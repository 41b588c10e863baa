"""onnxruntime's own operators against its kernels, or against their formulas where it has none for the CPU."""

from collections.abc import Mapping

import numpy as np
import pytest

from graphrewrite.bridge.optable.contrib_activations import MICROSOFT
from graphrewrite.ir import Array, Model
from tests.engine.bridge.nodes import Given, bridged, by_onnxruntime, node_model, same
from tests.support.expansion import expanded

RNG = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def positive(*shape: int) -> Array:
    return (RNG.random(shape) + 0.1).astype(np.float32)


CASES: dict[str, tuple[str, Given, int, Mapping[str, object]]] = {
    "gelu": ("Gelu", [normal(3, 4)], 1, {}),
    "bias_gelu": ("BiasGelu", [normal(3, 4), normal(4)], 1, {}),
    "fast_gelu": ("FastGelu", [normal(3, 4), normal(4)], 1, {}),
    "quick_gelu": ("QuickGelu", [normal(3, 4)], 1, {"alpha": 1.3}),
    "product": ("FusedMatMul", [normal(2, 4, 3), normal(2, 4, 5)], 1, {"transA": 1, "alpha": 0.3}),
    "product_b": ("FusedMatMul", [normal(2, 3, 4), normal(2, 5, 4)], 1, {"transB": 1}),
    "product_rows_first": (
        "FusedMatMul", [normal(3, 2, 4), normal(4, 2, 5)], 1, {"transBatchA": 1, "transBatchB": 1},
    ),
    "product_turned": ("TransposeMatMul", [normal(4, 3), normal(4, 5)], 1, {"transA": 1}),
    "gemm": (
        "FusedGemm", [normal(3, 4), normal(5, 4), normal(5)], 1,
        {"transB": 1, "activation": "LeakyRelu", "activation_alpha": 0.2, "beta": 0.5},
    ),
    "conv": (
        "FusedConv", [normal(2, 3, 6, 6), normal(4, 3, 3, 3), normal(4), normal(2, 4, 6, 6)], 1,
        {"activation": "Relu", "pads": [1, 1, 1, 1]},
    ),
    "conv_clip": (
        "FusedConv", [normal(2, 3, 6, 6), normal(4, 3, 3, 3), normal(4)], 1,
        {"activation": "Clip", "activation_params": [-0.5, 0.7]},
    ),
    "bits_4": (
        "MatMulNBits",
        [normal(2, 3, 64), RNG.integers(0, 256, (5, 2, 16)).astype(np.uint8), positive(10)], 1,
        {"K": 64, "N": 5, "bits": 4, "block_size": 32},
    ),
    "bits_4_zeros": (
        "MatMulNBits",
        [
            normal(3, 80), RNG.integers(0, 256, (5, 3, 16)).astype(np.uint8), positive(15),
            RNG.integers(0, 256, 10).astype(np.uint8), None, normal(5),
        ], 1,
        {"K": 80, "N": 5, "bits": 4, "block_size": 32},
    ),
    "bits_8": (
        "MatMulNBits", [normal(3, 64), RNG.integers(0, 256, (5, 2, 32)).astype(np.uint8), positive(10)], 1,
        {"K": 64, "N": 5, "bits": 8, "block_size": 32},
    ),
    "skip_norm": (
        "SkipLayerNormalization", [normal(2, 3, 8), normal(2, 3, 8), normal(8), normal(8), normal(8)], 1,
        {"epsilon": 1e-5},
    ),
    "skip_norm_shared": ("SkipLayerNormalization", [normal(2, 3, 8), normal(1, 3, 8), normal(8)], 1, {}),
    "skip_rms": (
        "SkipSimplifiedLayerNormalization", [normal(2, 3, 8), normal(2, 3, 8), normal(8)], 1,
        {"epsilon": 1e-5},
    ),
    "embed": (
        "EmbedLayerNormalization",
        [
            RNG.integers(0, 9, (2, 4)).astype(np.int32), RNG.integers(0, 2, (2, 4)).astype(np.int32),
            normal(9, 8), normal(6, 8), normal(2, 8), normal(8), normal(8),
            np.asarray([[1, 1, 1, 0], [1, 0, 0, 0]], np.int32),
        ], 2,
        {"epsilon": 1e-5},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_against_kernels(name: str) -> None:
    op, given, outputs, settings = CASES[name]
    proto = node_model(op, given, outputs, settings, domain=MICROSOFT)
    assert same(bridged(proto, given), by_onnxruntime(proto, given), 1e-4, 1e-4)


FORMULAS: dict[str, tuple[str, Given, int, Mapping[str, object]]] = {
    "split_gelu": ("BiasSplitGelu", [normal(2, 3, 8), normal(8)], 1, {}),
    "bias_add": ("BiasAdd", [normal(2, 3, 8), normal(8), normal(2, 3, 8)], 1, {}),
    "groups": ("GroupNorm", [normal(2, 3, 3, 8), normal(8), normal(8)], 1, {"groups": 4, "activation": 1}),
    "groups_first": (
        "GroupNorm", [normal(2, 8, 3, 3), normal(8), normal(8)], 1,
        {"groups": 2, "activation": 0, "channels_last": 0},
    ),
    "skip_groups": (
        "SkipGroupNorm", [normal(2, 3, 3, 8), normal(8), normal(8), normal(2, 3, 3, 8), normal(8)], 2,
        {"groups": 4, "activation": 1},
    ),
    "nhwc": (
        "NhwcConv", [normal(2, 6, 5, 3), normal(4, 3, 3, 3), normal(4)], 1,
        {"pads": [1, 0, 1, 2], "strides": [2, 1]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMULAS)
def test_against_formulas(name: str) -> None:
    op, given, outputs, settings = FORMULAS[name]
    proto = node_model(op, given, outputs, settings, domain=MICROSOFT)
    plain = expanded(Model.from_proto(proto)).to_proto()
    assert same(bridged(proto, given), by_onnxruntime(plain, given), 1e-4, 1e-4)


def test_norms_that_onnxruntime_keeps_in_the_default_domain() -> None:
    given = [normal(2, 3, 8), normal(8)]
    proto = node_model("SimplifiedLayerNormalization", given, 1, {"epsilon": 1e-5}, opset=16)
    assert same(bridged(proto, given), by_onnxruntime(proto, given))
    given = [normal(2, 3, 8), normal(8), normal(8)]
    proto = node_model("LayerNormalization", given, 1, {"epsilon": 1e-5}, opset=16)
    assert same(bridged(proto, given), by_onnxruntime(proto, given))
