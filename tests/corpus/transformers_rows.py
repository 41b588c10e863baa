"""Which transformers models the corpus holds, their configs and inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tests.corpus.index import Feed
from tests.corpus.spec import Family

WORDS, STEPS = 96, 12
TOKENS = Feed("input_ids", (None, STEPS), "int64", 3, WORDS)
MASK = Feed("attention_mask", (None, STEPS), "int64", 1, 2)
TARGETS = Feed("decoder_input_ids", (None, 6), "int64", 3, WORDS)
HIDDEN = ("last_hidden_state",)
LOGITS = ("logits",)

# The names that most configs share.
BASE: Mapping[str, object] = MappingProxyType(
    {
        "vocab_size": WORDS,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
)
VISION: Mapping[str, object] = MappingProxyType(
    {
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 128,
        "image_size": 32,
        "patch_size": 8,
        "num_labels": 5,
    }
)
KEY_VALUE = {"num_key_value_heads": 2}
_CNNS = (
    "ConvNext",
    "ConvNextV2",
    "ResNet",
    "RegNet",
    "MobileNetV1",
    "MobileNetV2",
    "Bit",
    "EfficientNet",
    "TextNet",
)
_HYBRIDS = ("MobileViT", "MobileViTV2", "Levit", "Cvt", "PoolFormer", "FocalNet", "SwiftFormer")


def _vision_family(prefix: str) -> Family:
    if prefix in _CNNS:
        return "cnn"
    return "hybrid" if prefix in _HYBRIDS else "transformer"


@dataclass(frozen=True)
class Row:
    """One model: `model` and `config` are class names; `part` picks a submodule, such as an encoder."""

    name: str
    family: Family
    model: str
    config: str
    settings: Mapping[str, object]
    feeds: tuple[Feed, ...] = (TOKENS,)
    outputs: tuple[str, ...] = HIDDEN
    part: str = ""


def pixels(size: int = 32) -> tuple[Feed, ...]:
    """A picture under the name the library uses."""
    return (Feed("pixel_values", (None, 3, size, size)),)


def text(name: str, prefix: str, model: str = "Model", /, **changes: object) -> Row:
    """An encoder with the usual config names and an attention mask as second input."""
    settings = {**BASE, **changes}
    outputs = HIDDEN if model == "Model" else LOGITS
    feeds = (TOKENS, MASK)
    return Row(name, "transformer", prefix + model, prefix + "Config", settings, feeds, outputs)


def causal(name: str, prefix: str, /, **changes: object) -> Row:
    """A decoder-only language model with a head."""
    model, config = prefix + "ForCausalLM", prefix + "Config"
    family: Family = "recurrent" if prefix in ("Mamba", "RecurrentGemma") else "transformer"
    return Row(name, family, model, config, {**BASE, **changes}, (TOKENS, MASK), LOGITS)


def picture(
    name: str, prefix: str, model: str = "ForImageClassification", size: int = 32, /, **settings: object
) -> Row:
    """A vision model; conv stages need all their settings given, plain ones start from VISION."""
    family: Family = "segmentation" if "Segmentation" in model else _vision_family(prefix)
    return Row(name, family, prefix + model, prefix + "Config", settings, pixels(size), LOGITS)
