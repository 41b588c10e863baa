"""Each adapter: what is written, and onnxruntime's kernels of the old version beside those of the new one."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.errors import UnsupportedOp
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.opset import convert, converted
from graphrewrite.passes.opset.site import Site
from tests.passes.tidy.cases import operators, prove_same

Draw = Callable[[Builder], gs.Tensor]


class Case(NamedTuple):
    """A graph of one operator set, another one, and the operators that it has there."""

    name: str
    start: int
    to: int
    draw: Draw
    after: str

    def model(self) -> Model:
        b = Builder(self.start)
        out = self.draw(b)
        return b.model(out)


def floats(values: npt.ArrayLike) -> npt.NDArray[np.float32]:
    return np.asarray(values, np.float32)


def one(op: str, *shape: int | str, **attrs: object) -> Draw:
    """An operator with one input of this shape."""
    return lambda b: b.op(op, b.input(shape, "x"), name="it", **attrs)  # type: ignore[arg-type]


def with_floats(op: str, values: list[float], *shape: int, **attrs: object) -> Draw:
    return lambda b: b.op(op, b.input(shape, "x"), b.constant(floats(values)), name="it", **attrs)  # type: ignore[arg-type]


def grid(mode: str) -> Draw:
    def draw(b: Builder) -> gs.Tensor:
        where = b.constant(np.linspace(-0.9, 0.8, 18).reshape(1, 3, 3, 2).astype(np.float32))
        return b.op("GridSample", b.input([1, 2, 5, 5], "x"), where, name="it", mode=mode)

    return draw


def boxes(b: Builder) -> gs.Tensor:
    found = b.constant(floats([[0.4, 0.3, 4.1, 3.7], [1, 1, 2.2, 4]]))
    return b.op(
        "RoiAlign",
        b.input([1, 2, 6, 6], "x"),
        found,
        b.constant(np.array([0, 0])),
        output_height=2,
        output_width=3,
    )


def normed(b: Builder) -> gs.Tensor:
    scale, bias = b.constant(floats([0.5, 2])), b.constant(floats([1, -1]))
    return b.op("GroupNormalization", b.input(["N", 6, 3, 3], "x"), scale, bias, num_groups=2)


def placed(b: Builder) -> gs.Tensor:
    indices = b.constant(np.array([[0, 1], [2, 0]]))
    return b.op("Scatter", b.input([3, 2], "x"), indices, b.constant(floats([[7, 8], [9, 10]])), axis=0)


def halves(b: Builder) -> gs.Tensor:
    first, second = b.op_all("Split", b.input([2, 6], "x"), outputs=2, name="it", axis=1)
    return b.op("Sub", first, second)


def uneven(b: Builder) -> gs.Tensor:
    first, second = b.op_all("Split", b.input([2, 6], "x"), outputs=2, name="it", axis=1, split=[2, 4])
    return b.concat(second, first)


def largest(b: Builder) -> gs.Tensor:
    return b.op_all("TopK", b.input([3, 5], "x"), outputs=2, name="it", k=2)[0]


def of_the_batch(b: Builder) -> gs.Tensor:
    vectors = [b.constant(floats(v)) for v in ([1, 2], [0, 1], [0.1, 0.2], [1, 3])]
    return b.op_all("BatchNormalization", b.input([3, 2, 4], "x"), *vectors, outputs=5, name="it")[0]


def spectrum(b: Builder) -> gs.Tensor:
    return b.op("DFT", b.input([1, 5, 4, 1], "x"), name="it")


CASES = [
    Case("scales", 8, 9, one("Upsample", 1, 2, 3, 3, scales=[1.0, 1, 2, 3], mode="nearest"), "Upsample"),
    Case("nearest", 8, 13, one("Upsample", 1, 2, 3, 3, scales=[1.0, 1, 2, 3], mode="nearest"), "Resize"),
    Case("linear", 9, 19, with_floats("Upsample", [1, 1, 2, 2.5], 1, 2, 3, 3, mode="linear"), "Resize"),
    Case("shrinks", 10, 21, with_floats("Resize", [1, 1, 0.4, 0.7], 1, 2, 7, 7, mode="nearest"), "Resize"),
    Case("slice", 9, 13, one("Slice", 4, 5, starts=[1, -2], ends=[3, 1 << 62], axes=[0, 1]), "Slice"),
    Case("all of it", 9, 10, one("Slice", 4, 5, starts=[1, 0], ends=[3, 2]), "Slice"),
    Case("largest", 9, 11, largest, "TopK"),
    Case("both ends", 10, 13, one("Clip", 3, 4, min=-0.5, max=0.5), "Clip"),
    Case("upper end", 7, 13, one("Clip", 3, 4, max=0.5), "Clip"),
    Case("no end", 7, 13, one("Clip", 3, 4), "Clip"),
    Case("pads", 10, 21, one("Pad", 2, 3, pads=[0, 1, 1, 0], value=1.5), "Pad"),
    Case("mirrored", 8, 21, one("Pad", 2, 3, pads=[0, 1, 1, 0], mode="reflect"), "Pad"),
    Case("dropout", 7, 13, one("Dropout", 2, 3, ratio=0.9), "Dropout"),
    Case("halves", 11, 21, halves, "Split Sub"),
    Case("uneven", 11, 18, uneven, "Concat Split"),
    Case("squeeze", 12, 13, one("Squeeze", 1, 3, 1, axes=[0]), "Squeeze"),
    Case("squeeze all", 12, 13, one("Squeeze", 1, 3, 1), "Squeeze"),
    Case("unsqueeze", 8, 21, one("Unsqueeze", 3, 4, axes=[0, 2]), "Unsqueeze"),
    Case("sum", 11, 13, one("ReduceSum", 3, 4, 5, axes=[1], keepdims=0), "ReduceSum"),
    Case("mean", 13, 18, one("ReduceMean", 3, 4, 5, axes=[-1, 0]), "ReduceMean"),
    Case("mean of all", 13, 18, one("ReduceMean", 3, 4, 5), "ReduceMean"),
    Case("spectrum", 17, 20, spectrum, "DFT"),
    Case("softmax over two", 12, 13, one("Softmax", 3, 4, 5), "Flatten Reshape Shape Softmax"),
    Case("softmax, open sizes", 9, 21, one("LogSoftmax", "N", "T", 5), "Flatten LogSoftmax Reshape Shape"),
    Case("softmax of rows", 12, 13, one("Softmax", "N", 4), "Softmax"),
    Case("softmax of pixels", 12, 13, one("Softmax", 2, 4, 1, 1), "Softmax"),
    Case("hardmax", 11, 13, one("Hardmax", 3, 4, 5, axis=0), "Flatten Hardmax Reshape Shape"),
    Case("norm", 8, 15, lambda b: b.batchnorm(b.input([3, 2, 4], "x"), 2), "BatchNormalization"),
    Case("norm of the batch", 9, 21, of_the_batch, "BatchNormalization"),
    Case("boxes", 10, 16, boxes, "RoiAlign"),
    Case("bilinear", 16, 20, grid("bilinear"), "GridSample"),
    Case("bicubic", 16, 20, grid("bicubic"), "GridSample"),
    Case("groups", 18, 21, normed, "GroupNormalization"),
    Case("scatter", 9, 16, placed, "ScatterElements"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_outputs_stay_and_the_operators_are_those_expected(case: Case) -> None:
    model = case.model()

    done = converted(model, case.to)

    assert done.model.opset == case.to and model.opset == case.start
    assert operators(done.model) == case.after
    assert done.rewritten
    prove_same(model, done.model)


def test_every_adapter_has_a_case_or_a_refusal() -> None:
    met: set[tuple[str, int]] = set()

    def noting(key: tuple[str, int]) -> Callable[[Site], None]:
        def run(site: Site) -> None:
            met.add(key)
            plain[key](site)

        return run

    plain = dict(convert._ADAPTERS)
    noted = {key: noting(key) for key in plain}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(convert, "_ADAPTERS", noted)
        for case in CASES:
            converted(case.model(), case.to)
        for case in REFUSED:
            with pytest.raises(UnsupportedOp):
                converted(case.model(), case.to)

    assert {key for key in plain if not key[0].startswith("Reduce")} <= met


def nothing(site: Site) -> None:
    """The plainest way to convert: write the new number on the model."""


def half_pixels(site: Site) -> None:
    """Scales at their new place, and the new way to find positions."""
    scales = site.node.inputs[1]
    site.put(1, np.zeros(0, np.float32), "roi")
    site.node.inputs.append(scales)


@pytest.mark.parametrize(
    ("key", "case", "wrong"),
    [
        (("Softmax", 13), "softmax over two", nothing),
        (("RoiAlign", 16), "boxes", nothing),
        (("BatchNormalization", 14), "norm of the batch", lambda site: site.only_first_output("")),
        (("Resize", 11), "shrinks", half_pixels),
    ],
)
def test_a_wrong_adapter_is_seen(
    key: tuple[str, int], case: str, wrong: Callable[[Site], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    (chosen,) = [each for each in CASES if each.name == case]
    monkeypatch.setattr(convert, "_ADAPTERS", {**convert._ADAPTERS, key: wrong})
    model = chosen.model()
    after = converted(model, chosen.to).model

    with pytest.raises(AssertionError, match=r"\d\.\d"):
        prove_same(model, after)


def computed_scales(b: Builder) -> gs.Tensor:
    scales = b.op("Cast", b.input([4], "s"), to=1)
    return b.op("Resize", b.input([1, 2, 7, 7], "x"), scales, name="it", mode="nearest")


def masked(b: Builder) -> gs.Tensor:
    kept, mask = b.op_all("Dropout", b.input([2, 3], "x"), outputs=2, name="it")
    return b.op("Add", kept, b.op("Cast", mask, to=1))


def statistics(b: Builder) -> gs.Tensor:
    vectors = [b.constant(floats(v)) for v in ([1, 2], [0, 1], [0.1, 0.2], [1, 3])]
    outs = b.op_all("BatchNormalization", b.input([3, 2, 4], "x"), *vectors, outputs=5, name="it")
    return b.op("Add", outs[1], outs[2])


def unknown_channels(b: Builder) -> gs.Tensor:
    x = b.input(["N", "C", 3, 3], "x")
    return b.op("GroupNormalization", x, b.input([2], "s"), b.input([2], "o"), name="it", num_groups=2)


REFUSED = [
    Case("old scan", 8, 9, one("Scan", 2, 3), "batch"),
    Case("both ways", 10, 11, with_floats("Resize", [1, 1, 0.5, 2], 1, 2, 4, 4, mode="nearest"), "shrinks"),
    Case("computed scales", 10, 11, computed_scales, "computed"),
    Case(
        "gone",
        11,
        13,
        lambda b: b.op(
            "Resize",
            b.input([1, 1, 4, 4], "x"),
            b.constant(np.zeros(0, np.float32)),
            b.constant(floats([1, 1, 2, 2])),
            name="it",
            coordinate_transformation_mode="tf_half_pixel_for_nn",
        ),
        "tf_half_pixel_for_nn",
    ),
    Case("mask", 7, 10, masked, "mask"),
    Case("statistics", 9, 14, statistics, "statistics"),
    Case("spatial", 7, 9, lambda b: spatial(b), "attribute spatial"),
    Case("channels", 18, 21, unknown_channels, "channels"),
    Case(
        "integers", 9, 13, lambda b: b.op("Erf", b.input([2], "x", np.int32), name="it"), "does not take 'x'"
    ),
]


def spatial(b: Builder) -> gs.Tensor:
    vectors = [b.constant(np.ones((2, 4), np.float32)) for _ in range(4)]
    return b.op("BatchNormalization", b.input([3, 2, 4], "x"), *vectors, name="it", spatial=0)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_what_has_no_form_is_refused_by_name_and_reason(case: Case) -> None:
    model = case.model()
    before = model.to_proto()

    with pytest.raises(UnsupportedOp, match=rf"'it' \(\w+\): .*{case.after}"):
        converted(model, case.to)

    assert model.to_proto() == before
