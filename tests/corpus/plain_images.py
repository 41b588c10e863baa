"""Hand-written nets with dense outputs: segmentation, detection, super-resolution."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.corpus.blocks import ConvBnAct, Residual
from tests.corpus.index import Feed
from tests.corpus.spec import Family, Spec
from tests.corpus.torch_nets import BOTH, KEPT, Variant, dyn, half, image, net, raw, specs, static, ts


def double(into: int, out: int) -> nn.Module:
    """Two convolutions of a U-Net level."""
    return nn.Sequential(ConvBnAct(into, out), ConvBnAct(out, out))


class UNet(nn.Module):
    """Contracting and expanding paths joined by Concat; up by transposed convolution or by resizing."""

    def __init__(self, bilinear: bool, attention: bool = False) -> None:
        super().__init__()
        self.bilinear = bilinear
        widths = (16, 24, 32, 48)
        self.downs = nn.ModuleList(double(a, b) for a, b in zip((3, *widths), widths, strict=False))
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(b, a, 2, 2) for a, b in zip(widths, widths[1:], strict=False)
        )
        self.joins = nn.ModuleList(
            double(a + (b if bilinear else a), a) for a, b in zip(widths, widths[1:], strict=False)
        )
        gates = [nn.Conv2d(b if bilinear else a, a, 1) for a, b in zip(widths, widths[1:], strict=False)]
        self.gates = nn.ModuleList(gates) if attention else None
        self.out = nn.Conv2d(16, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for i, down in enumerate(self.downs):
            x = down(x if i == 0 else functional.max_pool2d(x, 2))
            skips.append(x)
        for i in (2, 1, 0):
            if self.bilinear:
                x = functional.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
            else:
                x = self.ups[i](x)
            skip = skips[i]
            if self.gates is not None:
                skip = skip * torch.sigmoid(self.gates[i](x) + skip)
            x = self.joins[i](torch.cat([skip, x], 1))
        return self.out(x)


class HighResolution(nn.Module):
    """Two resolutions in parallel that exchange maps, as HRNet does."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = ConvBnAct(3, 16)
        self.to_low = ConvBnAct(16, 32, stride=2)
        self.high = nn.ModuleList(Residual(ConvBnAct(16, 16)) for _ in range(2))
        self.low = nn.ModuleList(Residual(ConvBnAct(32, 32)) for _ in range(2))
        self.up = nn.ModuleList(nn.Conv2d(32, 16, 1) for _ in range(2))
        self.down = nn.ModuleList(nn.Conv2d(16, 32, 3, 2, 1) for _ in range(2))
        self.out = nn.Conv2d(48, 5, 1)

    def forward(self, x: Tensor) -> Tensor:
        high = self.stem(x)
        low = self.to_low(high)
        for i in range(2):
            a, b = self.high[i](high), self.low[i](low)
            high = torch.relu(a + functional.interpolate(self.up[i](b), scale_factor=2.0, mode="nearest"))
            low = torch.relu(b + self.down[i](a))
        low = functional.interpolate(low, scale_factor=2.0, mode="bilinear", align_corners=True)
        return self.out(torch.cat([high, low], 1))


