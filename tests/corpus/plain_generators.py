"""Hand-written generators, nets over sound and volumes, and nets that compare two pictures."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.corpus.blocks import Attention, ConvBnAct, Head, Lambda, Residual
from tests.corpus.index import Feed
from tests.corpus.spec import Family, Spec
from tests.corpus.torch_nets import BOTH, KEPT, Variant, dyn, image, net, raw, specs, static, ts


def dcgan() -> nn.Module:
    """A generator of transposed convolutions from a noise vector."""
    layers: list[nn.Module] = [Lambda(lambda z: z[:, :, None, None])]
    for into, out, kernel, stride, padding in ((32, 48, 4, 1, 0), (48, 32, 4, 2, 1), (32, 16, 4, 2, 1)):
        layers += [
            nn.ConvTranspose2d(into, out, kernel, stride, padding, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.ConvTranspose2d(16, 3, 4, 2, 1), nn.Tanh())


def cycle_gan() -> nn.Module:
    """Image translation: reflection pads, instance norms without gains, residual blocks, transposed up."""

    def block() -> nn.Module:
        body = [nn.ReflectionPad2d(1), nn.Conv2d(32, 32, 3), nn.InstanceNorm2d(32)]
        return Residual(
            nn.Sequential(
                *body, nn.ReLU(), *(nn.ReflectionPad2d(1), nn.Conv2d(32, 32, 3), nn.InstanceNorm2d(32))
            )
        )

    return nn.Sequential(
        nn.ReflectionPad2d(3), nn.Conv2d(3, 16, 7), nn.InstanceNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), block(), block(),
        nn.ConvTranspose2d(32, 16, 3, 2, 1, output_padding=1), nn.InstanceNorm2d(16), nn.ReLU(),
        nn.ReflectionPad2d(3), nn.Conv2d(16, 3, 7), nn.Tanh(),
    )  # fmt: skip


class StyleGan(nn.Module):
    """A mapping net whose output scales and shifts normalised maps (adaptive instance norm)."""

    def __init__(self) -> None:
        super().__init__()
        self.mapping = nn.Sequential(
            nn.Linear(24, 32), nn.LeakyReLU(0.2), nn.Linear(32, 32), nn.LeakyReLU(0.2)
        )
        self.start = nn.Parameter(torch.randn(1, 32, 4, 4))
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(32, 32, 3, padding=1),
                nn.Conv2d(32, 24, 3, padding=1),
                nn.Conv2d(24, 16, 3, padding=1),
            ]
        )
        self.styles = nn.ModuleList(nn.Linear(32, 2 * c) for c in (32, 24, 16))
        self.out = nn.Conv2d(16, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        w = self.mapping(z)
        x = self.start.expand(z.shape[0], -1, -1, -1)
        for conv, style in zip(self.convs, self.styles, strict=True):
            x = conv(functional.interpolate(x, scale_factor=2.0, mode="nearest"))
            scale, shift = style(w)[:, :, None, None].chunk(2, 1)
            x = functional.leaky_relu(functional.instance_norm(x) * (1 + scale) + shift, 0.2)
        return torch.tanh(self.out(x))


class Vae(nn.Module):
    """Encoder, mean and variance heads, decoder; the noise is an input."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(ConvBnAct(1, 16, stride=2), ConvBnAct(16, 32, stride=2), nn.Flatten())
        self.mean, self.log_variance = nn.Linear(32 * 49, 12), nn.Linear(32 * 49, 12)
        self.expand = nn.Linear(12, 32 * 49)
        self.decode = nn.Sequential(
            nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU(), nn.ConvTranspose2d(16, 1, 4, 2, 1), nn.Sigmoid()
        )

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.encode(x)
        mean, log_variance = self.mean(y), self.log_variance(y).clamp(-5, 5)
        z = mean + noise * torch.exp(0.5 * log_variance)
        return self.decode(self.expand(z).view(-1, 32, 7, 7)), mean, log_variance


