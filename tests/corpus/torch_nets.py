"""From a torch module to ONNX files: both exporters, with the settings found in the wild."""

import copy
import inspect
import io
import warnings
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
import onnx
import torch
from torch import Tensor, nn

from tests.corpus.check import runs_at
from tests.corpus.index import Feed
from tests.corpus.randomise import randomise
from tests.corpus.spec import Built, Family, Spec

Free: TypeAlias = Mapping[str, Mapping[int, str]]


@dataclass(frozen=True)
class Net:
    """A module and its inputs, in the order of its forward.

    `prepare` is called with random inputs once the weights are drawn, for norms that only their library can measure.
    `free` names more free axes than the batch: {input: {axis: size's name}}; the feeds hold one size of each.
    """

    module: nn.Module
    feeds: tuple[Feed, ...]
    prepare: Callable[[tuple[Tensor, ...]], None] | None = None
    free: Free = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """One way of exporting.

    `exporter` is "ts", "dyn" or "dynraw" (no optimiser, functions left in); `tag` follows it in the name.
    `keep_norms` exports batch norms as nodes instead of folding them (TorchScript exporter only).
    """

    exporter: str
    opset: int
    tag: str = ""
    dynamic: bool = True
    half: bool = False
    keep_norms: bool = False


def ts(opset: int = 17, tag: str = "") -> Variant:
    """The older, tracing exporter."""
    return Variant("ts", opset, tag)


def dyn(opset: int = 18, tag: str = "") -> Variant:
    """The exporter built on torch.export."""
    return Variant("dyn", opset, tag)


def static(base: Variant) -> Variant:
    """The same with every size fixed."""
    return replace(base, tag="static", dynamic=False)


def half(base: Variant) -> Variant:
    """The same with 16-bit floats."""
    return replace(base, tag="fp16", half=True)


def norms_kept(base: Variant) -> Variant:
    """The same with batch norm nodes left beside their convolutions."""
    return replace(base, tag="bn", keep_norms=True)


def raw(opset: int = 18) -> Variant:
    """The torch.export path without its graph optimiser."""
    return Variant("dynraw", opset)


BOTH = (ts(), dyn())
KEPT = (ts(13), dyn(18), norms_kept(ts(13)))


def net(make: Callable[[], nn.Module], feeds: tuple[Feed, ...]) -> Net:
    """A net whose module is made late, for use with `partial` in a table."""
    return Net(make(), feeds)


def drawn(spec: Spec) -> Net | None:
    """The module behind a file of the corpus, with the weights the file has; None when it is not a torch export."""
    export = getattr(spec.build, "__self__", None)
    return export.draw()[0] if isinstance(export, _Export) else None


def image(size: int = 32, channels: int = 3) -> tuple[Feed, ...]:
    """One square picture as the only input."""
    return (Feed("input", (None, channels, size, size)),)


def specs(
    architecture: str,
    family: Family,
    source: str,
    make: Callable[[], Net],
    variants: Iterable[Variant] = BOTH,
    core: bool = False,
) -> list[Spec]:
    """One spec per variant; all have the same weights, drawn from a seed made of the architecture's name."""
    result = []
    for variant in variants:
        name = ".".join(part for part in (architecture, variant.exporter, variant.tag) if part)
        result.append(
            Spec(name, family, source, variant.exporter, _Export(architecture, make, variant).build, core)
        )
    return result


@dataclass(frozen=True)
class _Export:
    """A deferred export; nothing heavy happens before `build`."""

    architecture: str
    make: Callable[[], Net]
    variant: Variant

    def draw(self) -> tuple[Net, tuple[Tensor, ...]]:
        """The net with its weights drawn, in eval mode, and random inputs at batch 2."""
        seed = zlib.crc32(self.architecture.encode())
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        # The fused encoder layer of eval mode has no ONNX form.
        torch.backends.mha.set_fastpath_enabled(False)
        made = self.make()
        rng = np.random.default_rng(seed)
        arguments = arguments_of(made.feeds, 2, rng)
        many = arguments_of(made.feeds, 4, rng)
        randomise(made.module, lambda: made.module(*many), seed)
        if made.prepare:
            made.prepare(many)
        return made, arguments

    def build(self) -> Built:
        made, arguments = self.draw()
        module, feeds = made.module, made.feeds
        if self.variant.half:
            module.half()
            feeds = tuple(replace(f, dtype="float16") if f.dtype == "float32" else f for f in feeds)
            arguments = arguments_of(feeds, 2, np.random.default_rng(zlib.crc32(self.architecture.encode())))
        if self.variant.dynamic and any(None in feed.shape for feed in feeds):
            proto = _export(copy.deepcopy(module), arguments, feeds, self.variant, made.free)
            if _declares_batch(proto, feeds) and all(runs_at(proto, feeds, batch) for batch in (1, 3)):
                return Built(proto, _present(proto, feeds))
        fixed = tuple(replace(f, shape=tuple(2 if s is None else s for s in f.shape)) for f in feeds)
        proto = _export(module, arguments, fixed, self.variant, {})
        return Built(proto, _present(proto, fixed))


