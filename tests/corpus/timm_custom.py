"""timm classes called directly, where the library's named constructors fix the widths."""

import importlib
from collections.abc import Callable
from functools import partial
from types import ModuleType

from torch import nn

from tests.corpus.spec import Family
from tests.corpus.stubs import import_torchvision

import_torchvision()


def _library(name: str) -> ModuleType:
    return importlib.import_module(f"timm.models.{name}")


def selecsls() -> nn.Module:
    """Two stages of selective long skips: a skip tensor and a current one travel through each stage."""
    library = _library("selecsls")
    plan = [
        (32, 0, 24, 24, True, 2),
        (24, 24, 24, 48, False, 1),
        (48, 0, 36, 36, True, 2),
        (36, 36, 36, 72, False, 1),
    ]
    cfg = {
        "block": library.SelecSlsBlock, "features": plan, "head": [(72, 96, 3, 2), (96, 128, 1, 1)],
        "num_features": 128, "feature_info": [],
    }  # fmt: skip
    return library.SelecSls(cfg, num_classes=10)


def vovnet() -> nn.Module:
    """One-shot aggregation: all layers of a block concatenated once; effective squeeze-excite, residuals."""
    cfg = {
        "stem_chs": [16, 16, 32], "stage_conv_chs": [32, 40, 48, 56], "stage_out_chs": [64, 96, 128, 160],
        "layer_per_block": 4, "block_per_stage": [1, 1, 2, 2], "residual": True, "depthwise": False, "attn": "ese",
    }  # fmt: skip
    return _library("vovnet").VovNet(cfg, num_classes=10)


def mvitv2() -> nn.Module:
    """Pooled attention with decomposed relative positions and residual pooling."""
    library = _library("mvitv2")
    cfg = library.MultiScaleVitCfg(depths=(1, 1, 2, 1), embed_dim=32)
    return library.MultiScaleVit(cfg, img_size=(64, 64), num_classes=10)


def xception() -> nn.Module:
    """Separable convolutions with activations between them, long skips."""
    plan = [
        {"in_chs": 64, "out_chs": 64, "stride": 2},
        {"in_chs": 64, "out_chs": 96, "stride": 2},
        {"in_chs": 96, "out_chs": 96, "stride": 1},
        {"in_chs": 96, "out_chs": (96, 128, 128), "stride": 2},
        {"in_chs": 128, "out_chs": (160, 160, 192), "no_skip": True, "stride": 1},
    ]
    return _library("xception_aligned").XceptionAligned(plan, num_classes=10)


def convmixer() -> nn.Module:
    """Patches, then depthwise and pointwise convolutions at one resolution."""
    return _library("convmixer").ConvMixer(64, 4, kernel_size=5, patch_size=4, num_classes=10)


def volo() -> nn.Module:
    """Outlook attention (weights for a window, folded back), then transformer and class attention."""
    return _library("volo").VOLO(
        (1, 1, 1, 1), img_size=64, num_classes=10, embed_dims=(32, 64, 64, 64), num_heads=(2, 4, 4, 4)
    )


def nest() -> nn.Module:
    """Attention inside image blocks that are merged level by level."""
    return _library("nest").Nest(
        img_size=64, embed_dims=(32, 64, 128), num_heads=(1, 2, 4), depths=(1, 1, 2), num_classes=10
    )


def gcvit() -> nn.Module:
    """Window attention with global queries computed once per stage."""
    return _library("gcvit").GlobalContextVit(
        img_size=64, embed_dim=32, depths=(2, 2, 2, 1), num_heads=(1, 2, 4, 8), num_classes=10
    )


def focalnet(large: bool) -> nn.Module:
    """Focal modulation: gated context of growing depthwise kernels; post-norm and layer scale in the large form."""
    extra = {"use_post_norm": True, "use_overlap_down": True, "layerscale_value": 1e-4} if large else {}
    return _library("focalnet").FocalNet(embed_dim=32, depths=(1, 1, 2, 1), num_classes=10, **extra)


def metaformer(kind: str) -> nn.Module:
    """One macro architecture, token mixers by pooling (two generations), convolution or attention."""
    library = _library("metaformer")
    settings = {
        "poolformer": {
            "downsample_norm": None, "mlp_act": nn.GELU, "mlp_bias": True, "norm_layers": library.GroupNorm1,
            "layer_scale_init_values": 1e-5, "res_scale_init_values": None, "use_mlp_head": False,
        },
        "poolformerv2": {"norm_layers": library.GroupNorm1NoBias, "use_mlp_head": False},
        "convformer": {"token_mixers": library.SepConv, "norm_layers": library.LayerNorm2dNoBias},
        "caformer": {
            "token_mixers": [library.SepConv, library.SepConv, library.Attention, library.Attention],
            "norm_layers": [library.LayerNorm2dNoBias] * 2 + [library.LayerNormNoBias] * 2,
        },
    }[kind]  # fmt: skip
    return library.MetaFormer(depths=(1, 1, 2, 1), dims=(32, 64, 96, 128), num_classes=10, **settings)


def mixer(kind: str) -> nn.Module:
    """MLPs over tokens and channels; gated in three ways, or with affine norms."""
    library = _library("mlp_mixer")
    layers = importlib.import_module("timm.layers")
    settings = {
        "mixer": {},
        "gmlp": {"mlp_ratio": 6, "block_layer": library.SpatialGatingBlock, "mlp_layer": layers.GatedMlp},
        "gmixer": {"mlp_ratio": (1.0, 4.0), "mlp_layer": layers.GluMlp, "act_layer": nn.SiLU},
        "resmlp": {"mlp_ratio": 4, "block_layer": library.ResBlock, "norm_layer": library.Affine},
    }[kind]
    return library.MlpMixer(img_size=64, patch_size=8, num_blocks=3, embed_dim=96, num_classes=10, **settings)


CUSTOM: tuple[tuple[str, Family, Callable[[], nn.Module]], ...] = (
    ("selecsls", "cnn", selecsls),
    ("vovnet", "cnn", vovnet),
    ("xception", "cnn", xception),
    ("mvitv2", "transformer", mvitv2),
    ("volo", "transformer", volo),
    ("nest", "transformer", nest),
    ("gcvit", "hybrid", gcvit),
    ("focalnet", "hybrid", partial(focalnet, False)),
    ("focalnet_large", "hybrid", partial(focalnet, True)),
    ("convformer", "hybrid", partial(metaformer, "convformer")),
    ("caformer", "hybrid", partial(metaformer, "caformer")),
    ("poolformer", "mlp", partial(metaformer, "poolformer")),
    ("poolformerv2", "mlp", partial(metaformer, "poolformerv2")),
    ("convmixer", "mlp", convmixer),
    ("mixer", "mlp", partial(mixer, "mixer")),
    ("gmlp", "mlp", partial(mixer, "gmlp")),
    ("gmixer", "mlp", partial(mixer, "gmixer")),
    ("resmlp", "mlp", partial(mixer, "resmlp")),
)
