"""`python -m graphrewrite`: the same as the `graphrewrite` command."""

import sys

from graphrewrite.cli import main

if __name__ == "__main__":
    sys.exit(main())
