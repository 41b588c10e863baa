"""What else onnxruntime's own domain has: older twins of standard operators, distances, transforms."""

import torch
from torch import Tensor

from graphrewrite.bridge.forms import lowers, op
from graphrewrite.bridge.optable.contrib_activations import MICROSOFT
from graphrewrite.bridge.optable.index import gather_nd, trilu, unique
from graphrewrite.bridge.optable.pad import pad_known
from graphrewrite.bridge.optable.shape import unsqueeze
from graphrewrite.errors import UnsupportedOp

op("GatherND", domain=MICROSOFT)(gather_nd)
op("Trilu", domain=MICROSOFT, host=("k",))(trilu)
op("ExpandDims", domain=MICROSOFT, host=("axes",))(unsqueeze)
lowers("Pad", domain=MICROSOFT, host=(1,), still={2: "it is what padding is filled with"})(pad_known)


@op("Unique", domain=MICROSOFT, gradient=False)
def unique_in_order(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the different numbers as they come, which of them each is, and how many there are."""
    found, _, which, counts = unique(x, sorted=0)
    return found, which, counts


@op("Inverse", domain=MICROSOFT)
def inverse(x: Tensor) -> Tensor:
    """Return the inverses of matrices; those of half types by way of single precision."""
    wide = x if x.dtype in (torch.float32, torch.float64) else x.float()
    return torch.linalg.inv(wide).to(x.dtype)


@op("CDist", domain=MICROSOFT)
def distances(a: Tensor, b: Tensor, *, metric: str = "sqeuclidean") -> Tensor:
    """Return distances of each row of a to each of b."""
    if metric not in ("sqeuclidean", "euclidean"):
        raise UnsupportedOp(
            f"CDist with the metric {metric!r} has no torch form; expected sqeuclidean or euclidean; write the "
            "distance as nodes of its own"
        )
    if metric == "euclidean":
        return torch.cdist(a, b)
    return (a.unsqueeze(-2) - b.unsqueeze(-3)).square().sum(-1)


@op("Rfft", domain=MICROSOFT)
def rfft(x: Tensor, *, normalized: int = 0, onesided: int = 1, signal_ndim: int = 1) -> Tensor:
    """Transform the last axes of a real signal; complex numbers become a last axis of two."""
    _refuse(normalized, onesided)
    return torch.view_as_real(torch.fft.rfftn(x, dim=tuple(range(-signal_ndim, 0))))


@op("Irfft", domain=MICROSOFT)
def irfft(x: Tensor, *, normalized: int = 0, onesided: int = 1, signal_ndim: int = 1) -> Tensor:
    """Transform back, to an even length."""
    _refuse(normalized, onesided)
    return torch.fft.irfftn(torch.view_as_complex(x.contiguous()), dim=tuple(range(-signal_ndim, 0)))


def _refuse(normalized: int, onesided: int) -> None:
    if normalized or not onesided:
        raise UnsupportedOp(
            "a Fourier transform that is normalized or two-sided has no torch form; expected normalized=0, onesided=1; "
            "write it as a DFT node"
        )
