"""Samples as a file that `load` reads."""

import io
import zipfile

import numpy as np

from graphrewrite.data.source import Arrays


def as_npz(arrays: Arrays) -> bytes:
    """Return an .npz file of arrays, whose names may be any; `numpy.savez` reserves some for itself."""
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w") as entry:
                np.lib.format.write_array(entry, np.asarray(array), allow_pickle=False)
    return whole.getvalue()
