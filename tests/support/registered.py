"""What every registered class has to be: a documented frozen dataclass of its family."""

import dataclasses


def is_documented_frozen(factory: object, base: type) -> bool:
    """Whether this is a frozen dataclass below `base` whose docstring somebody wrote (dataclasses make one up)."""
    return (
        isinstance(factory, type)
        and dataclasses.is_dataclass(factory)
        and issubclass(factory, base)
        and factory.__dataclass_params__.frozen  # type: ignore[attr-defined]
        and bool(factory.__doc__)
        and not str(factory.__doc__).startswith(f"{factory.__name__}(")
    )
