"""Hand-written image classifiers: one structural idea per net, the smallest form of it."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.corpus.blocks import ChannelNorm, ConvBnAct, Head, Lambda, Residual
from tests.corpus.index import Feed
from tests.corpus.spec import Spec
from tests.corpus.torch_nets import BOTH, Variant, dyn, half, image, net, norms_kept, raw, specs, static, ts


def residual_net() -> nn.Module:
    """A ResNet for 32x32 pictures: three stages, two basic blocks each."""
    layers: list[nn.Module] = [ConvBnAct(3, 16)]
    into = 16
    for out, stride in ((16, 1), (16, 1), (32, 2), (32, 1), (64, 2), (64, 1)):
        body = nn.Sequential(
            ConvBnAct(into, out, stride=stride),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
        )
        changed = stride > 1 or into != out
        shortcut = (
            nn.Sequential(nn.Conv2d(into, out, 1, stride, bias=False), nn.BatchNorm2d(out))
            if changed
            else None
        )
        layers += [Residual(body, shortcut), nn.ReLU()]
        into = out
    return nn.Sequential(*layers, Head(64))


def lenet() -> nn.Module:
    """Flatten between convolutions and linear layers, with max pools and tanh."""
    return nn.Sequential(
        nn.Conv2d(1, 6, 5), nn.Tanh(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
    )  # fmt: skip


class DenseNet(nn.Module):
    """Each layer sees all earlier maps, concatenated."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBnAct(3, 16)
        self.layers = nn.ModuleList(ConvBnAct(16 + 8 * i, 8) for i in range(5))
        self.head = Head(56)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.stem(x)]
        for layer in self.layers:
            maps.append(layer(torch.cat(maps, 1)))
        return self.head(torch.cat(maps, 1))