class Pyramid(nn.Module):
    """A feature pyramid with one shared head on all levels, outputs permuted and concatenated as detectors do."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            [ConvBnAct(3, 16, stride=2), ConvBnAct(16, 32, stride=2), ConvBnAct(32, 48, stride=2)]
        )
        self.lateral = nn.ModuleList(nn.Conv2d(c, 24, 1) for c in (16, 32, 48))
        self.smooth = nn.ModuleList(nn.Conv2d(24, 24, 3, padding=1) for _ in range(3))
        self.shared = nn.Sequential(
            nn.Conv2d(24, 24, 3, padding=1), nn.ReLU(), nn.Conv2d(24, 2 * 7, 3, padding=1)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        top = self.lateral[2](maps[2])
        levels = [top]
        for i in (1, 0):
            top = self.lateral[i](maps[i]) + functional.interpolate(
                top, size=maps[i].shape[-2:], mode="nearest"
            )
            levels.append(top)
        outputs = []
        for smooth, level in zip(self.smooth, levels, strict=True):
            y = self.shared(smooth(level)).permute(0, 2, 3, 1)
            outputs.append(y.reshape(y.shape[0], -1, 7))
        joined = torch.cat(outputs, 1)
        return joined[..., :4].exp().clamp(max=50.0), joined[..., 4:].softmax(-1)


class Yolo(nn.Module):
    """Cross-stage partial blocks, spatial pyramid pooling, upsampled concat and a decoded anchor grid."""

    class Csp(nn.Module):
        """Two branches from one map; in one of them bottlenecks."""

        def __init__(self, into: int, out: int) -> None:
            super().__init__()
            self.left, self.right = ConvBnAct(into, out // 2, 1), ConvBnAct(into, out // 2, 1)
            self.body = Residual(
                nn.Sequential(ConvBnAct(out // 2, out // 2, 1), ConvBnAct(out // 2, out // 2))
            )
            self.join = ConvBnAct(out, out, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.join(torch.cat([self.body(self.left(x)), self.right(x)], 1))

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(ConvBnAct(12, 16), ConvBnAct(16, 32, stride=2), Yolo.Csp(32, 32))
        self.deep = nn.Sequential(ConvBnAct(32, 64, stride=2), Yolo.Csp(64, 64))
        self.squeeze, self.spread = ConvBnAct(64, 32, 1), ConvBnAct(128, 64, 1)
        self.lateral, self.join = ConvBnAct(64, 32, 1), Yolo.Csp(64, 32)
        self.heads = nn.ModuleList([nn.Conv2d(32, 3 * 8, 1), nn.Conv2d(64, 3 * 8, 1)])
        self.anchors = nn.Parameter(torch.rand(2, 3, 2) * 4 + 1)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([x[..., ::2, ::2], x[..., 1::2, ::2], x[..., ::2, 1::2], x[..., 1::2, 1::2]], 1)
        near = self.stem(x)
        far = self.squeeze(self.deep(near))
        pools = [functional.max_pool2d(far, k, 1, k // 2) for k in (3, 5, 7)]
        far = self.spread(torch.cat([far, *pools], 1))
        up = functional.interpolate(self.lateral(far), scale_factor=2.0, mode="nearest")
        near = self.join(torch.cat([up, near], 1))
        return torch.cat([self._decode(i, y) for i, y in enumerate((near, far))], 1)

    def _decode(self, i: int, x: Tensor) -> Tensor:
        b, _, h, w = (int(s) if j else s for j, s in enumerate(x.shape))
        y = self.heads[i](x).view(-1, 3, 8, h, w).permute(0, 1, 3, 4, 2).sigmoid()
        rows, columns = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        grid = torch.stack([columns, rows], -1).to(y.dtype)
        centre = (y[..., :2] * 2 - 0.5 + grid) * 4.0
        size = (y[..., 2:4] * 2) ** 2 * self.anchors[i][None, :, None, None, :]
        return torch.cat([centre, size, y[..., 4:]], -1).reshape(-1, 3 * h * w, 8)


class PixelShuffleNet(nn.Module):
    """Super-resolution: residual blocks, then channels turned into pixels; a global skip by resizing."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 24, 3, padding=1)
        bodies = [
            nn.Sequential(nn.Conv2d(24, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 24, 3, padding=1))
            for _ in range(3)
        ]
        self.blocks = nn.Sequential(*(Residual(body) for body in bodies))
        self.up = nn.Sequential(
            nn.Conv2d(24, 4 * 16, 3, padding=1),
            nn.PixelShuffle(2),
            nn.PReLU(16),
            nn.Conv2d(16, 3, 3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        base = functional.interpolate(x, scale_factor=2.0, mode="bicubic", align_corners=False)
        return base + self.up(y + self.blocks(y))


class DenseSuper(nn.Module):
    """Residual-in-residual dense blocks: concats inside, scaled residuals outside."""

    class Dense(nn.Module):
        """Five growing convolutions."""

        def __init__(self) -> None:
            super().__init__()
            self.convs = nn.ModuleList(
                nn.Conv2d(24 + 8 * i, 8 if i < 3 else 24, 3, padding=1) for i in range(4)
            )

        def forward(self, x: Tensor) -> Tensor:
            maps = [x]
            for conv in self.convs[:-1]:
                maps.append(functional.leaky_relu(conv(torch.cat(maps, 1)), 0.2))
            return x + 0.2 * self.convs[-1](torch.cat(maps, 1))

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.PixelUnshuffle(2), nn.Conv2d(12, 24, 3, padding=1),
            Residual(nn.Sequential(DenseSuper.Dense(), DenseSuper.Dense())),
            nn.Upsample(scale_factor=2, mode="nearest"), nn.Conv2d(24, 24, 3, padding=1), nn.LeakyReLU(0.2),
            nn.Conv2d(24, 3, 3, padding=1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


def specs_of_source() -> list[Spec]:
    """Dense prediction, in both exporters."""
    rgb, twice = image(), (ts(13), dyn(18), static(ts(11)))
    table: tuple[
        tuple[str, Family, Callable[[], nn.Module], tuple[Feed, ...], tuple[Variant, ...], bool], ...
    ] = (
        ("unet_transposed", "segmentation", partial(UNet, False), rgb, (*KEPT, half(ts(17))), True),
        ("unet_bilinear", "segmentation", partial(UNet, True), rgb, (ts(11), dyn(18), raw()), True),
        ("unet_gated", "segmentation", partial(UNet, False, True), rgb, BOTH, False),
        ("plain_hrnet", "segmentation", HighResolution, rgb, twice, True),
        ("plain_fpn", "detection", Pyramid, rgb, twice, True),
        ("plain_yolo", "detection", Yolo, rgb, KEPT, True),
        ("pixel_shuffle", "superres", PixelShuffleNet, rgb, (ts(11), dyn(18), half(ts(16))), True),
        ("dense_super", "superres", DenseSuper, rgb, BOTH, False),
    )
    found: list[Spec] = []
    for name, family, make, feeds, variants, core in table:
        found += specs(name, family, "plain", partial(net, make, feeds), variants, core)
    return found
