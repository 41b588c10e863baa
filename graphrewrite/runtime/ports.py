"""What a caller keeps of its arrays when inputs and outputs of a model have become shorter."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from graphrewrite.ir import Array

# Graph input or output -> axis -> the positions of the original that are left, ascending.
Ports = Mapping[str, Mapping[int, npt.NDArray[np.int64]]]


def take_kept(arrays: Mapping[str, Array], ports: Ports) -> dict[str, Array]:
    """Return the arrays with only the kept positions of those that `ports` names."""
    result = dict(arrays)
    for name in ports.keys() & result.keys():
        for axis, kept in ports[name].items():
            result[name] = np.ascontiguousarray(np.take(result[name], kept, axis=axis))
    return result
