"""Symbolic sizes as text for a person: `batch*(seq)//(2) + 1`."""

from typing import TYPE_CHECKING

from graphrewrite.ir.polynomial import Monomial

if TYPE_CHECKING:
    from graphrewrite.ir.symbols import Atom, Symbols

# Expressions nested deeper than this are written with dots.
_MAX_DEPTH = 20


def spelled(dim: object, depth: int = 0) -> str:
    """Write an expression; what is nested deeper than anyone would read becomes dots."""
    from graphrewrite.ir.symbols import Sym

    if not isinstance(dim, Sym):
        return str(dim)
    if depth > _MAX_DEPTH:
        return "..."
    parts = [_term_text(dim.table, monomial, factor, depth) for monomial, factor in reversed(dim.terms)]
    return " + ".join(parts).replace("+ -", "- ")


def _term_text(table: "Symbols", monomial: Monomial, factor: int, depth: int) -> str:
    if not monomial:
        return str(factor)
    text = "*".join(_atom_text(table.atoms[index], depth + 1) for index in monomial)
    return text if factor == 1 else f"-{text}" if factor == -1 else f"{factor}*{text}"


def _atom_text(atom: "Atom", depth: int) -> str:
    if atom.kind == "size":
        return str(atom.args[0])
    if atom.kind == "unknown":
        return f"?{atom.args[0]}"
    inside = [spelled(arg, depth) for arg in atom.args]
    return f"({inside[0]})//({inside[1]})" if atom.kind == "quotient" else f"{atom.kind}({', '.join(inside)})"
