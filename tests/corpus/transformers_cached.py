"""Decoders exported for generation: past keys and values come in, the grown ones go out; three sizes are free.

The batch, the new tokens and the length of the past are symbolic, the mask is as long as past and new together. A
model with an encoder gets its states and its cross keys too, which do not grow. Needs transformers.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from tests.corpus.index import Feed
from tests.corpus.spec import Spec
from tests.corpus.stubs import import_torchvision
from tests.corpus.torch_nets import BOTH, Net, Variant, dyn, half, specs, ts
from tests.corpus.transformers_causal import GPT2
from tests.corpus.transformers_rows import BASE, KEY_VALUE, WORDS

import_torchvision()
_LIBRARY = "transformers"
NEW, PAST, SOURCE, HEAD_SIZE = 2, 5, 7, 16
BATCH, STEPS, KNOWN, READ = "batch", "sequence", "past", "source"


@dataclass(frozen=True)
class Cached:
    """One decoder: class names, settings, cached heads of each layer, and whether it reads an encoder."""

    name: str
    model: str
    config: str
    settings: Mapping[str, object]
    heads: int
    reads: bool = False
    layers: int = 2


ROWS = (
    Cached("gpt2", "GPT2LMHeadModel", "GPT2Config", GPT2, 4),
    Cached("llama", "LlamaForCausalLM", "LlamaConfig", {**BASE, **KEY_VALUE}, 2),
    Cached("gpt_neox", "GPTNeoXForCausalLM", "GPTNeoXConfig", {**BASE}, 4),
    Cached("qwen3", "Qwen3ForCausalLM", "Qwen3Config", {**BASE, **KEY_VALUE, "head_dim": 16}, 2),
    Cached("bart", "BartForConditionalGeneration", "BartConfig", {
        "vocab_size": WORDS, "d_model": 64, "encoder_layers": 1, "decoder_layers": 2, "encoder_attention_heads": 4,
        "decoder_attention_heads": 4, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96, "max_position_embeddings": 64,
    }, 4, True),
)  # fmt: skip
VARIANTS: dict[str, tuple[Variant, ...]] = {
    "llama": (ts(17), dyn(18), half(ts(17))),
    "gpt2": (ts(14), dyn(20)),
}


class Step(nn.Module):
    """One step of decoding with plain tensors in and out: tokens, mask, past; scores, present."""

    def __init__(self, model: nn.Module, row: Cached) -> None:
        super().__init__()
        self.model, self.row = model, row

    def forward(self, *values: Tensor) -> tuple[Tensor, ...]:
        tokens, mask, *rest = values
        grown = 2 * self.row.layers
        past = _cache(rest[:grown])
        if not self.row.reads:
            answer = self.model(input_ids=tokens, attention_mask=mask, past_key_values=past, use_cache=True)
            return (answer.logits, *_tensors(answer.past_key_values))
        both = importlib.import_module(f"{_LIBRARY}.cache_utils").EncoderDecoderCache(
            past, _cache(rest[grown : 2 * grown])
        )
        answer = self.model(
            decoder_input_ids=tokens,
            decoder_attention_mask=mask,
            encoder_outputs=(rest[-1],),
            past_key_values=both,
            use_cache=True,
        )
        return (answer.logits, *_tensors(answer.past_key_values.self_attention_cache))


def _cache(values: list[Tensor]) -> object:
    """Wrap tensors as the library's cache without its first concatenation, that of nothing."""
    library = importlib.import_module(f"{_LIBRARY}.cache_utils")
    cache = library.DynamicCache()
    for key, value in zip(values[::2], values[1::2], strict=True):
        layer = library.DynamicLayer()
        layer.lazy_initialization(key, value)
        layer.keys, layer.values = key, value
        cache.layers.append(layer)
    return cache


def _tensors(cache: object) -> list[Tensor]:
    return [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]  # type: ignore[attr-defined]


def build(row: Cached) -> Net:
    """Create the row's model and say which sizes of its inputs are free."""
    library = importlib.import_module(_LIBRARY)
    config = getattr(library, row.config)(**row.settings)
    config._attn_implementation = "eager"
    model = getattr(library, row.model)(config).float()
    torch.set_grad_enabled(False)
    feeds = [
        Feed("input_ids", (None, NEW), "int64", 3, WORDS),
        Feed("attention_mask", (None, PAST + NEW), "int64", 1, 2),
        *_feeds("past_key_values", row, PAST),
    ]
    free = {"input_ids": {1: STEPS}, "attention_mask": {1: f"{KNOWN} + {STEPS}"}}
    free |= {feed.name: {2: KNOWN} for feed in feeds[2:]}
    if row.reads:
        cross = _feeds("cross_key_values", row, SOURCE)
        free |= {feed.name: {2: READ} for feed in cross}
        feeds += [*cross, Feed("encoder_hidden_states", (None, SOURCE, 64))]
        free["encoder_hidden_states"] = {1: READ}
    return Net(Step(model, row), tuple(feeds), free=free)


def _feeds(prefix: str, row: Cached, length: int) -> list[Feed]:
    shape = (None, row.heads, length, HEAD_SIZE)
    return [Feed(f"{prefix}.{i}.{kind}", shape) for i in range(row.layers) for kind in ("key", "value")]


def specs_of_source() -> list[Spec]:
    """All rows in both exporters."""
    importlib.import_module(_LIBRARY)
    made: list[tuple[str, Callable[[], Net]]] = [(row.name, partial(build, row)) for row in ROWS]
    return [
        spec
        for name, make in made
        for spec in specs(
            f"hf_{name}_cached", "transformer", "transformers", make, VARIANTS.get(name, BOTH), name == "gpt2"
        )
    ]
