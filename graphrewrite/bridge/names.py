"""Names of weights as places in a torch module, so that `state_dict` is keyed by the names the ONNX file uses.

A name with dots becomes nested modules, which is what torch itself would have made of it. Where that cannot be (an
empty part, a name that is another's prefix, a name torch uses itself) a place of another name is taken, and hooks put
the right one into the state.
"""

from collections.abc import Collection, Mapping

import torch
from torch import fx, nn

# What a module has before anything is put into it; a weight of that name would hide it.
_RESERVED = frozenset(dir(fx.GraphModule)) | frozenset(dir(fx.GraphModule(nn.Module(), fx.Graph())))

# Where a writer puts constants and the tensor that tells the device; neither belongs to the state.
CONSTANTS, ANCHOR = "_constants", "_anchor"
_OWN = frozenset({CONSTANTS, ANCHOR, "_ops", "_renamed"})


def places(keys: Collection[str], reserved: Collection[str] = ()) -> dict[str, str]:
    """Return a dotted place for each name, the name itself wherever torch and what is `reserved` at the top let it."""
    taken = {tuple(key.split(".")) for key in keys}
    prefixes = {parts[:length] for parts in taken for length in range(1, len(parts))}
    found: dict[str, str] = {}
    for key in keys:
        parts = tuple(key.split("."))
        fits = (
            all(parts)
            and parts not in prefixes
            and parts[0] not in reserved
            and parts[0] not in _OWN
            and not _RESERVED & set(parts)
        )
        found[key] = key if fits else f"_renamed.{len(found)}_{key.replace('.', '_')}"
    return found


def put(
    root: nn.Module, place: str, value: nn.Module | nn.Parameter | torch.Tensor, keep: bool = True
) -> None:
    """Put a parameter, buffer or module at a dotted place; a buffer with `keep` belongs to the state."""
    *outer, last = place.split(".")
    module = root
    for part in outer:
        if part not in module._modules:
            module.add_module(part, nn.Module())
        module = getattr(module, part)
    if isinstance(value, nn.Module):
        module.add_module(last, value)
    elif isinstance(value, nn.Parameter):
        module.register_parameter(last, value)
    else:
        module.register_buffer(last, value, persistent=keep)


def leave_out_constants(module: nn.Module) -> None:
    """Keep out of the state what does not belong to it; fx forgets that whenever it builds or copies a module."""
    for inner in module.modules():
        if ANCHOR in inner._buffers:
            inner._non_persistent_buffers_set.add(ANCHOR)
        held = inner._modules.get(CONSTANTS)
        if held is not None:
            held._non_persistent_buffers_set.update(held._buffers)


def name_states(module: nn.Module, renamed: Mapping[str, str]) -> None:
    """Make the state of a module use the right names for weights that are kept elsewhere (name -> place)."""
    if not renamed:
        return

    def saved(_: nn.Module, state: dict[str, object], prefix: str, __: object) -> None:
        for name, place in renamed.items():
            if prefix + place in state:
                state[prefix + name] = state.pop(prefix + place)

    def loaded(_: nn.Module, state: dict[str, object], prefix: str, *__: object) -> None:
        for name, place in renamed.items():
            if prefix + name in state:
                state[prefix + place] = state.pop(prefix + name)

    module.register_state_dict_post_hook(saved)
    module.register_load_state_dict_pre_hook(loaded)
