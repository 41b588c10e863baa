"""An ONNX model as a torch module whose parameters are the model's own weights."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import fx, nn

from graphrewrite.bridge.build import Weighed, Writer
from graphrewrite.bridge.expand import expand
from graphrewrite.bridge.names import leave_out_constants, name_states, places, put
from graphrewrite.bridge.numbers import Fed, array_from, as_declared, fed_from, tensor_of, value_of
from graphrewrite.bridge.reach import reached
from graphrewrite.bridge.statistics import part
from graphrewrite.bridge.weights import FROZEN, PARAMETER, Role, Stored, roles, stored
from graphrewrite.errors import InvalidData, ShapeError, UnknownNameError
from graphrewrite.ir import Model
from graphrewrite.ir.edit import all_graphs, sort_nodes
from graphrewrite.ir.inline import inlined

_INSIDE = "it stands inside a function of the model; write functions out first to train it"


@dataclass(frozen=True)
class Record:
    """Where a module came from; copies of the module share it.

    Attributes:
        model: the model as it was; nobody changes it.
        roles: what became of each stored tensor, by name.
        places: name -> dotted place in the module, of parameters and statistics.
        parted: statistics that the model stores once with something else: name here -> its name there.
        inputs: names of the model's inputs in the order `forward` takes them.
        outputs: names of its outputs in the order `forward` returns them.
        tensors: tensor name -> name of the call that yields it.
    """

    model: Model
    roles: Mapping[str, Role]
    places: Mapping[str, str]
    parted: Mapping[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: Mapping[str, str]

    def __deepcopy__(self, memo: object) -> "Record":
        return self


class GraphModule(fx.GraphModule):
    """A `torch.fx.GraphModule` that computes what an ONNX model computes, and can be trained.

    `forward` takes the model's inputs in order (or by name) and returns its output, or a tuple of them. `state_dict` is
    keyed by the names of the initializers. In training mode batch norms measure their batch and move their running
    statistics, and dropout drops; a graph that was exported for inference with its norms folded into the weights has
    neither, and trains without them.

    Args:
        model: stays as it is; `write_back` returns a copy.
        trainable: names or patterns of weights to train that would be left alone by themselves (`frozen` lists them).
        frozen: names or patterns of weights to leave alone.

    Raises:
        UnsupportedOp: an operator has no torch form; names the node.
        UnknownNameError: a pattern fits no weight.
    """

    record: Record

    def __init__(self, model: Model, trainable: Sequence[str] = (), frozen: Sequence[str] = ()) -> None:
        # A throw-away copy: function bodies are hooked into it. Names of what is not inside a function stay the same.
        plain = model.clone()
        parted = part(plain)
        known = set(stored(plain))
        plain = inlined(plain)
        numbers = stored(plain)
        own = {key: entry for key, entry in numbers.items() if key in known}
        for graph in all_graphs(plain.graph):
            sort_nodes(graph)  # not all tools do; names were given in the order of the file
        kinds = roles(own, plain.opsets, trainable, frozen, reached(plain.graph, plain.opsets))
        kinds.update((key, Role(FROZEN, _INSIDE)) for key in numbers if key not in known)
        live = [key for key, role in kinds.items() if role.kind != FROZEN]
        where = places(live, [*dir(type(self)), "record"])
        root = nn.Module()
        for key in live:
            tensor = tensor_of(numbers[key].array).clone()
            put(root, where[key], nn.Parameter(tensor) if kinds[key].kind == PARAMETER else tensor)
        shared = Weighed(plain, {id(numbers[key].tensor): where[key] for key in live}, expand)
        writer = Writer(shared, plain.graph, root)
        writer.run()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # fx wonders about places it sees for the first time
            super().__init__(root, writer.written, "GraphModule")
        self.record = Record(
            model=model,
            roles=kinds,
            places=where,
            parted=parted,
            inputs=tuple(tensor.name for tensor in model.inputs),
            outputs=tuple(tensor.name for tensor in model.outputs),
            tensors={
                name: value.node.name for name, value in writer.values.items() if value.node is not None
            },
        )
        leave_out_constants(self)
        self._name_states()

    def __deepcopy__(self, memo: dict[int, object]) -> "GraphModule":
        copy: GraphModule = super().__deepcopy__(memo)
        copy.record = self.record
        leave_out_constants(copy)
        return copy

    def _name_states(self) -> None:
        name_states(self, {key: place for key, place in self.record.places.items() if key != place})

    @property
    def frozen(self) -> dict[str, str]:
        """Weights that are not trained, and why."""
        return {key: role.why for key, role in self.record.roles.items() if role.kind != PARAMETER}

    def weight_named(self, name: str) -> torch.Tensor:
        """Return the parameter or running statistic that an initializer became.

        Raises:
            UnknownNameError: there is none of this name; says why when it is frozen.
        """
        place = self.record.places.get(name)
        if place is None:
            why = self.record.roles.get(name)
            told = f"it is frozen: {why.why}" if why else "the model has no such floating weight"
            raise UnknownNameError(
                f"the module has no parameter {name!r}: {told}; see GraphModule.record.roles"
            )
        found: torch.Tensor = _at(self, place)
        return found

    def run(self, feeds: Mapping[str, Fed]) -> dict[str, Fed]:
        """Run on arrays by input name, without gradients and in the present mode; return arrays by output name.

        A sequence is a list, an empty optional None.

        Raises:
            InvalidData: an input is missing.
        """
        missing = [name for name in self.record.inputs if name not in feeds]
        if missing:
            raise InvalidData(
                f"the input {missing[0]!r} was not given; expected {', '.join(self.record.inputs)}; feed all of them"
            )
        device = next(
            (tensor.device for tensor in (*self.parameters(), *self.buffers())), torch.device("cpu")
        )
        with torch.no_grad():
            found = self(*(value_of(feeds[name], device) for name in self.record.inputs))
        several = (found,) if len(self.record.outputs) == 1 else found
        return {
            tensor.name: as_declared(fed_from(value), tensor.dtype)
            for tensor, value in zip(self.record.model.outputs, several, strict=True)
        }

    def write_back(self, state: Mapping[str, torch.Tensor] | None = None) -> Model:
        """Return a copy of the model with the present weights and statistics; everything else stays as it was.

        `state` is a whole state of this module gathered from elsewhere (keyed by weight names), where the module itself
        holds a part only, as under FSDP. Numbers that did not change keep their bytes and their place in the file.
        Statistics that the model stores once with something else get initializers of their own where they now differ.

        Raises:
            ShapeError: a weight has another shape than in the model.
        """
        state = self.state_dict() if state is None else state
        copy = self.record.model.clone()
        entries = stored(copy)
        if self._have_parted(state, entries):
            part(copy)
            entries = stored(copy)
        for key in self.record.places:
            if key in state and key in entries:
                _write(key, entries[key], state[key])
        return copy

    def _have_parted(self, state: Mapping[str, torch.Tensor], entries: Mapping[str, Stored]) -> bool:
        """Whether a statistic has other numbers than what it was stored with."""
        for name, shared in self.record.parted.items():
            if name in state:
                there = state[shared] if shared in state else tensor_of(entries[shared].array)
                if not torch.equal(state[name], there.to(state[name])):
                    return True
        return False


def _write(key: str, entry: Stored, tensor: torch.Tensor) -> None:
    before = entry.array
    if tuple(tensor.shape) != before.shape:
        raise ShapeError(
            f"the weight {key!r} has the shape {list(tensor.shape)} and the model's has {list(before.shape)}; expected "
            "the same; transforms that change shapes are folded, not written back"
        )
    after = array_from(tensor.to(tensor_of(before[:0] if before.ndim else before).dtype))
    if after.tobytes() != before.tobytes():
        entry.replace(np.array(after))


def _at(module: nn.Module, place: str) -> torch.Tensor:
    outer, _, last = place.rpartition(".")
    found: torch.Tensor = getattr(module.get_submodule(outer), last)
    return found
