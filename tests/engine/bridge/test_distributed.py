"""A bridged module inside torch's own wrappers: the state gathered from all processes is the model's."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from graphrewrite.bridge import GraphModule
from graphrewrite.ir import Model
from tests.engine.bridge.test_module import two_layers
from tests.engine.bridge.wrapped import SAMPLES

ROOT = Path(__file__).resolve().parents[3]


def alone(model: Model) -> Model:
    """Train in this process on whole batches."""
    module = GraphModule(model)
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9)
    rng = np.random.default_rng(0)
    for _ in range(3):
        x = torch.from_numpy(rng.standard_normal((SAMPLES, 4)).astype(np.float32))
        optimiser.zero_grad()
        module(x).square().mean().backward()
        optimiser.step()
    return module.write_back()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("wrapper", ["ddp", "fsdp"])
def test_wrapped_training_is_that_of_one_process(tmp_path: Path, wrapper: str, processes: int) -> None:
    model = two_layers("first.weight", "a.b")
    model.save(tmp_path / "model.onnx")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    script = str(Path(__file__).with_name("wrapped.py"))
    done = subprocess.run(
        [*command, script, str(tmp_path), wrapper],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    wanted, found = alone(model), Model.load(tmp_path / "trained.onnx")
    for name, weight in wanted.weights.items():
        assert np.allclose(found.weights[name], weight, rtol=1e-5, atol=1e-7), name
        assert not np.allclose(weight, model.weights[name], rtol=1e-3)
