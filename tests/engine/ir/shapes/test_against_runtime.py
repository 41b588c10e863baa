"""What `infer` says of operator examples and of the corpus is what onnxruntime computes; nothing may contradict it."""

import numpy as np
import onnx
import pytest
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from graphrewrite.ir import Builder, Model, ShapeInfo, infer
from tests.corpus import index
from tests.engine.ir.shapes.agreement import Agreement, Array, all_tensors, compare
from tests.engine.ir.shapes.node_cases import Case, Form, cases, invented

REFUSED = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
    RuntimeError,
    ValueError,
)

# A cross-section that runs in seconds; the slow test takes all.
QUICK = (
    "^test_(conv_with|convtranspose_(autopad|dil|out|kern)|maxpool_2d|averagepool_2d_ceil|averagepool_1d|reshape_|slice|split_e|split_v"
    "|squeeze|unsqueeze_(two|neg)|resize_(up|down)sample_(scales_n|sizes_nearest_not)|resize_tf|gather_|gathernd|scatternd|pad|constant_pad"
    "|expand|tile|einsum|matmul|gemm_(tr|def)|reduce_sum_|argmax_(k|no)|cumsum|onehot|topk|top_k|range_|concat_[123]d_axis_1|depthtospace"
    "|spacetodepth|gru|lstm|simple_rnn|loop1[13]|scan9|if$|sequence_insert|split_to|attention_4d_(gqa|with_past)$|layer_normalization_2d"
    "|where_|shape_|size|constantofshape|quantizelinear|qlinear|matmulinteger|trilu_p|nonzero|compress|center_crop_pad_crop|affine_grid_2d"
    "|groupnormalization|rms_normalization_2d_axis0|celu|clip|mod_|pow|and2d|bitshift_left_uint8|div_int|mish)"
)


def run(case: Case, feeds: dict[str, Array]) -> dict[str, Array] | None:
    try:
        return all_tensors(case.proto, feeds)
    except REFUSED:
        return None  # onnxruntime has no kernel for it, or the invented sizes are not valid for the operator


def agreement(form: Form, pattern: str) -> tuple[Agreement, int]:
    total, ran = Agreement(), 0
    for case in cases(form, pattern):
        model = Model.from_proto(case.proto)
        info = infer(model)
        for world in (0, 1) if form == "symbolic" else (0,):
            if form == "symbolic" and any(tensor.shape is None for tensor in model.inputs):
                continue
            actual = run(case, invented(model, info, world) if form == "symbolic" else dict(case.feeds))
            if actual is not None:
                ran += 1
                found = compare(model, info, actual, world)
                found.wrong = [f"{case.name} world {world}: {text}" for text in found.wrong]
                total.add(found)
    return total, ran


@pytest.mark.parametrize(
    ("form", "ran_at_least", "known_at_least"),
    [
        ("plain", 200, 0.75),
        ("small constants", 200, 0.98),
        ("all constants", 200, 0.98),
        ("symbolic", 200, 0.98),
    ],
)
def test_operator_examples(form: Form, ran_at_least: int, known_at_least: float) -> None:
    total, ran = agreement(form, QUICK)
    assert total.wrong == []
    assert ran >= ran_at_least
    assert 1 - len(total.unknown) / total.tensors >= known_at_least


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "known_at_least"),
    [("plain", 0.95), ("small constants", 0.995), ("all constants", 0.995), ("symbolic", 0.99)],
)
def test_all_operator_examples(form: Form, known_at_least: float) -> None:
    total, ran = agreement(form, "")
    assert total.wrong == []
    assert ran > 1000
    assert 1 - len(total.unknown) / total.tensors >= known_at_least


def corpus_agreement(core_only: bool) -> Agreement:
    total = Agreement()
    for entry in index.entries():
        if core_only and not entry.core:
            continue
        model = Model.load(entry.path)
        info = infer(model)
        for world in (0, 1):
            sizes = info.sample_shapes(world)
            feeds = entry.sample(batch=(2, 3)[world])
            if any(feeds[name].shape != shape for name, shape in sizes.items() if name in feeds):
                continue
            total.add(compare(model, info, all_tensors(onnx.load(entry.path), feeds), world))
    return total


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_corpus() -> None:
    if not index.entries():
        pytest.skip("the corpus is not built")
    total = corpus_agreement(core_only=False)
    assert total.wrong == []
    assert len(total.unknown) <= 0.01 * total.tensors


def test_a_wrong_answer_is_noticed() -> None:
    b = Builder()
    x = b.input(["batch", 3])
    y = b.op("Shape", x, name="sizes")
    z = b.relu(x)
    model = b.model(y, z, dtypes=[np.int64, np.float32])
    feeds = {x.name: np.zeros((2, 3), dtype=np.float32)}
    actual = all_tensors(model.to_proto(), feeds)
    assert compare(model, infer(model), actual, 0).wrong == []

    told = infer(model)
    assert len(compare(model, Spoilt(told, z.name, sizes=(2, 4)), actual, 0).wrong) == 1
    assert len(compare(model, Spoilt(told, z.name, dtype=np.dtype(np.float64)), actual, 0).wrong) == 1
    assert len(compare(model, Spoilt(told, y.name, numbers=np.array([2, 4])), actual, 0).wrong) == 1
    assert compare(model, Spoilt(told, z.name, forgets=True), actual, 0).unknown == [z.name]
    # World 1 has batch 3: both the relu's shape and the shape vector differ.
    assert len(compare(model, told, actual, 1).wrong) == 2


class Spoilt:
    """Shape information with one tensor told wrongly."""

    def __init__(
        self,
        told: ShapeInfo,
        name: str,
        sizes: tuple[int, ...] | None = None,
        dtype: np.dtype[np.generic] | None = None,
        numbers: Array | None = None,
        forgets: bool = False,
    ) -> None:
        self.told, self.name, self.forgets = told, name, forgets
        self.wrong = (sizes, dtype, numbers)

    def sizes(self, name: str, world: int = 0) -> tuple[int, ...] | None:
        if name == self.name and (self.forgets or self.wrong[0] is not None):
            return self.wrong[0]
        return self.told.sizes(name, world)

    def dtype(self, name: str) -> np.dtype[np.generic] | None:
        return self.wrong[1] if name == self.name and self.wrong[1] is not None else self.told.dtype(name)

    def numbers(self, name: str, world: int = 0) -> Array | None:
        return (
            self.wrong[2]
            if name == self.name and self.wrong[2] is not None
            else self.told.numbers(name, world)
        )
