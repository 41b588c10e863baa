"""Binary layers in standard operators become operators of ours, and every integer and sign stays what it was."""

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.ir import Builder, Model
from graphrewrite.passes.binary import LowerBinaryConv
from graphrewrite.passes.binary.chains import Sums, Turn, turn
from graphrewrite.passes.binary.signs import Floats
from graphrewrite.pipeline import Context, Pipeline, StepError
from tests.passes.binary.checks import assert_equal, lowered, ops, ours, picture
from tests.passes.binary.drawing import binary_conv, planes, rprelu, sign_weight, signs


def test_signs_stay_packed_from_layer_to_layer() -> None:
    b = Builder(seed=1)
    x = picture(b, 33)
    one = rprelu(b, b.batchnorm(binary_conv(b, signs(b, x), out=40, into=33), 40), 40)
    two = b.op("Mul", binary_conv(b, signs(b, one), out=16, into=40), planes(b, 16))
    model = b.model(binary_conv(b, signs(b, two, 0.5), out=5, into=16))

    after = lowered(model)

    assert ops(after) == ["BinaryConvToBits", "BinaryConvBits", "BinaryConvFromBits"]
    assert_equal(model, after)


def test_a_residual_sum_needs_numbers() -> None:
    b = Builder(seed=2)
    x = picture(b, 32)
    y = b.add(b.batchnorm(binary_conv(b, signs(b, x), out=32, into=32), 32), x)
    z = b.add(b.batchnorm(binary_conv(b, signs(b, y), out=32, into=32), 32), y)
    model = b.model(z)

    after = lowered(model)

    assert ops(after) == ["BinaryConv", "Add", "BinaryConv", "Add"]


@pytest.mark.parametrize("reader", ["output", "node", "signs"])
def test_what_others_read_stays_a_number(reader: str) -> None:
    b = Builder(seed=3)
    x = picture(b, 8)
    sums = binary_conv(b, signs(b, x), out=8, into=8)
    both = signs(b, sums)
    outputs = [binary_conv(b, both, out=4, into=8)]
    outputs += {"output": [sums], "node": [b.relu(sums)], "signs": [b.relu(both)]}[reader]
    model = b.model(*outputs)

    after = lowered(model)

    assert ours(after) == ["BinaryConv", "BinaryConv"]
    assert_equal(model, after)


def test_two_layers_may_read_the_same_bits() -> None:
    b = Builder(seed=4)
    x = picture(b, 8)
    both = signs(b, binary_conv(b, signs(b, x), out=8, into=8))
    model = b.model(b.add(binary_conv(b, both, out=4, into=8), binary_conv(b, both, out=4, into=8)))

    after = lowered(model)

    assert sorted(ours(after)) == ["BinaryConvFromBits", "BinaryConvFromBits", "BinaryConvToBits"]
    assert_equal(model, after)


def test_two_thresholds_need_numbers() -> None:
    b = Builder(seed=5)
    x = picture(b, 8)
    sums = binary_conv(b, signs(b, x), out=8, into=8)
    model = b.model(*(binary_conv(b, signs(b, sums, level), out=4, into=8) for level in (0.0, 2.0)))

    after = lowered(model)

    assert ours(after) == ["BinaryConv", "BinaryConv", "BinaryConv"]
    assert_equal(model, after)


def test_a_sign_that_turns_twice_needs_numbers() -> None:
    b = Builder(seed=6)
    x = picture(b, 8)
    sums = binary_conv(b, signs(b, x), out=8, into=8)
    bent = b.op("PRelu", sums, b.constant(np.full((8, 1, 1), -1, np.float32)))  # |sum|
    model = b.model(binary_conv(b, signs(b, bent, 4.0), out=4, into=8))

    after = lowered(model)

    assert ours(after) == ["BinaryConv", "BinaryConv"] and "PRelu" in ops(after)
    assert_equal(model, after)


