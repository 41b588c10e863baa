"""Small torch pieces that several hand-written nets share."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConvBnAct(nn.Sequential):
    """Convolution, batch norm, ReLU; `groups` and `stride` as in torch, padding keeps the size."""

    def __init__(self, into: int, out: int, kernel: int = 3, stride: int = 1, groups: int = 1) -> None:
        super().__init__(
            nn.Conv2d(into, out, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
        )


class Head(nn.Sequential):
    """Global average pool and a linear classifier."""

    def __init__(self, channels: int, classes: int = 10) -> None:
        super().__init__(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))


class Residual(nn.Module):
    """x + f(x), or shortcut(x) + f(x)."""

    def __init__(self, body: nn.Module, shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut or nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.shortcut(x) + self.body(x)


class Lambda(nn.Module):
    """A function of one tensor as a module, so that it fits in a Sequential."""

    def __init__(self, function: "object") -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        assert callable(self.function)
        result = self.function(x)
        assert isinstance(result, Tensor)
        return result


class Attention(nn.Module):
    """Multi-head self-attention with a packed qkv projection, split in the way most vision code does it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.heads, c // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        y = functional.scaled_dot_product_attention(q, k, v)
        mixed: Tensor = self.out(y.transpose(1, 2).reshape(b, n, c))
        return mixed


class RmsNorm(nn.Module):
    """Root mean square norm written out, as language models do it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.weight


class ChannelNorm(nn.Module):
    """Layer norm over the channels of an NCHW map, written out in arithmetic."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        return (x - mean) / torch.sqrt(variance + 1e-6) * self.weight[:, None, None] + self.bias[
            :, None, None
        ]
