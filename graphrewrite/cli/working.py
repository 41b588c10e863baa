"""What commands share that train or search: samples they cannot do without, and the folder they go on from."""

import shutil
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from graphrewrite.errors import InvalidConfig


@contextmanager
def work_folder(options: Namespace) -> Iterator[Path]:
    """Set --workdir to a folder beside the output where none was named.

    That one is removed when all went well, or when nothing was written that could be gone on from.
    """
    is_ours = options.workdir is None
    folder = Path(options.workdir or f"{options.output}.work")
    options.workdir = str(folder)
    try:
        yield folder
    except BaseException:
        if is_ours and not any(path.is_file() for path in folder.rglob("*")):
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if is_ours:
        shutil.rmtree(folder, ignore_errors=True)


def check_training_data(options: Namespace) -> None:
    """Make sure that samples to train on were named.

    Raises:
        InvalidConfig: none were.
    """
    if not options.data:
        raise InvalidConfig("training needs samples; expected data that fits the model; give it with --data")
