"""Which measured speeds hold for the kernels that sessions of this process would use."""

from graphrewrite.cost.speeds import Speeds, load_speeds
from graphrewrite.custom_ops.presence import chosen_isa


def known_speeds() -> Speeds | None:
    """Return the speeds for the instruction set that kernels use here, None without kernels or measurements.

    Raises:
        InvalidConfig: the file with the speeds of this machine is damaged.
    """
    isa = chosen_isa()
    return None if isa is None else load_speeds(isa)
