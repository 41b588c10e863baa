"""Classifiers, segmenters, detectors' feature pyramids and video nets of torchvision.

Topologies are the true ones; heads have ten classes, and the widest nets are narrowed where the library
allows it. Needs torchvision; its compiled operators are not used.
"""

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn

from tests.corpus.index import Feed
from tests.corpus.spec import Family, Spec
from tests.corpus.stubs import import_torchvision
from tests.corpus.torch_nets import (
    BOTH,
    KEPT,
    Net,
    Variant,
    dyn,
    half,
    image,
    norms_kept,
    raw,
    specs,
    static,
    ts,
)

torchvision = import_torchvision()
models = torchvision.models

OLD_AND_NEW = (ts(11), dyn(18))
# Name, picture size, variants, whether in the core set; all others as the library builds them.
CLASSIFIERS: tuple[tuple[str, int, tuple[Variant, ...], bool], ...] = (
    ("resnet18", 32, (ts(13), dyn(18)), True),
    ("densenet121", 32, (ts(14), dyn(18), norms_kept(ts(9))), True),
    ("efficientnet_b0", 32, (ts(17), dyn(21)), True),
    ("googlenet", 32, OLD_AND_NEW, True),
    ("mnasnet0_5", 32, KEPT, False),
    ("mnasnet1_0", 32, (static(ts(12)),), False),
    ("mobilenet_v2", 32, (ts(10), dyn(18), half(ts(13)), raw(), norms_kept(ts(9))), True),
    ("mobilenet_v3_small", 32, (*KEPT, half(dyn(18))), True),
    ("mobilenet_v3_large", 32, BOTH, False),
    ("regnet_x_400mf", 32, BOTH, False),
    ("regnet_y_400mf", 32, KEPT, True),
    ("shufflenet_v2_x0_5", 32, (ts(13), dyn(18), raw()), True),
    ("shufflenet_v2_x1_0", 64, (static(dyn(18)), ts(9)), False),
    ("squeezenet1_0", 64, (ts(9), dyn(18)), True),
    ("squeezenet1_1", 64, BOTH, False),
)


class Outputs(nn.Module):
    """A model that returns a dictionary, as one that returns the values, in order."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.model(x).values())


def classifier(name: str, size: int) -> Net:
    """A network of the registry with ten classes and no auxiliary heads."""
    no_aux = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    return Net(models.get_model(name, weights=None, num_classes=10, **no_aux), image(size))


def bottleneck_net(width: int, groups: int = 1) -> Net:
    """ResNet-50's graph: `width` is that of the inner convolutions (64 is the original)."""
    block = models.resnet.Bottleneck
    net = models.resnet.ResNet(block, [3, 4, 6, 3], num_classes=10, width_per_group=width, groups=groups)
    return Net(net, image(64))


def vgg(plan: list[int | str], norm: bool) -> Net:
    """VGG with fewer channels and a classifier to match; the flatten over 2x2 positions stays."""
    net = models.vgg.VGG(models.vgg.make_layers(plan, batch_norm=norm), num_classes=10)
    last = [step for step in plan if isinstance(step, int)][-1]
    net.avgpool = nn.AdaptiveAvgPool2d(2)
    net.classifier[0] = nn.Linear(4 * last, 256)
    net.classifier[3] = nn.Linear(256, 256)
    net.classifier[6] = nn.Linear(256, 10)
    return Net(net, image(64))


def alexnet() -> Net:
    """AlexNet with narrower linear layers; at 128 pixels its last map is 3x3."""
    net = models.alexnet(weights=None, num_classes=10)
    net.avgpool = nn.AdaptiveAvgPool2d(3)
    net.classifier[1] = nn.Linear(256 * 9, 256)
    net.classifier[4] = nn.Linear(256, 256)
    net.classifier[6] = nn.Linear(256, 10)
    return Net(net, image(128))


def inception_v3() -> Net:
    """Without the auxiliary head; half precision keeps the file small."""
    return Net(
        models.inception_v3(weights=None, num_classes=10, aux_logits=False, init_weights=False), image(96)
    )


def convnext() -> Net:
    """Four stages as in the tiny net, at half its width and with two blocks each."""
    setting = models.convnext.CNBlockConfig
    plan = [setting(48, 96, 2), setting(96, 192, 2), setting(192, 384, 2), setting(384, None, 2)]
    return Net(models.ConvNeXt(plan, num_classes=10), image(64))


