"""Matrix products and convolutions of onnxruntime's own domain: fused with what follows, transposed, or packed."""

from collections.abc import Sequence

import torch
from torch import Tensor, fx

from graphrewrite.bridge.forms import lowers, op
from graphrewrite.bridge.optable.contrib_activations import MICROSOFT, activated
from graphrewrite.bridge.optable.conv import conv, conv_by_size
from graphrewrite.bridge.optable.integers import weight_windows
from graphrewrite.bridge.optable.linear import gemm
from graphrewrite.bridge.site import Site
from graphrewrite.bridge.windows import Windows

_SET = "a setting of the quantizer"


@op("FusedMatMul", domain=MICROSOFT)
def fused_mat_mul(
    a: Tensor,
    b: Tensor,
    *,
    alpha: float = 1.0,
    transA: int = 0,  # noqa: N803 (the attribute's name)
    transB: int = 0,  # noqa: N803
    transBatchA: int = 0,  # noqa: N803
    transBatchB: int = 0,  # noqa: N803
) -> Tensor:
    """Return alpha * a @ b, either transposed, or with its rows before the batch."""
    product = torch.matmul(_turned(a, transA, transBatchA), _turned(b, transB, transBatchB))
    return product if alpha == 1.0 else product * alpha


op("TransposeMatMul", domain=MICROSOFT)(fused_mat_mul)


@op("FusedMatMulActivation", domain=MICROSOFT)
def fused_mat_mul_activation(
    a: Tensor,
    b: Tensor,
    *,
    activation: str,
    activation_alpha: float = 0.0,
    activation_axis: int = -1,
    activation_beta: float = 0.0,
    activation_gamma: float = 0.0,
    alpha: float = 1.0,
    transA: int = 0,  # noqa: N803
    transB: int = 0,  # noqa: N803
    transBatchA: int = 0,  # noqa: N803
    transBatchB: int = 0,  # noqa: N803
) -> Tensor:
    """Return the product with an activation, or a softmax along an axis, behind it."""
    product = fused_mat_mul(
        a, b, alpha=alpha, transA=transA, transB=transB, transBatchA=transBatchA, transBatchB=transBatchB
    )
    if activation == "Softmax":
        return torch.softmax(product, activation_axis)
    return activated(product, activation, (activation_alpha, activation_beta))


@op("FusedGemm", domain=MICROSOFT, ignores=("activation_gamma",))
def fused_gemm(
    a: Tensor,
    b: Tensor,
    c: Tensor | None = None,
    *,
    activation: str = "",
    activation_alpha: float | None = None,
    activation_beta: float | None = None,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803
    transB: int = 0,  # noqa: N803
) -> Tensor:
    """Return a Gemm with an activation behind it."""
    settings = [value for value in (activation_alpha, activation_beta) if value is not None]
    return activated(gemm(a, b, c, alpha, beta, bool(transA), bool(transB)), activation, settings)


@lowers("FusedConv", domain=MICROSOFT)
def fused_conv(site: Site) -> fx.Node:
    """Write the convolution, the sum with a fourth input, and the activation."""
    made = conv(site)
    if site.has(3):
        made = site.call(torch.add, made, site.tensor(3))
    return _with_activation(site, made)


@lowers("NhwcConv", domain=MICROSOFT)
def nhwc_conv(site: Site) -> fx.Node:
    """Write the convolution of an image whose channels are last; the weight is as ever."""
    inputs = (site.tensor(i) for i in range(3))
    made = site.call(channels_last_conv, *inputs, weight_windows(site, 1), site.integer("group", 1))
    return _with_activation(site, made)


lowers("NhwcFusedConv", domain=MICROSOFT)(nhwc_conv)


def channels_last_conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, windows: Windows, group: int
) -> Tensor:
    """Convolve [batch, ..., channels]."""
    return conv_by_size(x.movedim(-1, 1), weight, bias, windows, group).movedim(1, -1)


@op("MatMulNBits", domain=MICROSOFT, still={"scales": _SET, "zeros": _SET}, ignores=("accuracy_level",))
def mat_mul_n_bits(
    a: Tensor,
    packed: Tensor,
    scales: Tensor,
    zeros: Tensor | None = None,
    groups: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    K: int,  # noqa: N803
    N: int,  # noqa: N803
    bits: int = 4,
    block_size: int = 32,
) -> Tensor:
    """Return a @ weight + bias for a weight [N, K] of a few bits, with a scale for each block of K.

    `groups` says which block each of the K belongs to, where they are not in order.
    """
    blocks = (K + block_size - 1) // block_size
    codes = unpacked(packed.reshape(N, -1), bits)[:, : blocks * block_size]
    steps = scales.reshape(N, blocks)
    if zeros is None:
        middle: Tensor | float = float(1 << (bits - 1))
    elif zeros.dtype == torch.uint8:
        middle = unpacked(zeros.reshape(N, -1), bits)[:, :blocks].to(steps.dtype)
    else:
        middle = zeros.reshape(N, blocks).to(steps.dtype)
    place = (
        torch.arange(blocks * block_size, device=a.device) // block_size if groups is None else groups.long()
    )
    levels = codes[:, : len(place)].to(steps.dtype)
    levels = levels - (middle[:, place] if isinstance(middle, Tensor) else middle)
    weight = (levels * steps[:, place])[:, :K]
    return torch.nn.functional.linear(a, weight.to(a.dtype), bias)


def unpacked(packed: Tensor, bits: int) -> Tensor:
    """Return the codes in bytes [rows, bytes], those in the low bits first: [rows, codes]."""
    shifts = torch.arange(0, 8, bits, device=packed.device, dtype=torch.uint8)
    codes = (packed.unsqueeze(-1) >> shifts) & ((1 << bits) - 1)
    return codes.flatten(1)


def _turned(x: Tensor, transposed: int, rows_first: int) -> Tensor:
    if rows_first and x.dim() > 2:
        x = x.movedim(0, -2)
    return x.transpose(-1, -2) if transposed and x.dim() > 1 else x


def _with_activation(site: Site, made: fx.Node) -> fx.Node:
    name, settings = site.text("activation", ""), site.attributes.get("activation_params", ())
    assert isinstance(settings, Sequence)
    return site.call(activated, made, name, tuple(settings)) if name else made
