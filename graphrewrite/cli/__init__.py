"""The command line: `graphrewrite VERB ...`; every verb is one file in `verbs/`."""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code as `entry.main` does, interrupted while it is being loaded too."""
    try:
        from graphrewrite.cli import entry
    except KeyboardInterrupt:
        sys.stderr.write("graphrewrite: interrupted before anything was done\n")
        return 130
    return entry.main(argv)
