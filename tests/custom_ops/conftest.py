"""The compiled library under test: the one that is named or installed, else one built from the checkout."""

from pathlib import Path

import pytest

from graphrewrite import custom_ops
from tests.custom_ops.host.builds import built


@pytest.fixture(scope="session")
def library() -> Path:
    """Return the path of the operators' library."""
    return custom_ops.library_path() if custom_ops.available() else built("plain").library