def swin(second: bool) -> Net:
    """Shifted windows of 4 on a 64-pixel picture, three stages with patch merging."""
    from_library = models.swin_transformer
    extra = {"block": from_library.SwinTransformerBlockV2, "downsample_layer": from_library.PatchMergingV2}
    net = from_library.SwinTransformer(
        [2, 2], 48, [2, 2, 2], [2, 4, 8], [4, 4], num_classes=10, **(extra if second else {})
    )
    return Net(net, image(64))


def vit() -> Net:
    """Three encoder layers, class token."""
    return Net(models.VisionTransformer(32, 8, 3, 4, 96, 192, num_classes=10), image(32))


def maxvit() -> Net:
    """Block and grid attention after inverted residuals, two stages."""
    net = models.MaxVit(
        (64, 64), 32, 4, [32, 64], [1, 2], head_dim=16, stochastic_depth_prob=0.0, num_classes=10
    )
    return Net(net, image(64))


def efficientnet_v2() -> Net:
    """Fused and plain inverted residuals in one net, at a quarter of the small net's depth."""
    fused, plain = models.efficientnet.FusedMBConvConfig, models.efficientnet.MBConvConfig
    plan = [fused(1, 3, 1, 24, 24, 1), fused(4, 3, 2, 24, 48, 2)]
    plan += [plain(4, 3, 2, 48, 64, 2), plain(6, 3, 1, 64, 80, 2)]
    return Net(models.EfficientNet(plan, 0.2, num_classes=10, last_channel=256), image(48))


def segmenter(name: str, size: int = 64) -> Net:
    """A segmentation net of the registry with six classes and no pretrained backbone."""
    net = models.get_model(name, weights=None, weights_backbone=None, num_classes=6)
    return Net(Outputs(net), image(size))


def small_resnet_segmenter(head: str) -> Net:
    """DeepLabV3 (dilated pyramid) or FCN on a residual backbone with quarter-width inner convolutions."""
    backbone = models.resnet.ResNet(
        models.resnet.Bottleneck,
        [1, 1, 1, 1],
        width_per_group=16,
        replace_stride_with_dilation=[False, True, True],
    )
    features = models._utils.IntermediateLayerGetter(backbone, {"layer3": "out"})
    library = models.segmentation
    if head == "fcn":
        return Net(Outputs(library.FCN(features, library.fcn.FCNHead(1024, 6))), image(64))
    pyramid = library.deeplabv3.ASPP(1024, (2, 4, 6), 64)  # the library's head is 256 wide
    tail = [nn.Conv2d(64, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 6, 1)]
    return Net(Outputs(library.DeepLabV3(features, nn.Sequential(pyramid, *tail))), image(64))


class Detector(nn.Module):
    """Backbone, feature pyramid and the dense heads of a one-stage detector, without box decoding."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        backbone = models.resnet.ResNet(models.resnet.BasicBlock, [1, 1, 1, 1], norm_layer=nn.BatchNorm2d)
        features = models.detection.backbone_utils.BackboneWithFPN(
            backbone, {"layer2": "0", "layer3": "1", "layer4": "2"}, [128, 256, 512], 64
        )
        self.features = features
        if kind == "retinanet":
            self.head = models.detection.retinanet.RetinaNetHead(64, 3, 4, partial(nn.GroupNorm, 8))
        else:
            self.head = models.detection.fcos.FCOSHead(64, 1, 4, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.head(list(self.features(x).values())).values())


def ssd() -> Net:
    """SSDLite's backbone and heads: predictions at several scales, permuted and concatenated."""
    net = models.detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=4)

    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone, self.head = net.backbone, net.head

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            return tuple(self.head(list(self.backbone(x).values())).values())

    return Net(Dense(), image(96))


def video(block: str, convolution: str) -> Net:
    """An 18-layer residual net over clips, narrowed to one block per stage."""
    library = models.video.resnet
    plain, pointwise = library.Conv3DSimple, library.Conv2Plus1D
    makers = {
        "r3d": [plain] * 4, "r2plus1d": [pointwise] * 4,
        "mc3": [plain, library.Conv3DNoTemporal, plain, plain],
    }  # fmt: skip
    stem = library.R2Plus1dStem if convolution == "r2plus1d" else library.BasicStem
    net = library.VideoResNet(
        getattr(library, block), makers[convolution], [1, 1, 1, 1], stem, num_classes=10
    )
    net.layer4 = nn.Sequential()
    net.fc = nn.Linear(256, 10)
    return Net(net, (Feed("clip", (None, 3, 4, 32, 32)),))


