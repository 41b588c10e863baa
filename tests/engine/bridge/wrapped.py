"""One process of a test of wrapped modules: `python wrapped.py FOLDER WRAPPER`, started once or by torchrun.

Trains a small net for three steps on this process's share of fixed batches and writes the gathered state back.
"""

import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from graphrewrite.bridge import GraphModule
from graphrewrite.ir import Model

SAMPLES = 8


def main(folder: Path, wrapper: str) -> None:
    """Train and save `trained.onnx`."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    module = GraphModule(Model.load(folder / "model.onnx"))
    wrapped = DistributedDataParallel(module) if wrapper == "ddp" else fully_shard(module)
    optimiser = torch.optim.SGD(wrapped.parameters(), lr=0.1, momentum=0.9)
    rng = np.random.default_rng(0)
    for _ in range(3):
        x = torch.from_numpy(rng.standard_normal((SAMPLES, 4)).astype(np.float32))
        optimiser.zero_grad()
        wrapped(x[rank::world]).square().mean().backward()
        optimiser.step()
    state = get_model_state_dict(wrapped, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    if rank == 0:
        module.write_back(state).save(folder / "trained.onnx")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
