"""torch-pruning on one module, set up as its own examples do: outputs ignored, attention told its heads, then repaired.

The examples' habits, done for any module: the layers that make the outputs are ignored; projections of attention are
listed with their head counts; afterwards the head counts and sizes that attention modules keep as Python numbers are
set to what is left. Several configurations are tried, the best that runs counts.
"""

import copy
import importlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from tests.bench.common import timed
from tests.corpus.torch_nets import Net, arguments_of

FUSED = ("qkv", "in_proj", "query_key_value", "c_attn", "qkv_proj", "Wqkv", "to_qkv")
SEPARATE = ("query", "q_proj", "q", "q_lin", "to_q", "query_proj", "linear_q", "queries_linear")
OTHERS = (
    ("key", "k_proj", "k", "k_lin", "to_k", "key_proj", "linear_k"),
    ("value", "v_proj", "v", "v_lin", "to_v", "value_proj", "linear_v"),
)
HEAD_COUNTS = ("num_heads", "num_attention_heads", "n_heads", "n_head", "nhead", "heads")
# A setting that traces without end must not take the others with it.
LIMIT_SECONDS = 20
# Where autograd made a value with weights of its own: whatever lies behind it is no longer an output's size.
MAKERS = ("Addmm", "Convolution", "Mm", "Embedding", "Bmm", "MkldnnRnn", "Lstm", "UnsafeView")


@dataclass(frozen=True)
class Setting:
    """One way to call the pruner; `heads` is what attention loses: "dims", "whole" heads, or None (not told)."""

    name: str
    heads: str | None


SETTINGS = (Setting("head dims", "dims"), Setting("whole heads", "whole"), Setting("plain", None))


@dataclass(frozen=True)
class Pruned:
    """A module after pruning that ran at every batch size with outputs of the old shapes."""

    setting: str
    module: nn.Module
    macs: float
    params: float
    seconds: float


def prune(net: Net, ratio: float) -> Pruned:
    """Try every setting and return the one that keeps the fewest MACs; shares of the original.

    Raises:
        RuntimeError: no setting gave a module that runs; the message has the first reason of each.
    """
    torch.set_grad_enabled(True)
    net.module.requires_grad_(True)
    signal.signal(signal.SIGALRM, _too_long)
    told = any(True for _ in attentions(net.module))
    found: list[Pruned] = []
    reasons: dict[str, str] = {}
    for setting in SETTINGS if told else SETTINGS[2:]:
        try:
            signal.alarm(LIMIT_SECONDS)
            found.append(_prune(net, ratio, setting))
        except Exception as error:  # a rival's failure is a result
            reasons[setting.name] = f"{type(error).__name__}: {' '.join(str(error).split())[:110]}"
        finally:
            signal.alarm(0)
    if not found:
        raise RuntimeError(next(iter(reasons.values())))
    return min(found, key=lambda one: one.macs)


def _too_long(number: int, frame: object) -> None:
    raise TimeoutError(f"no result after {LIMIT_SECONDS} s")


def _prune(net: Net, ratio: float, setting: Setting) -> Pruned:
    library = importlib.import_module("torch_pruning")
    module = copy.deepcopy(net.module)
    inputs = arguments_of(net.feeds, 2, np.random.default_rng(0))
    before = _shapes(module, net)
    heads = head_counts(module) if setting.heads else {}

    def run() -> object:
        pruner = library.pruner.BasePruner(
            module,
            inputs,
            importance=library.importance.GroupMagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=output_layers(module, inputs),
            num_heads=dict(heads),
            prune_num_heads=setting.heads == "whole",
            prune_head_dims=setting.heads == "dims",
            head_pruning_ratio=ratio if setting.heads == "whole" else 0.0,
        )
        pruner.step()
        repair(module, dict(pruner.num_heads))
        return pruner

    _, spent = timed(run)
    after = _shapes(module, net)
    if after != before:
        raise ValueError(f"outputs changed from {before[0]} to {after[0]}")
    return Pruned(
        setting.name,
        module,
        _macs(module, inputs) / max(_macs(net.module, inputs), 1),
        _params(module) / max(_params(net.module), 1),
        spent.cpu,
    )


