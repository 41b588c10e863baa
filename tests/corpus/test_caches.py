"""Decoders with caches: half of them goes on request, caches in and out included, and every cut is proved."""

import pytest

from graphrewrite.ir import Model
from graphrewrite.passes.channels import MacsBelow, RemoveChannels
from graphrewrite.pipeline import Context, Pipeline
from tests.corpus.index import Entry, entries

CACHED = [e for e in entries() if e.architecture.startswith("hf_") and e.architecture.endswith("_cached")]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CACHED, reason="there is no corpus here; python tests/corpus/build.py makes one"),
]


@pytest.mark.parametrize("fraction", [0.7, 0.5, 0.3])
@pytest.mark.parametrize("entry", CACHED or [None], ids=lambda entry: entry.name if entry else "none")
def test_a_decoder_shrinks_with_its_caches(entry: Entry, fraction: float) -> None:
    model = Model.load(entry.path)
    scores, *present = (tensor.name for tensor in model.outputs)
    past = [tensor.name for tensor in model.inputs if "key_values" in tensor.name]
    step = RemoveChannels(budget=MacsBelow(fraction), may_change=(*past, *present))

    result = Pipeline((step,)).run(model, Context(threads=1))

    report = result.report
    proof = report.steps[0].verified
    assert report.after.macs <= (fraction + 1e-3) * report.before.macs
    assert proof.error is not None and proof.error <= 1e-4
    assert proof.movement is not None and proof.movement > 1e-4  # the proof saw something change
    assert len(proof.worlds) == 2


@pytest.mark.parametrize("entry", CACHED or [None], ids=lambda entry: entry.name if entry else "none")
def test_caches_stay_whole_unasked(entry: Entry) -> None:
    model = Model.load(entry.path)
    before = {t.name: tuple(t.shape) for t in model.inputs}

    result = Pipeline((RemoveChannels(budget=MacsBelow(0.5)),)).run(model, Context(threads=1))

    assert {t.name: tuple(t.shape) for t in result.model.inputs} == before
    assert len(result.report.steps[0].verified.worlds) == 2
