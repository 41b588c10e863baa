"""Channels chosen by size and entropy of their kernels, beside sums of absolute values, after equal training."""

import numpy as np
import pytest

from tests.methods.narrowed import rows

pytestmark = pytest.mark.slow


def test_the_indicator_is_level_with_absolute_values_after_training() -> None:
    found = rows(("kse", "l1"), range(5), epochs=2)
    kse, l1 = (float(np.mean(found[name])) for name in ("kse", "l1"))

    assert min(kse, l1) > 90 and kse > l1 - 1, found
