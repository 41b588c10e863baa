"""What is said when a package that training needs is not there."""

from graphrewrite.errors import MissingExtra


def missing(what: str, package: str, error: ImportError) -> MissingExtra:
    """Return the error to raise: what cannot be done, which package it lacks, and the extra that brings it."""
    return MissingExtra(
        f"{what} needs {package}, which cannot be imported ({error}); it comes with an extra; "
        'install it with pip install "graphrewrite[train]"'
    )
