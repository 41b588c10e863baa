"""Language, vision and sound models of transformers, two to four layers deep and 64 wide, from configs alone.

A row names the model's class, its config's settings and its inputs. Needs transformers; nothing is downloaded.
"""

import importlib
import zlib
from functools import partial
from types import ModuleType

import torch
from torch import Tensor, nn

from tests.corpus.spec import Spec
from tests.corpus.stubs import import_torchvision
from tests.corpus.torch_nets import Net, Variant, dyn, half, raw, specs, static, ts
from tests.corpus.transformers_causal import CAUSAL_ROWS
from tests.corpus.transformers_rows import Row
from tests.corpus.transformers_senses import SENSE_ROWS
from tests.corpus.transformers_text import BOTH_ROWS, TEXT_ROWS
from tests.corpus.transformers_vision import VISION_ROWS

import_torchvision()
_LIBRARY = "transformers"

VARIANTS: tuple[tuple[Variant, ...], ...] = (
    (ts(14), dyn(18)),
    (ts(17), dyn(20), raw()),
    (ts(16), dyn(18)),
    (ts(15), static(dyn(18))),
    (ts(17), dyn(18), half(dyn(18))),
    (static(ts(14)), dyn(21)),
)
CORE = (
    "bert", "albert", "distilbert", "gpt2", "gpt_neox", "llama", "t5_encoder", "bart", "vit", "segformer", "clip_text",
    "whisper_encoder", "wav2vec2",
)  # fmt: skip
FUSED = ("bert_classifier", "distilbert", "llama_fused", "marian", "vit", "wav2vec2", "clip_vision", "qwen3")


class Wrapped(nn.Module):
    """A model called with tensors in order, that answers with a tuple of the outputs named."""

    def __init__(self, model: nn.Module, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.inputs, self.outputs = model, inputs, outputs

    def forward(
        self, first: Tensor, second: Tensor | None = None, third: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        given = dict(zip(self.inputs, (first, second, third), strict=False))
        answer = self.model(**given)
        if isinstance(answer, Tensor):
            return (answer,)
        return tuple(getattr(answer, name) for name in self.outputs)


def build(row: Row) -> Net:
    """Create the row's model; attention is written out unless the fused operator is wanted."""
    library = importlib.import_module(_LIBRARY)
    config = getattr(library, row.config)(**row.settings)
    for part in (
        config,
        *(getattr(config, name, None) for name in ("text_config", "vision_config", "encoder", "decoder")),
    ):
        if part is not None and hasattr(part, "_attn_implementation"):
            part._attn_implementation = "sdpa" if row.name in FUSED else "eager"
        if part is not None and hasattr(part, "_experts_implementation"):
            part._experts_implementation = "batched_mm"  # the grouped product has no ONNX form
        if part is not None and hasattr(part, "use_cache"):
            part.use_cache = False
    model = _model(library, row)(config).float()
    if row.part:
        model = getattr(model, row.part)
    torch.set_grad_enabled(False)
    return Net(Wrapped(model, tuple(feed.name for feed in row.feeds), row.outputs), row.feeds)


def specs_of_source() -> list[Spec]:
    """All rows, most in both exporters."""
    importlib.import_module(_LIBRARY)
    found: list[Spec] = []
    for row in (*TEXT_ROWS, *CAUSAL_ROWS, *BOTH_ROWS, *VISION_ROWS, *SENSE_ROWS):
        variants = VARIANTS[zlib.crc32(row.name.encode()) % len(VARIANTS)]
        found += specs(
            f"hf_{row.name}", row.family, "transformers", partial(build, row), variants, row.name in CORE
        )
    return found


def _model(library: ModuleType, row: Row) -> type[nn.Module]:
    return getattr(library, row.model)