def _shapes(module: nn.Module, net: Net) -> list[list[tuple[int, ...]]]:
    """Run at two batch sizes where the batch is free; the outputs' shapes, all finite."""
    free = any(None in feed.shape for feed in net.feeds)
    found = []
    for batch in (2, 3) if free else (2,):
        with torch.no_grad():
            answer = module(*arguments_of(net.feeds, batch, np.random.default_rng(batch)))
        tensors = list(_tensors(answer))
        if not all(bool(torch.isfinite(t).all()) for t in tensors if t.is_floating_point()):
            raise ValueError("an output is not finite")
        found.append([tuple(t.shape) for t in tensors])
    return found


def _tensors(value: object) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _macs(module: nn.Module, inputs: tuple[Tensor, ...]) -> float:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(*inputs)
    return counter.get_total_flops() / 2


def _params(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def output_layers(module: nn.Module, inputs: tuple[Tensor, ...]) -> list[nn.Module]:
    """Return the modules whose weights make the outputs' last values: what a user would name as heads to ignore."""
    owners = {id(p): owner for owner in module.modules() for p in owner.parameters(recurse=False)}
    found: dict[int, nn.Module] = {}
    seen: set[object] = set()
    waiting = [t.grad_fn for t in _tensors(module(*inputs)) if t.grad_fn is not None]
    while waiting:
        step = waiting.pop()
        if step in seen:
            continue
        seen.add(step)
        made = any(word in type(step).__name__ for word in MAKERS)
        for following, _ in step.next_functions:
            if following is None:
                continue
            owner = owners.get(id(_leaf(following)))
            if owner is not None:
                found[id(owner)] = owner
            elif not made or "UnsafeView" in type(step).__name__:
                waiting.append(following)
    return list(found.values())


def _leaf(step: object) -> object:
    """The parameter behind a transposed or viewed weight, or None."""
    for _ in range(3):
        if hasattr(step, "variable"):
            return step.variable
        if type(step).__name__ not in (
            "TBackward0",
            "ViewBackward0",
            "TransposeBackward0",
            "ExpandBackward0",
        ):
            return None
        step = step.next_functions[0][0]  # type: ignore[attr-defined]
    return None


def attentions(module: nn.Module) -> Iterator[tuple[nn.Module, int, list[nn.Module]]]:
    """Every module that projects heads: (module, its head count, projections, query first)."""
    for owner in module.modules():
        config = getattr(owner, "config", None)
        counts = [getattr(holder, name, None) for holder in (owner, config) for name in HEAD_COUNTS]
        count = next((value for value in counts if isinstance(value, int)), None)
        projections = [p for names in (FUSED + SEPARATE, *OTHERS) if (p := _named(owner, names)) is not None]
        if count is not None and projections:
            yield owner, count, projections


def _named(owner: nn.Module, names: tuple[str, ...]) -> nn.Module | None:
    return next(
        (p for name in names if isinstance(p := getattr(owner, name, None), (nn.Linear, nn.Conv2d))), None
    )


def head_counts(module: nn.Module) -> dict[nn.Module, int]:
    """Return the head count of every attention projection, as the pruner wants to be told; keys may have fewer."""
    counts: dict[nn.Module, int] = {}
    for owner, heads, projections in attentions(module):
        holders = (owner, getattr(owner, "config", None))
        fewer = next(
            (n for h in holders if isinstance(n := getattr(h, "num_key_value_heads", None), int)), heads
        )
        counts |= dict.fromkeys(projections, fewer)
        counts[projections[0]] = heads
    return counts


def repair(module: nn.Module, heads: dict[nn.Module, int]) -> None:
    """Set what attention modules keep as numbers to what the pruner left, as its examples do after a step."""
    for owner, count, projections in attentions(module):
        first = projections[0]
        width = first.out_features if isinstance(first, nn.Linear) else first.out_channels
        fused = any(getattr(owner, name, None) is first for name in FUSED)
        number = heads.get(first, count)
        width = width // 3 if fused else width
        values = dict.fromkeys(HEAD_COUNTS, number)
        values |= dict.fromkeys(("head_dim", "attention_head_size"), width // max(number, 1))
        values |= dict.fromkeys(("all_head_size", "attn_dim", "embed_dim"), width)
        if len(projections) > 1:
            values["num_key_value_groups"] = number // max(heads.get(projections[1], number), 1)
        for name, value in values.items():
            if isinstance(getattr(owner, name, None), int):
                setattr(owner, name, value)
