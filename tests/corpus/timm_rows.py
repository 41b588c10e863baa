"""Which timm models the corpus holds, and how each is shrunk."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Row:
    """A model by its name in the library; `settings` go to its constructor."""

    name: str
    size: int = 64
    settings: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))


def row(name: str, size: int = 64, **settings: object) -> Row:
    """A row, written shortly."""
    return Row(name, size, MappingProxyType(settings))


THIN = (16, 32, 64, 128)
CNNS = (
    row("test_resnet"),
    row("test_efficientnet_ln"),
    row("test_mambaout"),
    row("spnasnet_100"),
    row("resnet26d", layers=(1, 1, 1, 1), channels=THIN),
    row("seresnext26d_32x4d", layers=(1, 1, 1, 1), channels=(64, 64, 128, 128)),
    row("ecaresnet26t", layers=(1, 1, 1, 1), channels=THIN),
    row("resnetblur18", channels=THIN),
    row("resnetv2_18", channels=THIN),
    row("resnetv2_50d_gn", layers=(1, 1, 1, 1), channels=(128, 128, 256, 256)),
    row("resnest14d", channels=THIN),
    row("resnest50d_4s2x40d", layers=(1, 1, 1, 1)),
    row("res2net50_14w_8s", layers=(1, 1, 1, 1), channels=(32, 32, 64, 128)),
    row("res2next50", layers=(1, 1, 1, 1), channels=(32, 64, 128, 128)),
    row("skresnet18", channels=THIN),
    row("legacy_seresnext26_32x4d", layers=(1, 1, 1, 1)),
    row("dla46_c"),
    row("dla60x_c"),
    row("dla60_res2net", levels=(1, 1, 1, 1, 1, 1), channels=(8, 16, 32, 64, 128, 256)),
    row("dpn48b", k_sec=(2, 2, 2, 2)),
    row("densenetblur121d", block_config=(2, 3, 3, 2)),
    row("hrnet_w18_small"),
    row("ghostnet_050"),
    row("ghostnetv2_100"),
    row("ghostnetv3_050"),
    row("repghostnet_050"),
    row("mobilenetv3_small_050"),
    row("mobilenetv4_conv_small_050"),
    row("mobilenetv4_hybrid_medium"),
    row("lcnet_050"),
    row("tinynet_e"),
    row("semnasnet_050"),
    row("mixnet_s"),
    row("efficientnet_lite0"),
    row("tf_efficientnetv2_b0"),
    row("test_efficientnet_gn"),
    row("test_efficientnet_evos"),
    row("hardcorenas_a"),
    row("rexnet_100"),
    row("regnety_002"),
    row("regnetz_005"),
    row("test_nfnet"),
    row("nf_regnet_b0"),
    row("cs3darknet_focus_s"),
    row("cspnext_tiny"),
    row("test_byobnet"),
    row("mobileone_s0"),
    row("repvgg_a0"),
    row("gernet_s"),
    row("ese_vovnet19b_slim_dw"),
    row("ese_vovnet19b_slim"),
    row("tresnet_m", layers=(1, 1, 1, 1), width_factor=0.5),
    row("hgnetv2_b0"),
    row("fasternet_t0"),
    row("lcnetv2_small"),
    row("starnet_s050"),
    row("rdnet_tiny", num_init_features=32, growth_rates=(16, 16, 16, 16, 16, 16, 24)),
    row("convnext_zepto_rms"),
    row("convnextv2_atto"),
    row("convnext_atto_ols"),
    row("inception_next_atto"),
    row("mambaout_femto", dims=(24, 48, 96, 144)),
    row("nasnetalarge", 96, stem_size=16, num_features=192),
)

VIT = {"img_size": 64, "embed_dim": 96, "depth": 2, "num_heads": 3}
SWIN = {"img_size": 64, "embed_dim": 32, "depths": (2, 2, 2), "num_heads": (2, 4, 8)}
TRANSFORMERS = (
    row("test_vit", img_size=64),
    row("vit_tiny_patch16_224", 64, **VIT),
    row("deit_tiny_distilled_patch16_224", 64, **VIT),
    row("deit3_small_patch16_224", 64, **VIT),
    row("beit_base_patch16_224", 64, **VIT),
    row("beitv2_base_patch16_224", 64, **VIT),
    row("beit3_base_patch16_224", 64, **VIT),
    row("cait_xxs24_224", 64, **VIT),
    row("convit_tiny", 64, **VIT),
    row("crossvit_tiny_240", 120, img_size=120, depth=((1, 1, 0), (1, 2, 0))),
    row("eva02_tiny_patch14_224", 56, img_size=56, embed_dim=96, depth=2, num_heads=3),
    row("vit_small_patch16_rope_224", 64, **VIT),
    row("vit_tiny_patch16_dinov3_qkvb", 64, **VIT),
    row("vit_relpos_small_patch16_224", 64, **VIT),
    row("vit_srelpos_small_patch16_224", 64, **VIT),
    row("samvit_base_patch16_224", 64, **VIT),
    row("swin_tiny_patch4_window7_224", 64, window_size=4, **SWIN),
    row("swin_s3_tiny_224", 64, window_size=(4, 8, 4), **SWIN),
    row("swinv2_tiny_window8_256", 64, window_size=4, **SWIN),
    row("swinv2_cr_tiny_224", 64, **SWIN),
    row("pit_ti_224", 96, img_size=96, base_dims=(16, 16, 16), depth=(1, 2, 1)),
    row("pvt_v2_b0"),
    row("pvt_v2_b2_li", depths=(1, 1, 1, 1), embed_dims=(32, 64, 160, 192)),
    row("twins_pcpvt_small", depths=(1, 1, 1, 1), embed_dims=(32, 64, 160, 256)),
    row("twins_svt_small", depths=(2, 2, 2, 2), embed_dims=(32, 64, 128, 256)),
    row("tnt_s_patch16_224", img_size=64, embed_dim=96, depth=2),
    row("xcit_nano_12_p8_224"),
    row("hiera_tiny_224", img_size=(64, 64), embed_dim=32, stages=(1, 1, 2, 1)),
    row(
        "hieradet_small", embed_dim=32, stages=(1, 1, 2, 1), window_spec=(8, 4, 4, 2), global_att_blocks=(3,)
    ),
    row("davit_tiny", depths=(1, 1, 1, 1), embed_dims=(32, 64, 96, 128), num_heads=(1, 2, 3, 4)),
)

HYBRIDS = (
    row("coat_tiny", img_size=64, embed_dims=(64, 64, 64, 64), parallel_depth=2),
    row("coat_lite_tiny", img_size=64, embed_dims=(32, 64, 96, 128)),
    row("levit_128s", img_size=64, embed_dim=(64, 96, 128)),
    row("levit_conv_128s", img_size=64, embed_dim=(64, 96, 128)),
    row("mobilevit_xxs"),
    row("mobilevitv2_050"),
    row("edgenext_xx_small"),
    row("efficientformer_l1", 224, embed_dims=(24, 48, 96, 128)),
    row("efficientformerv2_s0", img_size=64),
    row("efficientvit_b0"),
    row("efficientvit_m0"),
    row("efficientvim_m1", embed_dim=(64, 96, 160)),
    row("fastvit_t8"),
    row("fastvit_sa12", embed_dims=(32, 64, 128, 128), layers=(1, 1, 2, 1)),
    row("halonet_h1", 256),
    row("eca_botnext26ts_256", 128, img_size=128),
    row("bat_resnext26ts", 256),
    row("lambda_resnet26t"),
    row("gcresnext26ts"),
    row("iformer_t"),
    row("lowformer_b0", width_list=(16, 32, 48, 64, 96), head_widths=(128, 160)),
    row("cpubone_nano"),
    row("test_coatnet", 160),
    row("test_maxvit", 160),
    row("repvit_m0_9", embed_dim=(24, 48, 96, 192)),
    row("shvit_s1", embed_dim=(64, 112, 160), partial_dim=(16, 24, 34)),
    row("swiftformer_xs"),
    row("tiny_vit_5m_224", embed_dims=(32, 64, 80, 160), num_heads=(1, 2, 5, 10)),
    row("visformer_tiny", img_size=64, depth=(1, 1, 1)),
    row("vit_tiny_r_s16_p8_224", 128, img_size=128, depth=2),
    row("vitamin_small_224", img_size=64, depth=2),
)

MIXERS = (
    row(
        "sequencer2d_s",
        img_size=64,
        layers=(1, 1, 1, 1),
        embed_dims=(48, 96, 96, 96),
        hidden_sizes=(12, 24, 24, 24),
    ),
)
