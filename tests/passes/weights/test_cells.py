"""LSTMs of bytes: what onnxruntime's operator computes, to the last digits, is what the written-out cells say."""

from collections.abc import Callable

import numpy as np
import onnx_graphsurgeon as gs
import pytest

from graphrewrite.errors import VerificationError
from graphrewrite.ir import Builder, Model
from graphrewrite.passes.weights import DynamicQuantizeCells, cells
from graphrewrite.passes.weights.blocks import Blocks, Singles, rounded
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.pipeline.verify import compare
from graphrewrite.runtime import run, sample_inputs
from tests.passes.quant.nets import left, served


def recurrent(
    direction: str = "forward", states: bool = False, width: int = 72, op: str = "LSTM", clip: float = 0.0
) -> Model:
    """One cell over five steps of two samples with 40 numbers each."""
    b = Builder(opset=17, seed=1)
    directions = 2 if direction == "bidirectional" else 1
    gates, outputs = {"GRU": (3 * width, 2), "LSTM": (4 * width, 3)}[op]
    operands: list[gs.Tensor | None] = [b.input([5, 2, 40], "x")]
    operands += [b.weight(directions, gates, 40), b.weight(directions, gates, width)]
    operands.append(b.constant((0.1 * b.rng.standard_normal((directions, 2 * gates))).astype(np.float32)))
    if states:
        operands += [None, *(b.input([directions, 2, width], name) for name in ("h", "c"))]
    made = b.op_all(op, *operands, outputs=outputs, name="cell", hidden_size=width, direction=direction)
    if clip:
        b.graph.nodes[-1].attrs["clip"] = clip
    return b.model(*made)


@pytest.mark.parametrize(
    ("direction", "states"), [("forward", False), ("reverse", True), ("bidirectional", False)]
)
def test_on_one_thread_it_is_what_the_roundings_say(direction: str, states: bool) -> None:
    model = recurrent(direction, states)
    outcome = DynamicQuantizeCells().run(model.clone(), Context())
    assert outcome.reference is not None
    feeds = sample_inputs(model, 3)

    got, exact, floats = (run(each, feeds, threads=1) for each in (outcome.model, outcome.reference(), model))

    assert served(outcome.model)["DynamicQuantizeLSTM"] == 1 and not outcome.model.nodes("LSTM")
    assert max(compare(exact, got).values()) < 1e-6
    assert all(1e-4 < error < 0.02 for error in compare(floats, got).values())


def test_a_pipeline_proves_it_on_any_number_of_threads() -> None:
    result = Pipeline((DynamicQuantizeCells(),)).run(recurrent(), Context(threads=2))

    assert result.changed and not left(result)


def test_cells_are_left_for_a_reason() -> None:
    found = {
        "narrow": recurrent(width=16),
        "clipped": recurrent(clip=1.0),
        "skipped": recurrent(),
    }
    skip = {"skipped": ("cell",)}
    told = {
        name: left(Pipeline((DynamicQuantizeCells(skip=skip.get(name, ())),)).run(model))["cell"]
        for name, model in found.items()
    }

    assert told == {
        "narrow": "its state has 16 units, fewer than 64",
        "clipped": "it has a layout, clipping or coupling of gates of its own",
        "skipped": "named by the skip pattern 'cell'",
    }
    result = Pipeline((DynamicQuantizeCells(),)).run(recurrent(op="GRU"))
    assert left(result) == {"the whole model": "it has no LSTM"}


def other_rows(found: Blocks) -> Blocks:
    return found._replace(codes=np.roll(found.codes, 1, axis=0))


def other_steps(found: Blocks) -> Blocks:
    return found._replace(steps=(found.steps * np.float32(1.1)).astype(np.float32))


@pytest.mark.parametrize("mutate", [other_rows, other_steps])
def test_other_codes_and_steps_break_the_claim(
    mutate: Callable[[Blocks], Blocks], monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(rows: Singles, bits: int, block: int, **more: bool) -> Blocks:
        return mutate(rounded(rows, bits, block, **more))

    monkeypatch.setattr(cells, "rounded", wrong)
    with pytest.raises(VerificationError, match="the pass's own reference"):
        Pipeline((DynamicQuantizeCells(),)).run(recurrent())
