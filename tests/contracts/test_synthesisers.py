"""Laws that every registered synthesiser obeys."""

import json

import pytest

from graphrewrite.passes.recipes.fdda import QuantizeFdda
from graphrewrite.passes.synth.synthesisers import Synthesiser, synthesisers
from graphrewrite.pipeline import Pass
from graphrewrite.serial import from_json, to_json
from tests.support.registered import is_documented_frozen

NAMES = list(synthesisers)


@pytest.mark.parametrize("name", NAMES)
def test_a_synthesiser_is_a_documented_frozen_dataclass_in_a_file_of_its_own(name: str) -> None:
    factory = synthesisers.find(name)

    assert is_documented_frozen(factory, Synthesiser)
    assert factory.__module__ == f"graphrewrite.passes.synth.synthesisers.{name}"


@pytest.mark.parametrize("name", NAMES)
def test_it_survives_json_within_a_pass(name: str) -> None:
    step = QuantizeFdda(synthesiser=synthesisers.make(name))

    assert from_json(json.loads(json.dumps(to_json(step, Pass))), Pass) == step
