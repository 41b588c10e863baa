"""Every operator's body and kernel on the oldest and on the newest supported onnxruntime, over all its cases."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphrewrite import custom_ops
from tests.custom_ops.runtimes.installed import OLDEST, runtime
from tests.support.kernels import by_reference, fed, one_node

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("release", [OLDEST, "newest"])]
FACES = Path(__file__).with_name("faces.py")
EACH = pytest.mark.parametrize("op", custom_ops.ops())


def models(op: str, folder: Path, function: bool, empty: bool = True) -> int:
    """Write a model and its numbers for every case of an operator; return how many. `empty` keeps cases of no rows."""
    spec = custom_ops.find(op)
    for number, case in enumerate(spec.cases()):
        given = fed(spec, case)
        if not empty and any(value.size == 0 for value in given.values()):
            continue
        path = folder / f"{number}-{case.name.replace('/', '_')}.onnx"
        onnx.save(one_node(spec, case, function=function), path)
        arrays = {f"in_{name}": np.asarray(value) for name, value in given.items()}
        arrays |= {f"out_{index}": np.asarray(value) for index, value in enumerate(by_reference(spec, case))}
        np.savez(path.with_suffix(".npz"), allow_pickle=False, rtol=np.array(case.rtol), **arrays)
    return len(list(folder.glob("*.onnx")))


def ends_on_nothing(op: str, release: str) -> bool:
    """Tell whether a release's own TopK divides by the number of rows, and takes the process with it where it is 0."""
    return release == OLDEST and any(node.op_type == "TopK" for node in custom_ops.find(op).function(18).node)


@EACH
def test_the_body_runs(op: str, release: str, tmp_path: Path) -> None:
    written = models(op, tmp_path, function=True, empty=not ends_on_nothing(op, release))
    assert json.loads(runtime(release).python(FACES, str(tmp_path), "")) == [written, {}]


@EACH
def test_the_kernel_runs(op: str, release: str, library: Path, tmp_path: Path) -> None:
    written = models(op, tmp_path, function=False)
    assert json.loads(runtime(release).python(FACES, str(tmp_path), str(library))) == [written, {}]
