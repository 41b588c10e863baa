"""Every operator of the installed onnx is counted, or is on the list of those that cannot be; none is overlooked."""

import onnx.defs

from graphrewrite.cost.registry import RULES, UNCOUNTED
from graphrewrite.cost.rules import elementwise

COVERED = ("", "ai.onnx.ml", "ai.onnx.preview", "ai.onnx.preview.training")


def known_operators() -> set[tuple[str, str]]:
    """Return (domain, name) of every operator schema of the installed onnx."""
    return {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas()}


def test_every_operator_is_ruled_or_listed_as_uncounted() -> None:
    missing = {
        key for key in known_operators() if key[0] in COVERED and key not in RULES and key not in UNCOUNTED
    }
    assert missing == set()


def test_no_operator_is_both() -> None:
    assert set(RULES) & set(UNCOUNTED) == set()


def test_no_rule_is_misspelt() -> None:
    # newer operators are absent from an older onnx; those here exist since 1.23
    # onnxruntime files this one in onnx's domain
    newest = {
        "SimplifiedLayerNormalization",
        "BitCast",
        "CausalConvWithState",
        "CumProd",
        "FlexAttention",
        "LinearAttention",
        "SwiGLU",
    }
    known = known_operators()
    strange = {key for key in [*RULES, *UNCOUNTED] if key[0] in COVERED and key not in known}
    assert {name for _, name in strange} <= newest


def test_what_is_uncounted_says_why() -> None:
    assert all(len(reason) > 10 for reason in UNCOUNTED.values())


def test_the_default_domain_leaves_only_pictures_uncounted() -> None:
    assert {name for domain, name in UNCOUNTED if domain == ""} == {"ImageDecoder"}


def test_products_have_multiply_accumulates_and_element_work_has_none() -> None:
    products = {
        "Conv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "Einsum",
        "LSTM",
        "GRU",
        "RNN",
        "Attention",
        "DFT",
        "STFT",
    }
    assert all(RULES["", name].macs is not None for name in products)
    assert RULES["", "Relu"].macs is None and RULES["", "Relu"].ops is not None
    assert RULES["", "Reshape"].macs is None and RULES["", "Reshape"].ops is None
    assert elementwise.pool.__doc__