class Diffusion(nn.Module):
    """A denoiser: time embedding added in every block, group norms, attention over the flattened map, concat skips."""

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 32))
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.norms = nn.ModuleList(nn.GroupNorm(4, c) for c in (16, 32, 32, 48))
        self.convs = nn.ModuleList(
            nn.Conv2d(a, b, 3, s, 1) for a, b, s in ((16, 32, 2), (32, 32, 2), (32, 32, 1), (48, 16, 1))
        )
        self.shifts = nn.ModuleList(nn.Linear(32, c) for c in (32, 32, 32, 16))
        self.attention = Attention(32, 4)
        self.out = nn.Conv2d(16, 3, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        angles = time[:, None] * torch.exp(torch.arange(8) * -0.5)
        t = self.time(torch.cat([angles.sin(), angles.cos()], 1))
        first = self.first(x)
        a = self._block(0, first, t)
        b = self._block(1, a, t)
        n, c, h, w = b.shape
        b = b + self.attention(b.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(n, c, h, w)
        b = self._block(2, b, t)
        up = functional.interpolate(b, scale_factor=4.0, mode="nearest")
        return self.out(self._block(3, torch.cat([up, first], 1), t))

    def _block(self, i: int, x: Tensor, t: Tensor) -> Tensor:
        return self.convs[i](functional.silu(self.norms[i](x))) + self.shifts[i](t)[:, :, None, None]


def wave_net() -> nn.Module:
    """Dilated causal 1-D convolutions with tanh and sigmoid gates, skips summed."""

    class Wave(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv1d(1, 16, 1)
            self.gated = nn.ModuleList(nn.Conv1d(16, 32, 2, dilation=2**i) for i in range(4))
            self.mixed = nn.ModuleList(nn.Conv1d(16, 40, 1) for _ in range(4))
            self.out = nn.Sequential(nn.ReLU(), nn.Conv1d(24, 24, 1), nn.ReLU(), nn.Conv1d(24, 8, 1))

        def forward(self, x: Tensor) -> Tensor:
            x, total = self.first(x), torch.zeros(())
            for i, (gated, mixed) in enumerate(zip(self.gated, self.mixed, strict=True)):
                a, b = gated(functional.pad(x, (2**i, 0))).chunk(2, 1)
                residual, skip = mixed(a.tanh() * b.sigmoid()).split([16, 24], 1)
                x, total = x + residual, total + skip
            return self.out(total)

    return Wave()


def separator() -> nn.Module:
    """Sound separation: learned filter bank, depthwise 1-D blocks with global norms, masks, transposed decoder."""

    class Separator(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encode = nn.Conv1d(1, 32, 16, 8, bias=False)
            self.blocks = nn.Sequential(*(Residual(self.block(d)) for d in (1, 2, 4)))
            self.mask = nn.Conv1d(32, 64, 1)
            self.decode = nn.ConvTranspose1d(32, 1, 16, 8, bias=False)

        @staticmethod
        def block(dilation: int) -> nn.Module:
            spread = nn.Conv1d(48, 48, 3, padding=dilation, dilation=dilation, groups=48)
            return nn.Sequential(
                nn.Conv1d(32, 48, 1), nn.PReLU(), nn.GroupNorm(1, 48), spread, nn.Conv1d(48, 32, 1)
            )

        def forward(self, x: Tensor) -> Tensor:
            y = torch.relu(self.encode(x))
            masks = torch.sigmoid(self.mask(self.blocks(y))).view(x.shape[0], 2, 32, y.shape[-1])
            parts = (masks * y[:, None]).reshape(-1, 32, y.shape[-1])
            return self.decode(parts).view(x.shape[0], 2, -1)

    return Separator()


def keyword_spotter() -> nn.Module:
    """Spectrogram classifier: asymmetric strides, depthwise separable blocks."""
    separable = [nn.Sequential(ConvBnAct(24, 24, groups=24), ConvBnAct(24, 24, 1)) for _ in range(3)]
    return nn.Sequential(
        nn.Conv2d(1, 24, (10, 4), (2, 2), (5, 1)),
        nn.BatchNorm2d(24),
        nn.ReLU(),
        *separable,
        nn.AvgPool2d((5, 2)),
        Head(24),
    )


def volume_unet() -> nn.Module:
    """A 3-D U-Net of two levels with instance norms."""

    class Volume(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Sequential(
                nn.Conv3d(1, 8, 3, padding=1), nn.InstanceNorm3d(8, affine=True), nn.LeakyReLU()
            )
            self.deep = nn.Sequential(
                nn.Conv3d(8, 16, 3, 2, 1), nn.BatchNorm3d(16), nn.ReLU(), nn.Conv3d(16, 16, 3, padding=1)
            )
            self.up = nn.ConvTranspose3d(16, 8, 2, 2)
            self.out = nn.Conv3d(16, 3, 1)

        def forward(self, x: Tensor) -> Tensor:
            skip = self.down(x)
            return self.out(torch.cat([skip, self.up(self.deep(skip))], 1)).softmax(1)

    return Volume()


class Siamese(nn.Module):
    """One tower applied twice (shared weights), joined by the difference."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(ConvBnAct(1, 16, stride=2), ConvBnAct(16, 32, stride=2), Head(32, 24))
        self.judge = nn.Sequential(nn.Linear(24, 16), nn.ReLU(), nn.Linear(16, 1))

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.judge((self.tower(first) - self.tower(second)).abs())


class DepthTwins(nn.Module):
    """Stereo matching: a shared tower, a cost volume by shifted products, and a soft arg-min over disparities."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = nn.Sequential(ConvBnAct(3, 16, stride=2), nn.Conv2d(16, 24, 3, padding=1))
        self.refine = nn.Sequential(nn.Conv2d(6, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 6, 3, padding=1))

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        a, b = self.tower(left), self.tower(right)
        costs = [(a * functional.pad(b, (d, 0))[..., : a.shape[-1]]).mean(1) for d in range(6)]
        weights = self.refine(torch.stack(costs, 1)).softmax(1)
        return (weights * torch.arange(6, dtype=weights.dtype)[None, :, None, None]).sum(1)


def specs_of_source() -> list[Spec]:
    """Generators, sound, volumes and nets with two pictures, in both exporters."""
    noise, wave = (Feed("z", (None, 32)),), (Feed("wave", (None, 1, 256)),)
    grey = Feed("first", (None, 1, 28, 28))
    digit = (replace(grey, name="input"), Feed("noise", (None, 12)))
    timed = (*image(), Feed("time", (None,)))
    pair = (grey, replace(grey, name="second"))
    views = (Feed("left", (None, 3, 32, 48)), Feed("right", (None, 3, 32, 48)))
    sound, volume = (Feed("input", (None, 1, 49, 10)),), (Feed("input", (None, 1, 8, 16, 16)),)
    table: tuple[
        tuple[str, Family, Callable[[], nn.Module], tuple[Feed, ...], tuple[Variant, ...], bool], ...
    ] = (
        ("dcgan", "gan", dcgan, noise, (*KEPT, ts(9, "op9")), True),
        ("cycle_gan", "gan", cycle_gan, image(), (ts(11), dyn(18)), True),
        ("style_gan", "gan", StyleGan, (Feed("z", (None, 24)),), BOTH, False),
        ("vae", "gan", Vae, digit, KEPT, False),
        ("diffusion_unet", "hybrid", Diffusion, timed, (ts(17), dyn(18), raw()), True),
        ("wave_net", "audio", wave_net, wave, BOTH, True),
        ("separator", "audio", separator, wave, BOTH, False),
        ("keyword_spotter", "audio", keyword_spotter, sound, (*KEPT, static(ts(9))), False),
        ("volume_unet", "segmentation", volume_unet, volume, (ts(13), dyn(20)), True),
        ("siamese", "cnn", Siamese, pair, KEPT, True),
        ("stereo", "other", DepthTwins, views, BOTH, False),
    )
    found: list[Spec] = []
    for name, family, make, feeds, variants, core in table:
        found += specs(name, family, "plain", partial(net, make, feeds), variants, core)
    return found