def raft() -> Net:
    """Optical flow: correlation volume, grid sampling, a convolutional GRU unrolled twice."""
    net = models.optical_flow.raft_small(weights=None)

    class Flow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, first: Tensor, second: Tensor) -> Tensor:
            flow = self.net(first, second, num_flow_updates=2)[-1]
            assert isinstance(flow, Tensor)
            return flow

    return Net(Flow(), (Feed("first", (None, 3, 128, 128)), Feed("second", (None, 3, 128, 128))))


def mvit() -> Net:
    """Multiscale vision transformer: pooled queries and keys, relative positions over time and space."""
    setting = models.video.mvit.MSBlockConfig
    plan = [
        setting(1, 32, 64, [3, 3, 3], [1, 2, 2], [1, 1, 1], [1, 4, 4]),
        setting(2, 64, 64, [3, 3, 3], [3, 3, 3], [1, 2, 2], [1, 2, 2]),
        setting(2, 64, 64, [3, 3, 3], [3, 3, 3], [1, 1, 1], [1, 2, 2]),
    ]
    net = models.video.MViT(
        (32, 32), 4, plan, residual_pool=True, residual_with_cls_embed=False, rel_pos_embed=True,
        proj_after_attn=True, num_classes=10,
    )  # fmt: skip
    return Net(net, (Feed("clip", (None, 3, 4, 32, 32)),))


HALVED: list[int | str] = [
    32,
    32,
    "M",
    64,
    64,
    "M",
    128,
    128,
    128,
    "M",
    256,
    256,
    256,
    "M",
    256,
    256,
    256,
    "M",
]
SMALL: list[int | str] = [32, "M", 64, "M", 128, 128, "M", 256, 256, "M", 256, 256, "M"]
DEEP: list[int | str] = [
    16, 16, "M", 32, 32, "M", 64, 64, 64, 64, "M", 128, 128, 128, 128, "M", 128, 128, 128, 128, "M",
]  # fmt: skip


def specs_of_source() -> list[Spec]:
    """Everything above."""
    found: list[Spec] = []
    for name, size, variants, core in CLASSIFIERS:
        found += specs(name, "cnn", "torchvision", partial(classifier, name, size), variants, core)
    others: tuple[tuple[str, Family, Callable[[], Net], tuple[Variant, ...], bool], ...] = (
        ("resnet50_narrow", "cnn", partial(bottleneck_net, 16), KEPT, True),
        ("resnet50", "cnn", partial(bottleneck_net, 64), (half(ts(13)),), False),
        ("resnext50_narrow", "cnn", partial(bottleneck_net, 1, 32), OLD_AND_NEW, False),
        ("alexnet", "cnn", alexnet, (ts(9), dyn(18)), True),
        ("vgg11", "cnn", partial(vgg, SMALL, False), (ts(12), dyn(18)), True),
        ("vgg16_bn", "cnn", partial(vgg, HALVED, True), KEPT, False),
        ("vgg19", "cnn", partial(vgg, DEEP, False), (ts(9), static(dyn(18))), False),
        ("inception_v3", "cnn", inception_v3, (half(ts(13)),), False),
        ("convnext_half", "cnn", convnext, BOTH, True),
        ("efficientnet_v2", "cnn", efficientnet_v2, KEPT, False),
        ("swin_v1_tv", "transformer", partial(swin, False), BOTH, True),
        ("swin_v2_tv", "transformer", partial(swin, True), BOTH, False),
        ("vit_tv", "transformer", vit, (ts(14), dyn(18), static(ts(14))), True),
        ("maxvit_tv", "hybrid", maxvit, BOTH, False),
        ("lraspp", "segmentation", partial(segmenter, "lraspp_mobilenet_v3_large"), OLD_AND_NEW, False),
        ("deeplabv3", "segmentation", partial(small_resnet_segmenter, "deeplab"), OLD_AND_NEW, True),
        ("fcn", "segmentation", partial(small_resnet_segmenter, "fcn"), BOTH, False),
        ("retinanet", "detection", lambda: Net(Detector("retinanet"), image(64)), BOTH, True),
        ("fcos", "detection", lambda: Net(Detector("fcos"), image(64)), BOTH, False),
        ("ssdlite", "detection", ssd, BOTH, False),
        ("r3d", "cnn", partial(video, "BasicBlock", "r3d"), BOTH, False),
        ("mc3", "cnn", partial(video, "BasicBlock", "mc3"), BOTH, False),
        ("r2plus1d", "cnn", partial(video, "BasicBlock", "r2plus1d"), KEPT, False),
        ("raft", "other", raft, (ts(16), dyn(18)), False),
        ("mvit_video", "transformer", mvit, BOTH, False),
    )
    for name, family, make, variants, core in others:
        found += specs(name, family, "torchvision", make, variants, core)
    return found
