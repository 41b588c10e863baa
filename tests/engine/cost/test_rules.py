"""One number per counting rule, worked out by hand on the smallest node that shows it."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite import cost
from graphrewrite.ir import Builder

MS = "com.microsoft"


def work(
    op: str,
    inputs: list[tuple[int, ...] | None],
    outputs: list[tuple[int, ...]],
    domain: str | None = None,
    numbers: dict[int, int] | None = None,
    opset: int = 20,
    **attrs: object,
) -> tuple[int, int] | None:
    """Return (macs, ops) of a node drawn from sizes alone."""
    names = [f"in{i}" if sizes is not None else "" for i, sizes in enumerate(inputs)]
    made = [gs.Variable(name) for name in names]
    node = gs.Node(
        op, "node", dict(attrs), made, [gs.Variable(f"out{i}") for i in range(len(outputs))], domain
    )
    sizes = {name: size for name, size in zip(names, inputs, strict=True) if size is not None}
    sizes |= {f"out{i}": size for i, size in enumerate(outputs)}
    values = {f"in{i}": np.asarray(value) for i, value in (numbers or {}).items()}
    return cost.work_of(node, sizes.get, values.get, opset)


CONVOLUTIONS = [
    # 2*4*5*5 outputs, each over 3*3*3 taps
    ("Conv", [(2, 3, 5, 5), (4, 3, 3, 3)], [(2, 4, 5, 5)], None, 200 * 27),
    # depthwise: one input channel per output
    ("Conv", [(1, 8, 6, 6), (8, 1, 3, 3)], [(1, 8, 4, 4)], None, 128 * 9),
    ("Conv", [(1, 2, 10), (6, 2, 4)], [(1, 6, 7)], None, 42 * 8),
    ("ConvInteger", [(1, 3, 4, 4), (2, 3, 2, 2)], [(1, 2, 3, 3)], None, 18 * 12),
    ("QLinearConv", [(1, 3, 4, 4), (), (), (2, 3, 2, 2), (), (), (), ()], [(1, 2, 3, 3)], None, 18 * 12),
    ("FusedConv", [(1, 3, 4, 4), (2, 3, 2, 2)], [(1, 2, 3, 3)], MS, 18 * 12),
    # channels last: the output is [N, H, W, C], the weight stays [out, in, kh, kw]
    ("NhwcFusedConv", [(1, 4, 4, 3), (2, 3, 2, 2)], [(1, 3, 3, 2)], MS, 18 * 12),
    # 3*2*2 inputs, each spread over 5 channels of 3*3
    ("ConvTranspose", [(1, 3, 2, 2), (3, 5, 3, 3)], [(1, 5, 5, 5)], None, 12 * 45),
    ("ConvTransposeWithDynamicPads", [(1, 3, 2, 2), (3, 5, 3, 3), (4,)], [(1, 5, 4, 4)], MS, 12 * 45),
    ("DeformConv", [(1, 4, 5, 5), (2, 4, 3, 3), (1, 18, 3, 3)], [(1, 2, 3, 3)], None, 18 * 36),
    ("CausalConvWithState", [(2, 6, 9), (6, 1, 4)], [(2, 6, 9), (2, 6, 3)], None, 108 * 4),
]
PRODUCTS = [
    ("MatMul", [(2, 3, 4), (4, 5)], [(2, 3, 5)], None, 30 * 4),
    ("MatMul", [(4,), (4,)], [()], None, 4),
    ("MatMulInteger", [(3, 4), (4, 5)], [(3, 5)], None, 60),
    ("QLinearMatMul", [(3, 4), (), (), (4, 5)], [(3, 5)], None, 60),
    ("DynamicQuantizeMatMul", [(3, 4), (4, 5), (1,)], [(3, 5)], MS, 60),
    ("MatMulIntegerToFloat", [(3, 4), (4, 5)], [(3, 5)], MS, 60),
    ("MatMulNBits", [(2, 3, 32), (6, 1, 16), (6,)], [(2, 3, 6)], MS, 36 * 32),
    ("MatMulBnb4", [(3, 64), (192,), (3,)], [(3, 6)], MS, 18 * 64),
    ("MatMulNBitsMlp", [(1, 2, 32)], [(1, 2, 8)], MS, 2 * 16 * 32),
    ("MatMulNBitsQkv", [(1, 2, 32)], [(1, 2, 8), (1, 2, 4), (1, 2, 4)], MS, 32 * 32),
    ("GemmFastGelu", [(3, 4), (4, 5)], [(3, 5)], MS, 60),
    ("QOrderedMatMul", [(3, 4), (), (4, 5)], [(3, 5)], MS, 60),
    # theta [N, 2, 3]: each coordinate is a dot product of length 3
    ("AffineGrid", [(2, 2, 3), (4,)], [(2, 4, 5, 2)], None, 80 * 3),
    ("ComplexMul", [(3, 2), (3, 2)], [(3, 2)], MS, 12),
]


@pytest.mark.parametrize(("op", "inputs", "outputs", "domain", "macs"), CONVOLUTIONS + PRODUCTS)
def test_products_are_counted_by_hand(
    op: str, inputs: list[tuple[int, ...]], outputs: list[tuple[int, ...]], domain: str | None, macs: int
) -> None:
    counted = work(op, list(inputs), outputs, domain)
    assert counted is not None and counted[0] == macs


def test_gemm_sums_over_the_axis_that_trans_a_names() -> None:
    assert work("Gemm", [(3, 4), (4, 5)], [(3, 5)]) == (60, 0)
    assert work("Gemm", [(4, 3), (4, 5)], [(3, 5)], transA=1) == (60, 0)
    assert work("Gemm", [(3, 4), (5, 4)], [(3, 5)], transB=1) == (60, 0)
    assert work("QGemm", [(3, 4), (), (), (4, 5)], [(3, 5)], MS) == (60, 0)


def test_fused_matmul_with_transposed_batch() -> None:
    # A [2, 3, 4]: plain sums over 4; transA over 3; both flags: batch moves to the middle, so the summed axis is 2
    assert work("FusedMatMul", [(2, 3, 4), (2, 4, 5)], [(2, 3, 5)], MS) == (30 * 4, 0)
    assert work("FusedMatMul", [(2, 3, 4), (2, 3, 5)], [(2, 4, 5)], MS, transA=1) == (40 * 3, 0)
    assert work("FusedMatMul", [(2, 3, 4), (3, 2, 5)], [(3, 4, 5)], MS, transA=1, transBatchA=1) == (
        60 * 2,
        0,
    )


def test_deformable_convolution_also_blends_four_neighbours_per_tap() -> None:
    counted = work("DeformConv", [(1, 4, 5, 5), (2, 4, 3, 3), (1, 18, 3, 3)], [(1, 2, 3, 3)])
    assert counted == (18 * 36, 4 * 4 * 9 * 9)  # channels 4, pixels 9, taps 9


def test_experts_count_as_often_as_they_are_chosen() -> None:
    # 6 tokens, 2 experts each: fc1 8 x 4 and fc2 4 x 8
    inputs: list[tuple[int, ...] | None] = [(2, 3, 4), (6, 5), (5, 8, 4), None, (5, 4, 8)]
    assert work("MoE", inputs, [(2, 3, 4)], MS, k=2) == (6 * 2 * 64, 0)
    packed: list[tuple[int, ...] | None] = [(2, 3, 4), (6, 5), (5, 8, 2), (5, 8), None, (5, 4, 4), (5, 4)]
    assert work("QMoE", packed, [(2, 3, 4)], MS, k=2, expert_weight_bits=4) == (6 * 2 * 64, 0)


@pytest.mark.parametrize(
    ("equation", "inputs", "output", "macs"),
    [
        ("ij,jk->ik", [(2, 3), (3, 4)], (2, 4), 24),
        ("bij,bjk->bik", [(5, 2, 3), (5, 3, 4)], (5, 2, 4), 120),
        ("...ij,...jk->...ik", [(5, 2, 3), (5, 3, 4)], (5, 2, 4), 120),
        ("...ij,jk->...ik", [(7, 5, 2, 3), (3, 4)], (7, 5, 2, 4), 35 * 24),
        ("i,i->", [(6,), (6,)], (), 6),
        ("ij,jk", [(2, 3), (3, 4)], (2, 4), 24),
        # left to right: (i j k) = 2*3*4 leaves i k, then i k l = 2*4*5
        ("ij,jk,kl->il", [(2, 3), (3, 4), (4, 5)], (2, 5), 24 + 40),
        # a diagonal has one size; a broadcast axis takes its partner's
        ("ii,ij->j", [(3, 3), (3, 4)], (4,), 12),
        ("...i,...i->...", [(1, 3), (5, 3)], (5,), 15),
    ],
)
def test_einsum(equation: str, inputs: list[tuple[int, ...]], output: tuple[int, ...], macs: int) -> None:
    assert work("Einsum", list(inputs), [output], equation=equation) == (macs, 0)


def test_einsum_of_one_operand_multiplies_nothing() -> None:
    assert work("Einsum", [(3, 4)], [(4,)], equation="ij->j") == (0, 12)


def test_recurrent_cells_use_every_weight_once_per_step_and_sample() -> None:
    # 5 steps, 2 samples, 3 inputs, 4 hidden: gates * 4 * (3 + 4) weights
    steps = 5 * 2
    assert work("RNN", [(5, 2, 3), (1, 4, 3), (1, 4, 4)], [(5, 1, 2, 4)]) == (steps * 28, steps * 4 * 2)
    assert work("GRU", [(5, 2, 3), (1, 12, 3), (1, 12, 4)], [(5, 1, 2, 4)]) == (steps * 84, steps * 4 * 11)
    assert work("LSTM", [(5, 2, 3), (2, 16, 3), (2, 16, 4)], [(5, 2, 2, 4)]) == (steps * 224, steps * 8 * 13)
    packed = work("DynamicQuantizeLSTM", [(5, 2, 3), (1, 3, 16), (1, 4, 16)], [(5, 1, 2, 4)], MS)
    assert packed == (steps * 112, steps * 4 * 13)


def test_peepholes_add_three_products_and_three_sums_per_unit() -> None:
    inputs: list[tuple[int, ...] | None] = [
        (1, 1, 3),
        (1, 16, 3),
        (1, 16, 4),
        None,
        None,
        None,
        None,
        (1, 12),
    ]
    counted = work("LSTM", inputs, [(1, 1, 1, 4)])
    assert counted == (112, 4 * (13 + 6))


def test_standard_attention_counts_scores_and_values() -> None:
    # 2 samples, 4 heads, 3 queries, 5 keys, widths 8 and 6
    scores = 2 * 4 * 3 * 5
    four = work("Attention", [(2, 4, 3, 8), (2, 2, 5, 8), (2, 2, 5, 6)], [(2, 4, 3, 6)])
    assert four == (scores * 14, scores * 7)
    three = work(
        "Attention", [(2, 3, 32), (2, 5, 16), (2, 5, 12)], [(2, 3, 24)], q_num_heads=4, kv_num_heads=2
    )
    assert three == four
    past = work(
        "Attention",
        [(2, 4, 3, 8), (2, 2, 1, 8), (2, 2, 1, 6), None, (2, 2, 4, 8), (2, 2, 4, 6)],
        [(2, 4, 3, 6)],
    )
    assert past == four


def test_flex_attention_counts_like_attention() -> None:
    counted = work(
        "FlexAttention", [(1, 2, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4)], [(1, 2, 3, 4)], "ai.onnx.preview"
    )
    assert counted == (30 * 8, 30 * 7)


def test_microsoft_attention_includes_its_projection() -> None:
    # x [2, 3, 8] times [8, 24]; then 2 heads of width 4 over 3 keys
    macs = 2 * 3 * 8 * 24 + 2 * 2 * 3 * 3 * 8
    assert work("Attention", [(2, 3, 8), (8, 24)], [(2, 3, 8)], MS, num_heads=2) == (macs, 36 * 7)
    assert work("QAttention", [(2, 3, 8), (8, 24)], [(2, 3, 8)], MS, num_heads=2) == (macs, 36 * 7)
    # widths of their own: q = k = 8, v = 4, and 2 past keys
    uneven = work(
        "Attention",
        [(2, 3, 8), (8, 20), (20,), None, (2, 2, 2, 2, 4)],
        [(2, 3, 4)],
        MS,
        num_heads=2,
        qkv_hidden_sizes=[8, 8, 4],
    )
    assert uneven == (2 * 3 * 8 * 20 + 2 * 2 * 3 * 5 * (4 + 2), 60 * 7)


def test_multi_head_attention_reads_every_layout() -> None:
    # 2 samples, 2 heads, 3 queries, 5 keys, width 4
    expected = (2 * 2 * 3 * 5 * 8, 60 * 7)
    assert (
        work("MultiHeadAttention", [(2, 3, 8), (2, 5, 8), (2, 5, 8)], [(2, 3, 8)], MS, num_heads=2)
        == expected
    )
    cached = [(2, 3, 8), (2, 2, 5, 4), (2, 2, 5, 4)]
    assert work("MultiHeadAttention", list(cached), [(2, 3, 8)], MS, num_heads=2) == expected
    assert work("MultiHeadAttention", [(2, 3, 8), (2, 5, 2, 2, 4)], [(2, 3, 8)], MS, num_heads=2) == expected
    packed = work("MultiHeadAttention", [(2, 5, 2, 3, 4)], [(2, 5, 8)], MS, num_heads=2)
    assert packed == (2 * 2 * 5 * 5 * 8, 100 * 7)


def test_grouped_query_attention_counts_query_heads() -> None:
    # 4 query heads, 2 key heads, width 8, 3 new tokens after 5 old ones
    inputs: list[tuple[int, ...] | None] = [(2, 3, 32), (2, 3, 16), (2, 3, 16), (2, 2, 5, 8), (2, 2, 5, 8)]
    expected = (2 * 4 * 3 * 8 * 16, 2 * 4 * 3 * 8 * 7)
    outputs = [(2, 3, 32), (2, 2, 8, 8), (2, 2, 8, 8)]
    assert work("GroupQueryAttention", inputs, outputs, MS, num_heads=4, kv_num_heads=2) == expected
    joined: list[tuple[int, ...] | None] = [(2, 3, 64), None, None, (2, 2, 5, 8), (2, 2, 5, 8)]
    assert work("GroupQueryAttention", joined, [(2, 3, 32)], MS, num_heads=4, kv_num_heads=2) == expected


def test_linear_attention_writes_a_state_per_key_head_and_reads_it_per_query_head() -> None:
    # state 4 x 6, 2 key heads, 4 query heads, 2 samples, 3 steps
    inputs: list[tuple[int, ...] | None] = [(2, 3, 16), (2, 3, 8), (2, 3, 12)]
    linear = work(
        "LinearAttention", inputs, [(2, 3, 24)], q_num_heads=4, kv_num_heads=2, update_rule="linear"
    )
    assert linear == (6 * 24 * (4 + 2), 0)
    delta = work(
        "LinearAttention", inputs, [(2, 3, 24)], q_num_heads=4, kv_num_heads=2, update_rule="gated_delta"
    )
    assert delta == (6 * 24 * (4 + 4), 6 * 24 * 2)


def test_transforms_are_counted_as_radix_two() -> None:
    # length 8: 2 * 8 * 3; three lines
    assert work("DFT", [(3, 8, 1)], [(3, 8, 2)], opset=17, axis=1) == (3 * 48, 0)
    assert work("DFT", [(3, 8, 2)], [(3, 8, 2)], opset=20) == (3 * 48, 0)
    # axis 1 of [2, 8, 5, 2] since opset 20 comes as an input: 2 * 5 lines
    assert work("DFT", [(2, 8, 5, 2), None, ()], [(2, 8, 5, 2)], numbers={2: 1}) == (10 * 48, 0)
    # padded to 16: 2 * 16 * 4
    assert work("DFT", [(3, 8, 1), ()], [(3, 16, 2)], numbers={1: 16}) == (3 * 128, 0)
    assert work("DFT", [(3, 8, 1), ()], [(3, 16, 2)]) is None
    # 5 frames of 8 in each of 2 signals, and the window's 8 products each
    assert work("STFT", [(2, 40, 1), (), (8,)], [(2, 5, 5, 2)]) == (10 * 48, 10 * 8)
    assert work("Rfft", [(3, 4, 8)], [(3, 4, 5, 2)], MS, signal_ndim=1) == (12 * 48, 0)
    assert work("Irfft", [(3, 4, 5, 2)], [(3, 4, 8)], MS, signal_ndim=1) == (12 * 48, 0)


def test_classic_models_use_their_coefficients_once_per_sample() -> None:
    linear = work("LinearClassifier", [(5, 4)], [(5,), (5, 3)], "ai.onnx.ml", coefficients=[0.5] * 12)
    assert linear == (60, 0)
    machine = work(
        "SVMRegressor", [(5, 4)], [(5, 1)], "ai.onnx.ml", coefficients=[0.5] * 6, support_vectors=[0.5] * 24
    )
    assert machine == (5 * 30, 5 * 6)


@pytest.mark.parametrize(
    ("op", "inputs", "output", "attrs", "ops"),
    [
        ("Relu", [(2, 3)], (2, 3), {}, 6),
        ("Add", [(2, 3), (3,)], (2, 3), {}, 6),
        ("Sum", [(2, 3), (2, 3), (2, 3)], (2, 3), {}, 12),
        ("Mean", [(2, 3), (2, 3), (2, 3)], (2, 3), {}, 18),
        ("BatchNormalization", [(2, 3)], (2, 3), {}, 12),
        ("Softmax", [(2, 3)], (2, 3), {}, 30),
        ("ReduceMean", [(4, 5)], (4, 1), {}, 20),
        ("GlobalAveragePool", [(1, 2, 3, 3)], (1, 2, 1, 1), {}, 18),
        ("MaxPool", [(1, 2, 4, 4)], (1, 2, 2, 2), {"kernel_shape": [2, 2]}, 8 * 4),
        ("LpPool", [(1, 2, 4, 4)], (1, 2, 2, 2), {"kernel_shape": [2, 2]}, 8 * 8),
        ("LRN", [(1, 4, 2, 2)], (1, 4, 2, 2), {"size": 3}, 16 * 8),
        ("Resize", [(1, 1, 2, 2)], (1, 1, 4, 4), {"mode": "linear"}, 16 * 4),
        ("Resize", [(1, 1, 2, 2)], (1, 1, 4, 2), {"mode": "cubic"}, 8 * 4),
        ("Resize", [(1, 1, 2, 2)], (1, 1, 4, 4), {"mode": "nearest"}, 0),
        ("GridSample", [(1, 3, 4, 4), (1, 2, 2, 2)], (1, 3, 2, 2), {"mode": "linear"}, 12 * 4),
        ("RoiAlign", [(1, 3, 8, 8), (2, 4), (2,)], (2, 3, 2, 2), {"sampling_ratio": 2}, 24 * 16),
        ("Det", [(5, 3, 3)], (5,), {}, 45),
        ("Col2Im", [(1, 8, 4), (2,), (2,)], (1, 2, 3, 3), {}, 32),
        ("Transpose", [(2, 3)], (3, 2), {}, 0),
        ("Reshape", [(2, 3), (1,)], (6,), {}, 0),
    ],
)
def test_element_operations(
    op: str, inputs: list[tuple[int, ...]], output: tuple[int, ...], attrs: dict[str, object], ops: int
) -> None:
    assert work(op, list(inputs), [output], None, None, 20, **attrs) == (0, ops)


def test_a_size_that_is_missing_is_not_zero() -> None:
    b = Builder()
    node = b.op("MatMul", b.input([2, 3]), b.input([3, 4])).inputs[0]
    assert cost.work_of(node, {"x_1": (2, 3)}.get) is None


def test_sizes_of_ones_own_win_over_stored_ones() -> None:
    b = Builder()
    node = b.conv(b.input([1, 3, 4, 4]), out=8, into=3, name="c").inputs[0]
    sizes = {"x_1": (1, 3, 4, 4), "c_out": (1, 8, 4, 4)}
    assert cost.work_of(node, sizes.get) == (128 * 27, 0)
    smaller = sizes | {"c_out": (1, 6, 4, 4), node.inputs[1].name: (6, 2, 3, 3)}
    assert cost.work_of(node, smaller.get) == (96 * 18, 0)
