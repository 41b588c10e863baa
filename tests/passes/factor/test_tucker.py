"""Tucker-2 of convolutions: fits, sizes, and the three convolutions that are written."""

import numpy as np
import pytest

from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.factor import Factorize
from graphrewrite.passes.factor.factorizations import Floats, factorizations
from graphrewrite.passes.factor.factorizations.tucker import Tucker
from graphrewrite.passes.factor.tucker_product import Tucker2
from graphrewrite.pipeline import Pipeline
from graphrewrite.pipeline.manager import PipelineResult


def thin(ins: int, taps: int, outs: int, ranks: tuple[int, int], seed: int = 0) -> Floats:
    """A weight [in x taps, out] with these ranks along its channels."""
    rng = np.random.default_rng(seed)
    core = rng.standard_normal((ranks[0], taps, ranks[1]))
    left, right = rng.standard_normal((ins, ranks[0])), rng.standard_normal((ranks[1], outs))
    return by_loops(Tucker2(left, core, right))


def by_loops(factors: Tucker2) -> Floats:
    """What the factors multiply to, one number of the core at a time."""
    whole = np.zeros((len(factors.left), factors.core.shape[1], factors.right.shape[1]))
    for r, t, s in np.ndindex(*factors.core.shape):
        whole[:, t] += factors.core[r, t, s] * np.outer(factors.left[:, r], factors.right[s])
    return whole.reshape(-1, whole.shape[2])


def error(weight: Floats, factors: Tucker2) -> float:
    """Distance in the norm, as a share."""
    return float(np.linalg.norm(weight - by_loops(factors)) / np.linalg.norm(weight))


def test_a_weight_of_low_ranks_loses_nothing_and_expands_as_loops_say() -> None:
    weight = thin(12, 9, 20, (3, 5))

    factors = Tucker(params=0.3).decomposed(weight, 9)

    assert factors.left.shape[1] >= 3 and factors.right.shape[0] >= 5
    assert error(weight, factors) < 1e-12
    np.testing.assert_allclose(factors.expand(), by_loops(factors), atol=1e-12)


def test_taps_and_inputs_mixed_up_would_be_seen() -> None:
    """A mutation: the same numbers read as [taps, in, out] have full rank along what is taken for channels."""
    weight = thin(12, 9, 20, (3, 5))
    mixed = weight.reshape(12, 9, 20).transpose(1, 0, 2).reshape(-1, 20)

    assert error(mixed, Tucker(params=0.3).decomposed(mixed, 9)) > 0.1


def test_rounds_bring_it_nearer_and_never_beyond_what_singular_values_allow() -> None:
    weight = np.random.default_rng(4).standard_normal((16 * 9, 24))
    found = [error(weight, Tucker(0.4, rounds).decomposed(weight, 9)) for rounds in (0, 1, 2, 8)]

    assert found == sorted(found, reverse=True) and found[-1] < found[0]
    factors = Tucker(0.4).decomposed(weight, 9)
    for unfolded, rank in (
        (weight.reshape(16, -1), factors.left.shape[1]),
        (weight, factors.right.shape[0]),
    ):
        values = np.linalg.svd(unfolded, compute_uv=False)
        assert found[-1] >= np.sqrt(np.square(values[rank:]).sum() / np.square(values).sum()) - 1e-12


@pytest.mark.parametrize(
    ("shape", "params", "ranks"),
    [
        ((8, 9, 8), 1.0, (7, 7)),  # 64 + 64 + 9 * 64 is more than 576; 56 + 56 + 441 is not
        ((8, 9, 8), 0.5, (4, 4)),  # of 288: 80 + 225 at 5 is more
        ((4, 9, 16), 0.5, (2, 8)),  # of 288: 8 + 128 + 144 at a half; 5 eighths are (2, 10): 8 + 160 + 180
        ((2, 3, 2), 0.1, (1, 1)),
    ],
)
def test_both_widths_are_the_same_share_and_keep_to_the_numbers(
    shape: tuple[int, int, int], params: float, ranks: tuple[int, int]
) -> None:
    weight = np.random.default_rng(0).standard_normal((shape[0] * shape[1], shape[2]))

    factors = Tucker(params).decomposed(weight, shape[1])

    assert (factors.left.shape[1], factors.right.shape[0]) == ranks
    assert factors.parameters == factors.left.size + factors.core.size + factors.right.size


def convolutions() -> Model:
    """Convolutions with strides, padding, dilations, in one to three dimensions, with and without a bias."""
    b = Builder(seed=6)
    flat = b.conv(b.input(["N", 8, 11, 9], "x"), 12, 8, name="plane", stride=2, bias=True)
    wide = b.op("Conv", flat, b.weight(12, 12, 3, 3), name="dilated", dilations=[2, 2], pads=[2, 1, 2, 3])
    line = b.op("Reshape", wide, b.constant(np.array([0, 12, -1])))
    line = b.op("Conv", line, b.weight(10, 12, 5), name="line", auto_pad="SAME_UPPER")
    cube = b.op("Reshape", line, b.constant(np.array([0, 10, 2, 3, -1])))
    cube = b.op("Conv", cube, b.weight(8, 10, 2, 2, 3), name="cube", strides=[1, 1, 2])
    return b.model(b.op("Conv", cube, b.weight(9, 8, 1, 1, 1), name="point", strides=[1, 1, 2]))


def factored(model: Model, **fields: object) -> PipelineResult:
    """Run the pass with full verification."""
    return Pipeline([Factorize(factorizations.make("tucker", **fields), smallest=0)]).run(model)


@pytest.mark.parametrize("params", [0.3, 0.6])
def test_three_convolutions_do_what_the_product_does(params: float) -> None:
    model = convolutions()

    result = factored(model, params=params)

    assert result.report.steps[0].verified.how == "reference"
    rows = result.report.steps[0].details["layers"]
    assert isinstance(rows, list) and len(rows) == 5
    kernels = [node.attrs["kernel_shape"] for node in result.model.nodes("Conv")]
    assert (
        kernels
        == [[1, 1], [3, 3], [1, 1]] * 2 + [[1], [5], [1]] + [[1] * 3, [2, 2, 3], [1] * 3] + [[1] * 3] * 2
    )
    for row in rows:
        assert isinstance(row, dict)
        assert row["parameters_after"] <= params * row["parameters_before"]  # type: ignore[operator]


@pytest.mark.parametrize("fields", [{"params": 0.0}, {"params": 1.5}, {"rounds": -1}, {"rounds": True}])
def test_impossible_options_are_refused(fields: dict[str, float]) -> None:
    with pytest.raises(InvalidConfig, match=f"Tucker.{next(iter(fields))} is"):
        factorizations.make("tucker", **fields)