def arguments_of(feeds: tuple[Feed, ...], batch: int, rng: np.random.Generator) -> tuple[Tensor, ...]:
    """Random inputs as a module takes them."""
    return tuple(torch.from_numpy(feed.sample(batch, rng)) for feed in feeds)


def _export(
    module: nn.Module, arguments: tuple[Tensor, ...], feeds: tuple[Feed, ...], variant: Variant, free: Free
) -> onnx.ModelProto:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        outputs = _count_outputs(module(*arguments))
        names = ["output"] if outputs == 1 else [f"output_{i}" for i in range(outputs)]
        if variant.exporter == "ts":
            return _export_by_tracing(module, arguments, feeds, names, variant, free)
        return _export_by_torch_export(module, arguments, feeds, names, variant, free)


def _export_by_tracing(
    module: nn.Module,
    arguments: tuple[Tensor, ...],
    feeds: tuple[Feed, ...],
    names: list[str],
    variant: Variant,
    free: Free,
) -> onnx.ModelProto:
    axes = {
        feed.name: {feed.shape.index(None): "batch", **free.get(feed.name, {})}
        for feed in feeds
        if None in feed.shape
    }
    buffer = io.BytesIO()
    preserve, evaluate = torch.onnx.TrainingMode.PRESERVE, torch.onnx.TrainingMode.EVAL
    torch.onnx.export(
        module,
        arguments,
        buffer,
        dynamo=False,
        opset_version=variant.opset,
        input_names=[feed.name for feed in feeds],
        output_names=names,
        dynamic_axes=axes or None,
        training=preserve if variant.keep_norms else evaluate,
        do_constant_folding=not variant.keep_norms,
    )
    return onnx.load_from_string(buffer.getvalue())


def _export_by_torch_export(
    module: nn.Module,
    arguments: tuple[Tensor, ...],
    feeds: tuple[Feed, ...],
    names: list[str],
    variant: Variant,
    free: Free,
) -> onnx.ModelProto:
    shapes: tuple[object, ...] = tuple(
        dict.fromkeys((feed.shape.index(None), *free.get(feed.name, ())), torch.export.Dim.AUTO)
        if None in feed.shape
        else None
        for feed in feeds
    )
    kinds = {p.kind for p in inspect.signature(module.forward).parameters.values()}
    if inspect.Parameter.VAR_POSITIONAL in kinds:  # they are one argument there
        shapes = (shapes,)
    program = torch.onnx.export(
        module,
        arguments,
        dynamo=True,
        verbose=False,
        opset_version=variant.opset,
        input_names=[feed.name for feed in feeds],
        output_names=names,
        dynamic_shapes=shapes if any(None in feed.shape for feed in feeds) else None,
        optimize=variant.exporter == "dyn",
    )
    assert program is not None
    proto = program.model_proto
    for entry in list(proto.graph.node) + list(proto.graph.value_info) + list(proto.graph.initializer):
        # Python stack traces: they name this machine's paths and make up half of a small file.
        entry.ClearField("metadata_props")
    return proto


def _count_outputs(value: object) -> int:
    if isinstance(value, Tensor):
        return 1
    if isinstance(value, (list, tuple)):
        return sum(_count_outputs(item) for item in value)
    raise TypeError(f"a net returned {type(value).__name__}; wrap it so that it returns tensors")


def _declares_batch(proto: onnx.ModelProto, feeds: tuple[Feed, ...]) -> bool:
    inputs = {value.name: value.type.tensor_type.shape.dim for value in proto.graph.input}
    return all(
        feed.name not in inputs or bool(inputs[feed.name][feed.shape.index(None)].dim_param)
        for feed in feeds
        if None in feed.shape
    )


def _present(proto: onnx.ModelProto, feeds: tuple[Feed, ...]) -> tuple[Feed, ...]:
    """The inputs that survived the export."""
    names = {value.name for value in proto.graph.input}
    return tuple(feed for feed in feeds if feed.name in names)
