"""Channel removal on every real export of the corpus: random sets of units, and half of the operations."""

import numpy as np
import pytest

from graphrewrite.dims import Groups, groups
from graphrewrite.errors import BudgetError
from graphrewrite.ir import Model
from graphrewrite.ir.inline import inlined
from graphrewrite.passes.channels import MacsBelow, Ratio, RemoveChannels
from graphrewrite.pipeline import Context
from tests.corpus.index import Entry, entries
from tests.support.oracles import Data, random_dead, removal_error
from tests.support.tolerances import FLOAT32

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

MODELS = entries()
if not MODELS:
    pytestmark.append(
        pytest.mark.skip(reason="there is no corpus here; python -m tests.corpus.build makes one")
    )


def feeds(entry: Entry) -> Data:
    """Return inputs of two batch sizes where the batch is dynamic."""

    def data(seed: int) -> list[dict[str, np.ndarray]]:
        return [dict(entry.sample(batch, seed)) for batch in ((2, 3) if entry.dynamic_batch else (1,))]

    return data


def budget_dead(model: Model, found: Groups) -> np.ndarray:
    """Return the units that a budget of half the operations takes, or half of every layer where that cannot be had."""
    for chosen in (RemoveChannels(budget=MacsBelow(0.5)), RemoveChannels(budget=Ratio(0.5), scope="uniform")):
        try:
            kept = chosen.run(model, Context(threads=1)).details
        except BudgetError:
            continue
        dead = found.none_dead()
        rows = kept["groups"]
        assert isinstance(rows, list)
        for group, row in zip(found, rows, strict=False):
            assert isinstance(row, dict)
            dead[group.unit_ids[: group.units - int(str(row["kept"]))]] = True
        return found.balanced(dead)
    return found.none_dead()


@pytest.mark.parametrize("entry", MODELS or [None], ids=lambda entry: entry.name if entry else "none")
def test_every_cut_equals_the_masked_original(entry: Entry) -> None:
    model = inlined(Model.load(entry.path))
    found = groups(model)
    rng = np.random.default_rng(17)
    for dead in (random_dead(found, rng), random_dead(found, rng), budget_dead(model, found)):
        assert removal_error(model, found, dead, feeds(entry)) <= FLOAT32
