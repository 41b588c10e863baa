"""Exports of one network cost the same, whoever exported it; read from the corpus where one was built."""

from collections import defaultdict

import pytest

from graphrewrite import cost
from graphrewrite.ir import Model
from tests.corpus.index import Entry, entries

# Exporters fold different parts of what depends on weights only (tables of relative positions), never more than this.
_FOLDED = 0.01


def by_architecture() -> dict[str, list[Entry]]:
    """Return the core networks that were exported in at least two ways with a symbolic batch."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries():
        if entry.core and entry.dynamic_batch:
            groups[entry.architecture].append(entry)
    return {name: group for name, group in groups.items() if len(group) > 1}


@pytest.mark.slow
def test_exports_of_one_network_agree() -> None:
    groups = by_architecture()
    if not groups:
        pytest.skip("no corpus was built")
    for name, group in groups.items():
        tables = {entry.name: cost.of(Model.load(entry.path)) for entry in group}
        macs = {key: table.per_sample("macs") for key, table in tables.items()}
        assert max(macs.values()) <= (1 + _FOLDED) * min(macs.values()), (name, macs)
        assert min(macs.values()) > 0, name
        assert not any(table.unknown for table in tables.values()), name
        for entry in group:
            assert tables[entry.name].params == pytest.approx(entry.params, rel=_FOLDED), entry.name
