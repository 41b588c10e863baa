"""The command line: `graphrewrite VERB ...`; every verb is one file in `verbs/`."""

from graphrewrite.cli.entry import main

__all__ = ["main"]