class Inception(nn.Module):
    """Parallel branches of different kernel sizes, one of them a pool, joined by Concat."""

    def __init__(self, into: int, out: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            [
                ConvBnAct(into, out, 1),
                nn.Sequential(ConvBnAct(into, out // 2, 1), ConvBnAct(out // 2, out)),
                nn.Sequential(ConvBnAct(into, out // 2, 1), ConvBnAct(out // 2, out // 2, 5)),
                nn.Sequential(nn.MaxPool2d(3, 1, 1), ConvBnAct(into, out // 2, 1)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self.branches], 1)


def inception_net() -> nn.Module:
    """Two inception blocks."""
    return nn.Sequential(ConvBnAct(3, 16, stride=2), Inception(16, 16), Inception(48, 24), Head(72))


class ChannelShuffle(nn.Module):
    """Half of the channels pass by; the halves are then interleaved."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        part = channels // 2
        self.body = nn.Sequential(
            ConvBnAct(part, part, 1),
            nn.Conv2d(part, part, 3, padding=1, groups=part, bias=False),
            nn.BatchNorm2d(part),
            ConvBnAct(part, part, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        left, right = x.chunk(2, 1)
        y = torch.cat([left, self.body(right)], 1)
        b, c, h, w = y.shape
        return y.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, c, h, w)


def shuffle_net() -> nn.Module:
    """Three shuffled blocks between plain convolutions."""
    blocks = [ChannelShuffle(32) for _ in range(3)]
    return nn.Sequential(ConvBnAct(3, 32, stride=2), *blocks, ConvBnAct(32, 64, 1), Head(64))


class SqueezeExcite(nn.Module):
    """Channel weights from a pooled map, by 1x1 convolutions and a sigmoid."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            nn.SiLU(),
            nn.Conv2d(hidden, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


def inverted_residual(into: int, out: int, stride: int) -> nn.Module:
    """Expand, depthwise, squeeze-excite, project."""
    wide = 4 * into
    body = nn.Sequential(
        ConvBnAct(into, wide, 1), ConvBnAct(wide, wide, stride=stride, groups=wide), SqueezeExcite(wide, 8),
        nn.Conv2d(wide, out, 1, bias=False), nn.BatchNorm2d(out),
    )  # fmt: skip
    return Residual(body) if stride == 1 and into == out else body


def mobile_net() -> nn.Module:
    """Inverted residuals with squeeze and excitation."""
    plan = ((16, 16, 1), (16, 24, 2), (24, 24, 1), (24, 32, 2), (32, 32, 1))
    return nn.Sequential(ConvBnAct(3, 16, stride=2), *(inverted_residual(*p) for p in plan), Head(32))


class SplitAttention(nn.Module):
    """ResNeSt's radix-2 split attention: a softmax over the radix weighs two groups of channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.conv = ConvBnAct(channels, 2 * channels, groups=2)
        self.down = nn.Conv2d(channels, channels // 2, 1)
        self.up = nn.Conv2d(channels // 2, 2 * channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        b, _, h, w = y.shape
        y = y.reshape(b, 2, self.channels, h, w)
        pooled = y.sum(1).mean((2, 3), keepdim=True)
        weights = self.up(functional.relu(self.down(pooled))).view(b, 2, self.channels, 1, 1).softmax(1)
        return (y * weights).sum(1)


def split_attention_net() -> nn.Module:
    """Residual blocks around split attention."""
    return nn.Sequential(
        ConvBnAct(3, 32, stride=2),
        Residual(SplitAttention(32)),
        ConvBnAct(32, 48),
        Residual(SplitAttention(48)),
        Head(48),
    )


class Res2(nn.Module):
    """Channel slices in a cascade: each slice is convolved together with the result of the last."""

    def __init__(self, channels: int, scale: int = 4) -> None:
        super().__init__()
        self.width = channels // scale
        self.convs = nn.ModuleList(ConvBnAct(self.width, self.width) for _ in range(scale - 1))

    def forward(self, x: Tensor) -> Tensor:
        parts = x.split(self.width, 1)
        results = [parts[0]]
        for conv, part in zip(self.convs, parts[1:], strict=True):
            results.append(conv(part + results[-1]))
        return torch.cat(results, 1)


def res2_net() -> nn.Module:
    """Residual blocks around the cascade."""
    return nn.Sequential(
        ConvBnAct(3, 32), Residual(Res2(32)), ConvBnAct(32, 64, stride=2), Residual(Res2(64)), Head(64)
    )


class Selective(nn.Module):
    """Two kernel sizes, weighed per channel by a softmax over stacked branches."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.small, self.large = ConvBnAct(channels, channels), ConvBnAct(channels, channels, 5, groups=4)
        self.down = nn.Linear(channels, 16)
        self.ups = nn.ModuleList(nn.Linear(16, channels) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        stacked = torch.stack([self.small(x), self.large(x)], 1)
        hidden = functional.relu(self.down(stacked.sum(1).mean((2, 3))))
        weights = torch.stack([up(hidden) for up in self.ups], 1).softmax(1)
        return (stacked * weights[..., None, None]).sum(1)


def selective_net() -> nn.Module:
    """Two selective kernel blocks."""
    return nn.Sequential(
        ConvBnAct(3, 32, stride=2), Selective(32), ConvBnAct(32, 64, stride=2), Selective(64), Head(64)
    )


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, channels-last layer norm and linear layers between two Transposes, layer scale."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels)
        self.up, self.down = nn.Linear(channels, 4 * channels), nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(self.depthwise(x).permute(0, 2, 3, 1))
        return x + (self.scale * self.down(functional.gelu(self.up(y)))).permute(0, 3, 1, 2)


def convnext() -> nn.Module:
    """Patch stem, two stages, norm over channels written out."""
    return nn.Sequential(
        nn.Conv2d(3, 24, 4, 4), ChannelNorm(24), ConvNeXtBlock(24), ChannelNorm(24), nn.Conv2d(24, 48, 2, 2),
        ConvNeXtBlock(48), Head(48),
    )  # fmt: skip


class RepBlock(nn.Module):
    """Three parallel linear branches that a later step may fuse: 3x3, 1x1 and identity, each with a norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        )
        self.narrow = nn.Sequential(nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels))
        self.identity = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.wide(x) + self.narrow(x) + self.identity(x))


def rep_net() -> nn.Module:
    """RepVGG before its fusion."""
    return nn.Sequential(
        ConvBnAct(3, 24, stride=2), RepBlock(24), ConvBnAct(24, 48, stride=2), RepBlock(48), Head(48)
    )


class Cbam(nn.Module):
    """Channel attention from average and maximum pools with one shared MLP, then spatial attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Conv2d(channels, 8, 1), nn.ReLU(), nn.Conv2d(8, channels, 1))
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        pooled = self.mlp(x.mean((2, 3), keepdim=True)) + self.mlp(x.amax((2, 3), keepdim=True))
        x = x * pooled.sigmoid()
        planes = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        return x * self.spatial(planes).sigmoid()


def cbam_net() -> nn.Module:
    """Residual blocks with both attentions."""
    body = [nn.Sequential(ConvBnAct(32, 32), Cbam(32)) for _ in range(2)]
    return nn.Sequential(ConvBnAct(3, 32, stride=2), Residual(body[0]), Residual(body[1]), Head(32))


class EfficientChannel(nn.Module):
    """Channel attention by a 1-D convolution that runs across neighbouring channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.conv(x.mean((2, 3)).unsqueeze(1)).squeeze(1).sigmoid()
        return x * weights[:, :, None, None]


def eca_net() -> nn.Module:
    """Channels tied to their neighbours: a true obstacle for removal."""
    return nn.Sequential(
        ConvBnAct(3, 32, stride=2), ConvBnAct(32, 32), EfficientChannel(), ConvBnAct(32, 48), Head(48)
    )


def ghost(into: int, out: int) -> nn.Module:
    """Half of the maps by a convolution, the other half from them by a cheap depthwise one."""

    class Ghost(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.primary = ConvBnAct(into, out // 2, 1)
            self.cheap = ConvBnAct(out // 2, out // 2, 3, groups=out // 2)

        def forward(self, x: Tensor) -> Tensor:
            y = self.primary(x)
            return torch.cat([y, self.cheap(y)], 1)

    return Ghost()


def ghost_net() -> nn.Module:
    """Three ghost modules in a row."""
    return nn.Sequential(ghost(3, 32), ghost(32, 64), nn.MaxPool2d(2), ghost(64, 64), Head(64))


def mixed_norms() -> nn.Module:
    """Group norm, instance norm with and without gains, local response norm and PReLU in one chain."""
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1), nn.GroupNorm(4, 24), nn.PReLU(24),
        nn.Conv2d(24, 32, 3, 2, 1), nn.InstanceNorm2d(32, affine=True), nn.LeakyReLU(0.1),
        nn.Conv2d(32, 32, 3, padding=1), nn.InstanceNorm2d(32), nn.ELU(),
        nn.Conv2d(32, 48, 3, 2, 1), nn.LocalResponseNorm(5), nn.Hardswish(),
        nn.Conv2d(48, 48, 3, padding=1), nn.Softplus(), nn.Conv2d(48, 32, 1), nn.Mish(), Head(32),
    )  # fmt: skip


def grouped_net() -> nn.Module:
    """Grouped convolutions with different group counts in a row."""
    return nn.Sequential(
        ConvBnAct(3, 24), ConvBnAct(24, 48, groups=2), ConvBnAct(48, 48, 3, 2, groups=8),
        ConvBnAct(48, 96, 1, groups=4),
        Residual(ConvBnAct(96, 96, groups=96)), Head(96),
    )  # fmt: skip


def all_convolution() -> nn.Module:
    """No linear layer: the classes are channels, averaged at the end; padding modes and dilation vary."""
    return nn.Sequential(
        nn.Conv2d(3, 24, 3, padding=1, padding_mode="reflect"), nn.ReLU6(),
        nn.Conv2d(24, 32, 3, 2, dilation=2), nn.GELU(),
        nn.Conv2d(32, 48, (1, 5)), nn.Sigmoid(), nn.Conv2d(48, 48, (5, 1)), nn.ReLU(), nn.Conv2d(48, 10, 1),
        Lambda(lambda x: x.mean((2, 3)).log_softmax(1)),
    )  # fmt: skip


def specs_of_source() -> list[Spec]:
    """Classifiers, in both exporters, some of them in old or unusual forms."""
    rgb, grey = image(), image(32, 1)
    many = (ts(13), dyn(18), ts(9, "op9"), norms_kept(ts(13)), static(ts(16)), half(ts(17)), raw())
    kept = (ts(14), dyn(), norms_kept(ts(14)))
    table: tuple[tuple[str, Callable[[], nn.Module], tuple[Feed, ...], tuple[Variant, ...], bool], ...] = (
        ("plain_resnet", residual_net, rgb, many, True),
        ("lenet", lenet, grey, (ts(11), dyn(21), ts(9, "op9")), True),
        ("plain_densenet", DenseNet, rgb, BOTH, True),
        ("plain_inception", inception_net, rgb, BOTH, True),
        ("plain_shufflenet", shuffle_net, rgb, (ts(15), dyn(), norms_kept(ts(11)), raw()), True),
        ("plain_mobilenet", mobile_net, rgb, BOTH, True),
        ("split_attention", split_attention_net, rgb, BOTH, True),
        ("res2", res2_net, rgb, BOTH, False),
        ("selective_kernel", selective_net, rgb, BOTH, False),
        ("plain_convnext", convnext, rgb, (ts(17), dyn(20), ts(11, "op11"), half(dyn())), True),
        ("plain_repvgg", rep_net, rgb, kept, False),
        ("cbam", cbam_net, rgb, BOTH, False),
        ("eca", eca_net, rgb, BOTH, False),
        ("ghost", ghost_net, rgb, BOTH, False),
        ("mixed_norms", mixed_norms, rgb, (ts(17), dyn(21), ts(10, "op10")), True),
        ("grouped", grouped_net, rgb, BOTH, False),
        ("all_convolution", all_convolution, rgb, BOTH, False),
    )
    found: list[Spec] = []
    for name, make, feeds, variants, core in table:
        found += specs(name, "cnn", "plain", partial(net, make, feeds), variants, core)
    return found
