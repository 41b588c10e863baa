"""Who counts what: operator -> the functions that count its multiply-accumulates and its element operations.

An operator is in exactly one state. *Ruled*: at least one of the two functions is filed, or it is declared to move data
only. *Uncounted*: declared as something we cannot count, with a reason. Anything else is *unknown* and ends up in the
table's list of unknown operators; nothing is ever taken for zero because nobody thought of it.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from graphrewrite.cost.site import Site
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir.domains import domain_name

Count: TypeAlias = Callable[[Site], int]
Key: TypeAlias = tuple[str, str]


@dataclass(slots=True)
class Rule:
    """How one operator is counted; a missing function counts zero."""

    macs: Count | None = None
    ops: Count | None = None


RULES: dict[Key, Rule] = {}
UNCOUNTED: dict[Key, str] = {}


def key_of(domain: str | None, op_type: str) -> Key:
    """Return the key of an operator; both spellings of the default domain are the same."""
    return domain_name(domain), op_type


def macs_rule(*op_types: str, domain: str = "") -> Callable[[Count], Count]:
    """File a function that returns the multiply-accumulates of a node.

    One multiply-accumulate is one multiplication whose result is added to others; a bias added at the end is free.
    """

    def add(count: Count) -> Count:
        for op_type in op_types:
            rule = _rule(key_of(domain, op_type))
            if rule.macs is not None:
                raise _twice("macs", op_type, domain)
            rule.macs = count
        return count

    return add


def ops_rule(*op_types: str, domain: str = "") -> Callable[[Count], Count]:
    """File a function that returns the element operations of a node: work that is no multiply-accumulate.

    An addition, a comparison, a division, an exponential and a whole activation function each count one.
    """

    def add(count: Count) -> Count:
        for op_type in op_types:
            rule = _rule(key_of(domain, op_type))
            if rule.ops is not None:
                raise _twice("ops", op_type, domain)
            rule.ops = count
        return count

    return add


def per_output(table: Mapping[str, int], domain: str = "") -> None:
    """File operators that do a fixed number of element operations for each element of their first output."""
    for op_type, factor in table.items():
        ops_rule(op_type, domain=domain)(_output_times(factor))


def per_input(table: Mapping[str, int], domain: str = "") -> None:
    """File operators that do a fixed number of element operations for each element of their first input."""
    for op_type, factor in table.items():
        ops_rule(op_type, domain=domain)(_input_times(factor))


def moves(op_types: Iterable[str], domain: str = "") -> None:
    """Declare operators that only move, view, create or convert data."""
    for op_type in op_types:
        key = key_of(domain, op_type)
        if key in RULES:
            raise _twice("moves", op_type, domain)
        _rule(key)


def uncounted(table: Mapping[str, str], domain: str = "") -> None:
    """Declare operators that cannot be counted: operator -> reason."""
    for op_type, reason in table.items():
        key = key_of(domain, op_type)
        if key in RULES:
            raise _twice("uncounted", op_type, domain)
        UNCOUNTED[key] = reason


def _rule(key: Key) -> Rule:
    if key in UNCOUNTED:
        raise _twice("uncounted", key[1], key[0])
    return RULES.setdefault(key, Rule())


def _output_times(factor: int) -> Count:
    return lambda site: factor * site.output_count()


def _input_times(factor: int) -> Count:
    return lambda site: factor * site.input_count()


def _twice(what: str, op_type: str, domain: str) -> InvalidConfig:
    return InvalidConfig(
        f"the operator {domain + '.' if domain else ''}{op_type} has a cost rule already ({what}); each is counted in "
        "one place; change that rule instead of adding another"
    )
