"""Whole residual nets with binary layers beside their float and onnxruntime-int8 selves: wall clock and CPU time.

`python -m tests.bench.binary_models` prints a table for custom_ops/MEASURED.md. Nets of 18 layers on 224 x 224 and on
32 x 32: plain ones, in which two layers of a block are neighbours and hand over bits, and ones with a sum around every
layer (Liu and others, 2018), where numbers stand between all. Random weights: this is about speed. With `--methods` the
same for the nets that binarizers make, and what each puts around its layers.
"""

from collections.abc import Mapping

import onnx_graphsurgeon as gs

from graphrewrite.ir import Builder, Model
from graphrewrite.passes.binary import BinarizeConv, LowerBinaryConv, TrainBinary
from graphrewrite.passes.binary.binarizers import binarizers
from graphrewrite.passes.binary.prepare import prepare, settle
from graphrewrite.pipeline import Pipeline
from tests.bench.common import command, facts, say
from tests.bench.kernels_common import head, options_of, row
from tests.bench.models_common import cell, measure, statically_int8

STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))


def residual(size: int, sums_everywhere: bool) -> Model:
    """Draw a net of 18 layers; shortcuts between stages are 1x1 convolutions."""
    b = Builder(seed=0)
    x: gs.Tensor = b.input([1, 3, size, size], "image")
    if size > 64:
        x = b.relu(b.batchnorm(b.conv(x, 64, 3, 7, stride=2, bias=False), 64))
        x = b.op("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    else:
        x = b.relu(b.batchnorm(b.conv(x, 64, 3, 3, bias=False), 64))
    channels = 64
    for out, stride in STAGES:
        for step in (stride, 1):
            x, channels = _block(b, x, channels, out, step, sums_everywhere), out
    pooled = b.op("Flatten", b.op("GlobalAveragePool", x), axis=1)
    return b.model(b.linear(pooled, 1000 if size > 64 else 10, channels))


def _block(b: Builder, x: gs.Tensor, into: int, out: int, stride: int, sums_everywhere: bool) -> gs.Tensor:
    way = x
    if into != out:
        way = b.batchnorm(b.conv(x, out, into, 1, stride=stride, bias=False), out)
    one = b.batchnorm(b.conv(x, out, into, 3, stride=stride, bias=False), out)
    if sums_everywhere:
        one = b.relu(b.add(one, way))
        two = b.batchnorm(b.conv(one, out, out, 3, bias=False), out)
        return b.relu(b.add(two, one))
    two = b.batchnorm(b.conv(b.relu(one), out, out, 3, bias=False), out)
    return b.relu(b.add(two, way))


def selves(model: Model) -> Mapping[str, Model]:
    """Return a model, its onnxruntime-int8 self, and its binary self in standard operators and in ours."""
    binary = Pipeline((BinarizeConv(),), verify="structure").run(model).model
    own = Pipeline((LowerBinaryConv(when="always"),), verify="structure").run(binary).model
    return {"fp32": model, "int8": statically_int8(model), "signs in fp32": binary, "binary": own}


def of_methods(model: Model) -> Mapping[str, Model]:
    """Return a model and what each binarizer makes of it, lowered; nothing is trained."""
    from graphrewrite.bridge import GraphModule, attach, fold

    found = {"fp32": model}
    for name in binarizers:
        step = TrainBinary(binarizers.make(name))
        prepared = prepare(model, step, step.method)
        module = GraphModule(prepared.model)
        attach(module, step.recipe_for(prepared).stages[-1].transforms)
        binary = settle(fold(module), prepared.marks)
        lower = Pipeline((LowerBinaryConv(when="always"),), verify="structure")
        found[name] = lower.run(binary).model
    return found


def main() -> None:
    """Print the table."""
    parser = options_of(__doc__, rounds=15)
    parser.add_argument("--methods", action="store_true", help="the nets that binarizers make")
    chosen = parser.parse_args()
    if chosen.methods:
        print_methods(chosen.rounds, chosen.threads)
        return
    names = ("fp32", "int8", "signs in fp32", "binary")
    say(f"{command()}; {facts()}\n")
    say("\n".join(head(["net", "threads", *(f"{name}: wall ms (CPU)" for name in names)])))
    for size in (224, 32):
        for sums_everywhere in (False, True):
            title = f"18 layers, {size} x {size}, {'sums around every layer' if sums_everywhere else 'plain'}"
            spent = measure(selves(residual(size, sums_everywhere)), chosen.rounds, chosen.threads)
            say(row([title, str(chosen.threads), *(cell(spent, name, chosen.threads) for name in names)]))


def print_methods(rounds: int, threads: int) -> None:
    """Print a table of what binarizers put around layers, in time."""
    names = ("fp32", *binarizers)
    say(f"{command()}; {facts()}\n")
    say("\n".join(head(["net", "threads", *(f"{name}: wall ms (CPU)" for name in names)])))
    for size in (224, 32):
        spent = measure(of_methods(residual(size, sums_everywhere=True)), rounds, threads)
        say(
            row(
                [f"18 layers, {size} x {size}", str(threads), *(cell(spent, name, threads) for name in names)]
            )
        )


if __name__ == "__main__":
    main()
