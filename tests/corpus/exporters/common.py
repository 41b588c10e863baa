"""What the scripts of this folder share: where files go, and norms that are not the identity. Needs numpy only."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.corpus.index import cache_folder

Floats = npt.NDArray[np.float32]
_RNG = np.random.default_rng(0)


def export(family: str, name: str, write: Callable[[Path], None]) -> None:
    """Let `write` make one file of the corpus unless it is there; what an exporter refuses is printed, and left."""
    folder = cache_folder() / "elsewhere" / family
    folder.mkdir(parents=True, exist_ok=True)
    target, beside = folder / f"{name}.onnx", folder / f".{name}.part.onnx"
    if target.exists():
        return
    try:
        write(beside)
        beside.replace(target)
        print(f"ok    {name}", flush=True)
    except (Exception, SystemExit) as problem:  # exporters raise, or exit, as they like
        beside.unlink(missing_ok=True)
        print(f"FAIL  {name}: {type(problem).__name__}: {str(problem)[:200]}", flush=True)


def random_vector(role: str, size: int) -> Floats:
    """Return values for a vector of a layer: around one for "scale" and "variance", around zero for all others."""
    if role in ("scale", "variance"):
        return _RNG.uniform(0.5, 1.5, size).astype(np.float32)
    return _RNG.normal(0, 0.1, size).astype(np.float32)
