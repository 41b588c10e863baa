"""Models of the corpus in newer operator sets."""

import pytest

from graphrewrite.ir import Model
from tests.corpus.index import Entry, entries
from tests.corpus.opsets import check

SMALL = 4_000_000  # bytes of a file
CHOSEN = [entry for entry in entries() if entry.path.stat().st_size < SMALL][::8]


def numbered(model: Model, to: int) -> Model:
    """The plainest way to convert: write the new number on the model."""
    copy = model.clone()
    copy.opsets[""] = to
    return copy


@pytest.mark.slow
@pytest.mark.parametrize("entry", CHOSEN, ids=lambda entry: entry.name)
def test_outputs_stay_in_newer_operator_sets(entry: Entry) -> None:
    results = list(check(entry, (13, 21, 26)))

    assert [result for result in results if result.kind not in ("equal", "close")] == []


@pytest.mark.slow
def test_writing_a_new_number_on_the_models_is_seen() -> None:
    old = [entry for entry in entries() if entry.opset < 13 and entry.path.stat().st_size < SMALL][:20]
    if not old:
        pytest.skip("no corpus on this machine")

    kinds = {result.kind for entry in old for result in check(entry, (26,), numbered)}

    assert {"apart", "fails"} & kinds