@pytest.mark.parametrize(
    "attrs",
    [
        {"strides": [2, 2]},
        {"dilations": [2, 2]},
        {"group": 4},
        {"strides": [2, 1], "group": 2},
        {"auto_pad": "SAME_UPPER"},
        {"auto_pad": "SAME_LOWER"},
        {"auto_pad": "VALID"},
    ],
    ids=str,
)
def test_windows(attrs: dict[str, object]) -> None:
    b = Builder(seed=12)
    x = picture(b, 8, 7)
    weight = sign_weight(b, 12, 8 // int(str(attrs.get("group", 1))), 2, 3)
    pads = {} if "auto_pad" in attrs else {"pads": [1, 0, 1, 2]}
    model = b.model(b.op("Conv", signs(b, x), weight, **attrs, **pads))  # type: ignore[arg-type]

    after = lowered(model)

    assert ops(after) == ["BinaryConv"]
    assert_equal(model, after)


def test_pads_that_depend_on_the_picture_are_refused() -> None:
    b = Builder(seed=13)
    x = picture(b, 8)
    model = b.model(
        b.op("Conv", signs(b, x), sign_weight(b, 4, 8, 3, 3), auto_pad="SAME_UPPER", strides=[2, 2])
    )

    result = Pipeline([LowerBinaryConv()]).run(model, Context())

    assert not result.changed
    assert "depend on the size of the picture" in result.notes[0].text


@pytest.mark.parametrize("op", ["MatMul", "Gemm"])
def test_matrix_products(op: str) -> None:
    b = Builder(seed=14)
    x = b.input(["N", 70], "x")

    def product(value: gs.Tensor, out: int, into: int) -> gs.Variable:
        if op == "MatMul":
            return b.op("MatMul", value, sign_weight(b, into, out))
        return b.op(
            "Gemm", value, sign_weight(b, out, into), b.constant(np.full(out, 0.25, np.float32)), transB=1
        )

    one = b.op("Mul", product(signs(b, x), 33, 70), b.constant(b.rng.standard_normal(33).astype(np.float32)))
    model = b.model(product(signs(b, product(signs(b, one), 20, 33), 1.0), 9, 20))

    after = lowered(model)

    assert ops(after) == ["BinaryMatMulToBits", "BinaryMatMulBits", "BinaryMatMulFromBits"]
    assert_equal(model, after)


def test_a_sequence_through_a_matrix() -> None:
    b = Builder(seed=15)
    x = b.input(["N", 5, 40], "x")
    model = b.model(b.op("MatMul", signs(b, x, np.linspace(-1, 1, 40)), sign_weight(b, 40, 7)))

    after = lowered(model)

    assert ops(after) == ["BinaryMatMul"]
    assert_equal(model, after)


def test_sign_gives_zero_at_zero() -> None:
    """Of an even number of signs the sum may be 0, of an odd one it is not; at the input only the user can say."""
    b = Builder(seed=17)
    x = picture(b, 3)
    even = b.op("Sign", b.relu(x))
    model = b.model(binary_conv(b, even, out=4, into=3))

    plain = Pipeline([LowerBinaryConv()]).run(model, Context())
    assert not plain.changed and "zero_is_plus" in plain.notes[0].text

    after = lowered(model, LowerBinaryConv(zero_is_plus=True))
    assert ops(after) == ["Relu", "BinaryConv"]


@pytest.mark.parametrize(
    ("into", "pad", "expected"), [(3, 0, "BinaryConvToBits"), (4, 0, "BinaryConv"), (3, 1, "BinaryConv")]
)
def test_sign_of_sums_that_are_never_zero(into: int, pad: int, expected: str) -> None:
    b = Builder(seed=18)
    x = picture(b, into)
    sums = binary_conv(b, signs(b, x), out=8, into=into, pad=pad)
    model = b.model(binary_conv(b, b.op("Sign", sums), out=4, into=8))

    after = lowered(model)

    assert ours(after)[0] == expected
    assert_equal(model, after)


def test_dense_layers_are_nobodys_business() -> None:
    b = Builder(seed=19)
    x = picture(b, 3)
    model = b.model(b.conv(b.relu(b.conv(x, out=8, into=3)), out=4, into=8))

    result = Pipeline([LowerBinaryConv()]).run(model, Context())

    assert not result.changed and not result.notes


def test_means_are_nobodys_business_either() -> None:
    """Weights of one size, but not signs of anything: a blur."""
    b = Builder(seed=27)
    x = picture(b, 4)
    model = b.model(b.op("Conv", x, b.constant(np.full((4, 1, 3, 3), 1 / 9, np.float32)), group=4))

    result = Pipeline([LowerBinaryConv()]).run(model, Context())

    assert not result.changed and not result.notes


def test_an_old_operator_set_is_named() -> None:
    b = Builder(opset=12, seed=20)
    model = b.model(binary_conv(b, signs(b, picture(b, 8)), out=4, into=8))

    result = Pipeline([LowerBinaryConv()]).run(model, Context())

    assert not result.changed and "operator set 12" in result.notes[0].text


def random_net(seed: int) -> Model:
    """Binary layers in a row or in residual blocks, with whatever may stand between them."""
    b = Builder(seed=seed)
    rng = np.random.default_rng(seed)
    channels = int(rng.integers(1, 70))
    x = picture(b, channels, int(rng.integers(5, 9)))
    value: gs.Tensor = x
    for _ in range(int(rng.integers(2, 5))):
        out = channels if rng.random() < 0.4 else int(rng.integers(1, 70))
        kernel = int(rng.choice([1, 3]))
        level = planes(b, channels).values if rng.random() < 0.5 else 0.0
        y: gs.Tensor = binary_conv(b, signs(b, value, level), out, channels, kernel, kernel // 2)
        for kind in rng.choice(["norm", "scale", "rprelu", "relu", "clip"], int(rng.integers(0, 3))):
            if kind == "norm":
                y = b.batchnorm(y, out)
            elif kind == "scale":
                y = b.op("Mul", y, planes(b, out))
            elif kind == "rprelu":
                y = rprelu(b, y, out)
            elif kind == "relu":
                y = b.relu(y)
            else:
                y = b.op("Clip", y, b.constant(np.float32(-3)), b.constant(np.float32(5)))
        value, channels = b.add(y, value) if out == channels and rng.random() < 0.5 else y, out
    return b.model(value)


@pytest.mark.parametrize("seed", range(30))
def test_random_nets(seed: int) -> None:
    model = random_net(seed)

    after = lowered(model)

    assert ours(after) and "Conv" not in ops(after)


def test_the_comparison_sees_one_threshold_that_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutation: the sign turns two sums too late."""

    def late(values: Floats, sums: Sums, level: Floats) -> Turn:
        found = turn(values, sums, level)
        assert isinstance(found, Turn)
        return Turn(found.threshold + np.int32(2), found.flipped)

    monkeypatch.setattr("graphrewrite.passes.binary.lower.turn", late)
    b = Builder(seed=21)
    x = picture(b, 9)
    sums = binary_conv(b, signs(b, x), out=8, into=9)
    model = b.model(binary_conv(b, signs(b, sums), out=4, into=8))
    with pytest.raises(StepError):
        lowered(model)
