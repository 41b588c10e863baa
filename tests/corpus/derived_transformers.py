"""Transformers after onnxruntime's own tools: fused by its transformer optimizer, or with weights of four bits.

The optimizer writes EmbedLayerNormalization, Attention, SkipLayerNormalization, SkipSimplifiedLayerNormalization,
BiasGelu and FastGelu where it knows the pattern; the quantizer turns MatMul into MatMulNBits and leaves the rest.
Needs transformers.
"""

import importlib
from dataclasses import replace
from functools import partial
from pathlib import Path

import onnx

from tests.corpus.derived import Change, derive
from tests.corpus.index import Feed
from tests.corpus.plain_attention import specs_of_source as attention
from tests.corpus.spec import Built, Spec
from tests.corpus.transformers_cached import specs_of_source as cached
from tests.corpus.transformers_models import specs_of_source as models

HEADS, WIDTH = 4, 64


def optimise(model_type: str, source: Path, target: Path, feeds: tuple[Feed, ...]) -> None:
    """Fuse with the patterns of one model type, all of them, without onnxruntime's own graph passes."""
    tool = importlib.import_module("onnxruntime.transformers.optimizer")
    options = importlib.import_module("onnxruntime.transformers.fusion_options").FusionOptions(model_type)
    fused = tool.optimize_model(
        str(source), model_type=model_type, num_heads=HEADS, hidden_size=WIDTH, opt_level=0,
        optimization_options=options,
    )  # fmt: skip
    if not any(node.domain == "com.microsoft" for node in fused.model.graph.node):
        raise ValueError(f"the optimizer found nothing of a {model_type} in {source.name}")
    fused.save_model_to_file(str(target))


def four_bits(block: int, symmetric: bool, source: Path, target: Path, feeds: tuple[Feed, ...]) -> None:
    """Quantise the constant matrices in blocks along what they sum over."""
    tool = importlib.import_module("onnxruntime.quantization.matmul_nbits_quantizer")
    quantizer = tool.MatMulNBitsQuantizer(onnx.load(source), block_size=block, is_symmetric=symmetric)
    quantizer.process()
    if not any(node.op_type == "MatMulNBits" for node in quantizer.model.model.graph.node):
        raise ValueError(f"the quantizer found no matrix in {source.name}")
    quantizer.model.save_model_to_file(str(target))


def dialect(origin: Spec, change: Change) -> Built:
    """Derive a file that may put LayerNormalization into an older operator set, as the optimizer does."""
    return replace(derive(origin, change), standard=False)


def specs_of_source() -> list[Spec]:
    """Pairs of an original and a change."""
    origins = {spec.name: spec for source in (attention, models, cached) for spec in source()}
    wanted: tuple[tuple[str, str, Change], ...] = (
        ("hf_bert.ts", "fused", partial(optimise, "bert")),
        ("hf_bert.dyn", "fused_dyn", partial(optimise, "bert")),
        ("hf_distilbert.ts", "fused", partial(optimise, "bert")),
        ("hf_gpt2.ts", "fused", partial(optimise, "gpt2")),
        ("hf_gpt2_cached.ts", "fused", partial(optimise, "gpt2")),
        ("hf_vit.ts", "fused", partial(optimise, "vit")),
        ("hf_t5.ts", "fused", partial(optimise, "t5")),
        ("hf_bart.ts", "fused", partial(optimise, "bart")),
        ("hf_llama.ts", "fused", partial(optimise, "gpt2")),
        ("hf_gpt2.ts", "int4", partial(four_bits, 32, True)),
        ("hf_llama.ts", "int4", partial(four_bits, 16, False)),
        ("hf_llama_cached.ts", "int4", partial(four_bits, 32, True)),
        ("hf_bert.ts", "int4", partial(four_bits, 32, True)),
        ("packed_attention.ts", "int4", partial(four_bits, 16, True)),
    )
    return [
        Spec(
            f"{name.split('.')[0]}_{tag}.ort", origins[name].family, "onnxruntime", "ort",
            partial(dialect if "fused" in tag else derive, origins[name], change),
        )
        for name, tag, change in wanted
        if name in origins
    ]  # fmt: skip
