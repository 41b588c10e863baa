"""Running one node of ours: through its function body, or in the compiled library with a given instruction set."""

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper

from graphrewrite import custom_ops
from graphrewrite.custom_ops import Case, OpSpec
from graphrewrite.custom_ops.presence import forced, presence
from graphrewrite.ir import Array

needs_library = pytest.mark.skipif(not custom_ops.available(), reason="built without a compiler: no kernels")


def one_node(
    spec: OpSpec,
    case: Case,
    opset: int = 18,
    run_time: Sequence[str] = (),
    function: bool = True,
    ranks: Sequence[int | None] | None = None,
) -> onnx.ModelProto:
    """Return a model of one node. Inputs that op.toml calls constant are initializers, the others are fed.

    `run_time` names constant ones to feed all the same; without `function` the model needs the library; `ranks` are
    those of the outputs, which only onnx's checker asks for.
    """
    inputs, initializers = [], []
    for port in spec.inputs:
        value = case.inputs[port.name]
        kind = helper.np_dtype_to_tensor_dtype(value.dtype)
        if port.constant and port.name not in run_time:
            initializers.append(
                helper.make_tensor(
                    port.name, kind, value.shape, np.ascontiguousarray(value).tobytes(), raw=True
                )
            )
        else:
            inputs.append(helper.make_tensor_value_info(port.name, kind, [None] * value.ndim))
    kinds = {"float": 1, "uint8": 2, "int8": 3, "int32": 6, "int64": 7, "float16": 10, "uint32": 12}
    node = helper.make_node(
        spec.name,
        [port.name for port in spec.inputs],
        [port.name for port in spec.outputs],
        name="the_node",
        domain=custom_ops.DOMAIN,
    )
    for declared, (name, given) in zip(spec.attributes, spec.filled(case.attributes).items(), strict=True):
        # A list that is empty does not say what it is a list of.
        number = {"int": 2, "ints": 7, "float": 1, "floats": 6, "string": 3}[declared.type]
        node.attribute.append(helper.make_attribute(name, given, attr_type=number))
    graph = helper.make_graph(
        [node],
        "one_node",
        inputs,
        [
            helper.make_tensor_value_info(
                port.name, kinds[port.type], None if rank is None else [None] * rank
            )
            for port, rank in zip(spec.outputs, ranks or [None] * len(spec.outputs), strict=True)
        ],
        initializers,
    )
    return helper.make_model(
        graph,
        opset_imports=[
            helper.make_opsetid("", opset),
            helper.make_opsetid(custom_ops.DOMAIN, custom_ops.VERSION),
        ],
        functions=[spec.function(opset)] if function else [],
        ir_version=9,
    )


def fed(spec: OpSpec, case: Case, run_time: Sequence[str] = ()) -> Mapping[str, Array]:
    """Return the inputs that `one_node` leaves to the caller."""
    return {
        port.name: case.inputs[port.name]
        for port in spec.inputs
        if not port.constant or port.name in run_time
    }


def started(model: onnx.ModelProto, *, kernels: bool, threads: int = 1) -> ort.InferenceSession:
    """Load a model with or without the library; errors are onnxruntime's own."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if kernels:
        custom_ops.register(options)
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def by_body(spec: OpSpec, case: Case, opset: int = 18) -> list[Array]:
    """Run a case in plain onnxruntime."""
    values = started(one_node(spec, case, opset), kernels=False).run(None, dict(fed(spec, case)))
    return [np.asarray(value) for value in values]


def by_kernel(spec: OpSpec, case: Case, isa: str | None = None, threads: int = 1) -> list[Array]:
    """Run a case in the library; the model holds no function body, so nothing else can answer."""
    with forced(isa):
        session = started(one_node(spec, case, function=False), kernels=True, threads=threads)
    return [np.asarray(value) for value in session.run(None, dict(fed(spec, case)))]


def by_reference(spec: OpSpec, case: Case) -> list[Array]:
    """Run the numpy form."""
    values = spec.reference(*(case.inputs[p.name] for p in spec.inputs), **spec.filled(case.attributes))
    return list(values) if isinstance(values, tuple) else [values]


@cache
def isas() -> tuple[str, ...]:
    """The instruction sets this machine can run kernels with, worst first; none without the library."""
    return presence().isas


def assert_agree(got: Sequence[Array], wanted: Sequence[Array], rtol: float, what: str) -> None:
    """Compare outputs: shape and type exactly, values within `rtol` of the largest, bit for bit where that is 0."""
    assert len(got) == len(wanted), what
    for mine, theirs in zip(got, wanted, strict=True):
        assert mine.dtype == theirs.dtype, f"{what}: type {mine.dtype} for {theirs.dtype}"
        assert mine.shape == theirs.shape, f"{what}: shape {mine.shape} for {theirs.shape}"
        if rtol == 0 or theirs.size == 0:
            np.testing.assert_array_equal(mine, theirs, err_msg=what)
            continue
        finite = np.isfinite(theirs.astype(np.float64))
        np.testing.assert_array_equal(mine[~finite], theirs[~finite], err_msg=what)
        scale = np.abs(theirs[finite].astype(np.float64)).max(initial=0.0)
        off = np.abs(mine[finite].astype(np.float64) - theirs[finite].astype(np.float64)).max(initial=0.0)
        assert off <= rtol * max(scale, 1e-30), (
            f"{what}: off by {off:.3g} of {scale:.3g}, allowed {rtol:g} of it"
        )
