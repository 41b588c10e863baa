"""What both lowerings of zeros ask of their options."""

from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.when import check_when


def check(step: str, min_sparsity: float, when: str) -> None:
    """Look at what a pass was given; `step` is its name.

    Raises:
        InvalidConfig: `min_sparsity` is no share, or `when` is no answer.
    """
    if not 0 <= min_sparsity <= 1:
        raise InvalidConfig(f"{step}.min_sparsity is {min_sparsity}; expected a share from 0 to 1")
    check_when(step, when)
