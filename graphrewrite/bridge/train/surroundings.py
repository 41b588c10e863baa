"""What a run asks of the machine: Accelerate for devices and processes, threads, and random numbers of its own."""

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch

from graphrewrite.bridge.extras import missing
from graphrewrite.bridge.recipe import Recipe
from graphrewrite.errors import InvalidConfig

if TYPE_CHECKING:
    from accelerate import Accelerator

_PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}


def accelerator_for(recipe: Recipe) -> "Accelerator":
    """Return the accelerator of this process, which knows what `accelerate launch` was told.

    Raises:
        MissingExtra: Accelerate is not installed.
        InvalidConfig: the device cannot compute in the recipe's precision.
    """
    try:
        from accelerate import Accelerator, DistributedDataParallelKwargs
        from accelerate.state import AcceleratorState
    except ImportError as error:
        raise missing("training", "Accelerate", error) from error
    # Accelerate remembers the precision of the first run of a process; the processes themselves are kept.
    AcceleratorState._reset_state(False)
    # A loss may read one output of several, a branch may not be taken: what leads there has no gradient.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    try:
        made = Accelerator(
            mixed_precision=_PRECISIONS[recipe.precision], kwargs_handlers=[unused], rng_types=[]
        )
    except ValueError as error:
        raise InvalidConfig(
            f"this machine cannot train in {recipe.precision} ({error}); expected a device that can; "
            'take Recipe.precision "fp32"'
        ) from error
    kind = str(made.distributed_type).rsplit(".", 1)[-1]
    if kind in ("DEEPSPEED", "MEGATRON_LM") or (kind == "FSDP" and not made.is_fsdp2):
        raise InvalidConfig(
            f"the run was launched with {kind}{' version 1' if kind == 'FSDP' else ''}; expected one process, DDP or "
            "FSDP version 2; launch with --use_fsdp --fsdp_version 2, or without"
        )
    if recipe.precision == "fp16" and made.device.type == "cpu":
        raise InvalidConfig(
            "a CPU does not train in fp16: its small gradients vanish; expected a GPU; take bf16 or fp32"
        )
    return made


@contextmanager
def surroundings(seed: int, processes: int) -> Iterator[None]:
    """Seed every generator and use the cores this process may use; put everything back as it was afterwards.

    Where OMP_NUM_THREADS is set, the number of threads is left alone.
    """
    threads = torch.get_num_threads()
    kept = (random.getstate(), np.random.get_state(), torch.get_rng_state())
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, _cores() // processes))
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])
        torch.set_rng_state(kept[2])
        torch.set_num_threads(threads)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
