"""Image models of timm, true in topology and thin: few blocks per stage, narrow stages, small pictures.

A row gives the library's name, the picture size and the arguments that shrink the net. Needs timm.
"""

import importlib
import zlib
from collections.abc import Callable
from functools import partial

from tests.corpus.spec import Family, Spec
from tests.corpus.stubs import import_torchvision
from tests.corpus.timm_custom import CUSTOM
from tests.corpus.timm_rows import CNNS, HYBRIDS, MIXERS, TRANSFORMERS, Row
from tests.corpus.torch_nets import Net, Variant, dyn, half, image, net, norms_kept, raw, specs, static, ts

import_torchvision()  # timm imports it and would fail where its compiled part is missing
timm = importlib.import_module("timm")

# Drawn by the row's name, so that opsets and forms spread evenly over the families.
VARIANTS: tuple[tuple[Variant, ...], ...] = (
    (ts(14), dyn(18)),
    (ts(17), dyn(21)),
    (ts(15), dyn(18)),
    (ts(16), static(dyn(18))),
    (ts(14), dyn(20)),
    (static(ts(15)), dyn(18)),
)
# A third file for some, in the forms that are met less often; old operator sets lack what attention needs.
EXTRA: tuple[tuple[Variant, ...], ...] = ((), (raw(),), (), (half(ts(17)),))
EXTRA_CNN: tuple[tuple[Variant, ...], ...] = ((norms_kept(ts(13)),), (), (norms_kept(ts(11)),), ())
EXTRA_ATTENTION: tuple[tuple[Variant, ...], ...] = ((dyn(23, "op23"),), (), (), ())
# No argument narrows these. Above four million parameters both exporters and no third file; above seven one file.
HEAVY = (
    "dpn48b", "ghostnetv2_100", "tf_efficientnetv2_b0", "hardcorenas_a", "regnetz_005", "mobileone_s0", "gernet_s",
    "hgnetv2_b0", "cpubone_nano", "vitamin_small_224",
)  # fmt: skip
HEAVIEST = (
    "resnest50d_4s2x40d", "legacy_seresnext26_32x4d", "hrnet_w18_small", "mobilenetv4_hybrid_medium", "nf_regnet_b0",
    "repvgg_a0", "halonet_h1", "eca_botnext26ts_256", "lambda_resnet26t", "gcresnext26ts", "bat_resnext26ts",
)  # fmt: skip
CORE = ("test_resnet", "test_vit", "edgenext_xx_small", "levit_128s", "gmlp", "vovnet")


def build(row: Row) -> Net:
    """Create the row's network without weights from elsewhere; dropout paths are inert in eval mode."""
    # Attention is written out in two nets of three, one operator in the others: both reach files.
    timm.layers.set_fused_attn(zlib.crc32(row.name.encode()) % 3 == 0)
    model = timm.create_model(row.name, pretrained=False, num_classes=10, **row.settings)
    return Net(model, image(row.size))


def specs_of_source() -> list[Spec]:
    """All rows in both exporters, some in a third form."""
    tables: tuple[tuple[Family, tuple[Row, ...]], ...] = (
        ("cnn", CNNS),
        ("transformer", TRANSFORMERS),
        ("hybrid", HYBRIDS),
        ("mlp", MIXERS),
    )
    nets: list[tuple[str, Family, Callable[[], Net]]] = [
        (row.name, family, partial(build, row)) for family, rows in tables for row in rows
    ]
    nets += [(name, family, partial(net, make, image(64))) for name, family, make in CUSTOM]
    found: list[Spec] = []
    for name, family, make in nets:
        # By the name, not by the place: a new row must not change the files of the others.
        i = zlib.crc32(name.encode())
        rare = EXTRA_CNN if family == "cnn" else EXTRA_ATTENTION
        variants = VARIANTS[i % len(VARIANTS)]
        if name in HEAVIEST:
            variants = variants[i % 2 :][:1]
        elif name not in HEAVY:
            variants += EXTRA[i // 8 % len(EXTRA)] + rare[i // 64 % len(rare)]
        found += specs(f"timm_{name}", family, "timm", make, variants, name in CORE)
    return found
