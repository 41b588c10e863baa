"""Normalisations with more than one output, and losses."""

from graphrewrite.ir.shape_rules.call import FLOAT32, Call, axis_of, shape_rule
from graphrewrite.ir.sizes import note_equal
from graphrewrite.ir.values import onnx_dtype_to_numpy


@shape_rule("BatchNormalization")
def batch_norm(call: Call) -> None:
    """Output 0 has the shape of the input, running statistics one number per channel."""
    x = call.shape(0)
    call.put(0, x)
    scale = call.shape(1)
    if x is not None and scale and len(x) > 1:
        note_equal(x[1], scale[0])
    for index in range(1, len(call.outputs)):
        source = 3 + (index - 1) % 2
        shape = call.shape(source)
        if shape is None and x is not None:
            shape = x[1:2]
        call.put(index, shape, call.dtype(source))


@shape_rule("LayerNormalization")
def layer_norm(call: Call) -> None:
    """Mean and inverse deviation have size 1 on the normalised axes."""
    x = call.shape(0)
    stash = onnx_dtype_to_numpy(call.integer("stash_type", 1))
    call.put(1, None, stash)
    call.put(2, None, stash)
    if x is None:
        return
    call.put(0, x)
    scale = call.shape(1)
    if scale and x:
        note_equal(x[-1], scale[-1], or_one=True)
    axis = axis_of(call.integer("axis", -1), len(x))
    inner = (*x[:axis], *(1 for _ in x[axis:]))
    call.put(1, inner)
    call.put(2, inner)


@shape_rule("NegativeLogLikelihoodLoss")
def likelihood_loss(call: Call) -> None:
    """A scalar, or one number per target."""
    call.put(0, call.shape(1) if call.text("reduction", "mean") == "none" else ())


@shape_rule("SoftmaxCrossEntropyLoss")
def cross_entropy(call: Call) -> None:
    """A scalar, or one number per target; the second output has the shape of the scores."""
    call.put(0, call.shape(1) if call.text("reduction", "mean") == "none" else ())
    call.put(1, call.shape(0), call.dtype(0) or FLOAT32)
