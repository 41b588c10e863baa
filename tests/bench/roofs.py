"""The arithmetic this machine can do at most, as calls that are timed in turns with what they are the roof of."""

import ctypes
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

_FEATURES = ("avx2", "fma", "avx512f", "avx512dq", "avx512bw", "avx512vl", "avx512vnni", "avx512vpopcntdq")
_ROUNDS = 4000
# Function: operations of one round.
_LOOPS = {
    "popcount_512": 12 * 1024,
    "popcount_256": 8 * 512,
    "float_512": 12 * 32,
    "bytes_512": 12 * 128,
}


@dataclass(frozen=True)
class Roof:
    """A loop in registers and how many operations a call of it does."""

    run: Callable[[], object]
    operations: int


def roofs() -> dict[str, Roof]:
    """Compile the loops and return them by name; needs a compiler and a processor with AVX-512."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "roofs.so"
        source = Path(__file__).with_suffix(".cc")
        flags = ["-O3", "-std=c++17", "-shared", "-fPIC", *(f"-m{feature}" for feature in _FEATURES)]
        subprocess.run(["c++", *flags, source, "-o", library], check=True)
        loaded = ctypes.CDLL(str(library))
    return {
        name: Roof(partial(loaded[name], ctypes.c_long(_ROUNDS)), _ROUNDS * each)
        for name, each in _LOOPS.items()
    }
