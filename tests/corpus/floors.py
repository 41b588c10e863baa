"""What may be removed from models everybody has, as floors that only rise: `python -m tests.corpus.floors [--write]`.

No proof notices when an analysis becomes timid: a cut of less is as correct as a cut of more. So the removable units,
the pinned axes and the least share of MACs that can be left are kept in floors.json, for graphs drawn here, the
shipped models, and the core of the corpus where it is cached. `test_floors.py` fails when one gets worse; after an
improvement, or for new models, write the file again and commit it with the change that earned it.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass
from functools import partial
from pathlib import Path

from graphrewrite import cost, dims
from graphrewrite.ir import Model
from graphrewrite.ir.inline import inlined
from graphrewrite.models import registry
from tests.corpus import foreign_control, foreign_frameworks, foreign_keras, foreign_loops, foreign_nets
from tests.corpus.index import entries
from tests.corpus.spec import Spec

PATH = Path(__file__).with_name("floors.json")
HOW = "when the change is meant, run `python -m tests.corpus.floors --write` and commit floors.json with it"
# Shares are rounded to this many digits, so that another order of summing is no change.
DIGITS = 6


@dataclass(frozen=True)
class Floor:
    """What an analysis reaches on one model: removable units, their groups, pinned axes, least share of MACs left."""

    units: int
    groups: int
    pinned: int
    macs: float

    def worse_than(self, old: "Floor") -> list[str]:
        """Return what got worse, in words; how the units are grouped does not matter."""
        found = []
        if self.units < old.units:
            found.append(f"{self.units} units may be removed, {old.units} could")
        if self.pinned > old.pinned:
            found.append(f"{self.pinned} axes are pinned, {old.pinned} were")
        if self.macs > old.macs:
            found.append(f"at best {self.macs:.4f} of the MACs are left, {old.macs:.4f} were")
        return found


def floor(model: Model) -> Floor:
    """Measure one model."""
    model = inlined(model)
    found = dims.groups(model)
    total = cost.of(model, found.analysis.info).total("macs")
    beside = max(total - found.macs(), 0.0)
    share = (found.floor() + beside) / total if total else 1.0
    return Floor(sum(g.units for g in found), len(found), len(found.pinned), round(share, DIGITS))


def drawn() -> Iterator[tuple[str, Callable[[], Model]]]:
    """Yield the models every machine has: graphs written by hand and the shipped ones."""
    for source in (foreign_keras, foreign_frameworks, foreign_control, foreign_nets, foreign_loops):
        for spec in source.specs_of_source():
            yield spec.name, partial(_built, spec)
    for name in registry.names():
        yield f"shipped {name}", partial(Model.load, registry.shipped(name))


def _built(spec: Spec) -> Model:
    return Model.from_proto(spec.build().proto)


def cached() -> Iterator[tuple[str, Callable[[], Model]]]:
    """Yield the exports of the corpus' core set that lie in the cache."""
    for entry in entries():
        if entry.core and entry.exporter != "hand":
            yield entry.name, partial(Model.load, entry.path)


def read() -> dict[str, Floor]:
    """Return the floors by model."""
    return {name: Floor(*values) for name, values in json.loads(PATH.read_text(encoding="utf-8")).items()}


def main() -> int:
    """Print what changed; with --write, keep it. Floors of models that are not here stay."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help=f"fill {PATH.name}")
    write = parser.parse_args().write
    floors = read() if PATH.is_file() else {}
    for source in (drawn, cached):
        for name, load in source():
            new, old = floor(load()), floors.get(name)
            floors[name] = new
            if new != old:
                worse = "; ".join(new.worse_than(old)) if old else ""
                print(f"{name}: {old and astuple(old)} -> {astuple(new)} {worse and '  WORSE: ' + worse}")
    if write:
        lines = [f"{json.dumps(name)}: {json.dumps(astuple(floors[name]))}" for name in sorted(floors)]
        PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
