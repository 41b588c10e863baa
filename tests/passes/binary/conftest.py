"""What is lowered here must not depend on the machine that runs the tests."""

import pytest

from graphrewrite.passes.binary import lower
from tests.support.speeds import quick


@pytest.fixture(autouse=True)
def quick_signs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let binary layers be ten times as fast as others."""
    monkeypatch.setattr(lower, "known_speeds", quick)
