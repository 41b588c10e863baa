"""Laws of the list of methods: a newcomer is described by what it has to write anyway."""

import dataclasses
import json
import re
from importlib.util import find_spec

import pytest

from graphrewrite.cli.methods import ROOMS, Method, listing
from graphrewrite.errors import InvalidConfig
from graphrewrite.registry import registries
from graphrewrite.serial import to_json
from tests.contracts.test_passes import LEARNS, TRAINS

FOUND = listing()
CASES = [pytest.param(method, id=f"{method.kind}-{method.name}") for method in FOUND.methods]


def test_every_registered_thing_of_the_rooms_is_listed() -> None:
    listed = {(method.kind, method.name) for method in FOUND.methods}

    for registry in registries():
        if registry.package.startswith(ROOMS):
            assert {(registry.kind, name) for name in registry} <= listed
    kinds = {kind for kind, _ in listed}
    assert {
        "pass",
        "criterion",
        "block criterion",
        "mask",
        "factorization",
        "reconstruction",
        "budget",
    } <= kinds
    if find_spec("torch") is not None:
        assert {"loss", "transform", "schedule"} <= kinds and not FOUND.left_out


@pytest.mark.parametrize("method", CASES)
def test_a_method_says_what_it_is(method: Method) -> None:
    assert len(method.summary) > 15
    assert not method.summary.startswith(f"{method.name}(")  # what a dataclass without a docstring gets


@pytest.mark.parametrize("method", CASES)
def test_a_year_in_a_docstring_belongs_to_a_paper_that_is_listed(method: Method) -> None:
    years = set(re.findall(r"\b(?:19\d\d|20[0-3]\d)\b", method.text))

    assert years <= {paper[-4:] for paper in method.papers}, "write it as `Author et al., YEAR`"


@pytest.mark.parametrize("method", CASES)
def test_a_method_is_json_and_its_options_are_its_fields(method: Method) -> None:
    assert json.loads(json.dumps(dataclasses.asdict(method), allow_nan=False))
    (registry,) = [r for r in registries() if r.kind == method.kind and method.name in r]
    factory = registry.find(method.name)
    fields = dataclasses.fields(factory) if dataclasses.is_dataclass(factory) else ()
    assert [option.name for option in method.options] == [field.name for field in fields if field.init]
    try:
        made = to_json(registry.make(method.name))
    except InvalidConfig:  # it has to be told something, as its docstring or a required option says
        return
    assert isinstance(made, dict)
    assert {option.name: option.default for option in method.options} == {
        key: value for key, value in made.items() if key != registry.tag
    }


@pytest.mark.skipif(find_spec("torch") is None, reason="without torch some are left out")
def test_passes_say_what_they_cannot_do_without() -> None:
    needs = {method.name: set(method.needs) for method in FOUND.methods if method.kind == "pass"}
    assert {name for name in LEARNS if "data" not in needs[name]} == set()
    assert {name for name in TRAINS if "torch" not in needs[name]} == set()
