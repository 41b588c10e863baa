"""Python's garbage collector, paused while very many objects are made at once.

It would walk all of them again and again although none of them can be garbage yet, which makes building a graph of
100k nodes about half as slow again.
"""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


def collect() -> None:
    """Let go of graphs that nothing refers to any more, and of the arrays they hold."""
    gc.collect()


@contextmanager
def paused() -> Iterator[None]:
    """Pause collection inside the block (or the decorated function), if it was running."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()
