"""Fourier transforms, windows and mel filters."""

import math

import onnx
import torch
from torch import Tensor

from graphrewrite.bridge.forms import op
from graphrewrite.bridge.numbers import torch_type

_FLOAT = onnx.TensorProto.FLOAT
_NARROW = (torch.float16, torch.bfloat16)


@op("DFT", since=17, host=("dft_length",))
def dft_17(
    x: Tensor, dft_length: int | None = None, *, axis: int = 1, inverse: int = 0, onesided: int = 0
) -> Tensor:
    """Transform one axis of a signal [..., 1] (real) or [..., 2] (complex)."""
    return _transformed(x, dft_length, axis, bool(inverse), bool(onesided))


@op("DFT", since=20, host=("dft_length", "axis"))
def dft(
    x: Tensor, dft_length: int | None = None, axis: int = -2, *, inverse: int = 0, onesided: int = 0
) -> Tensor:
    """Transform one axis of a signal [..., 1] (real) or [..., 2] (complex)."""
    return _transformed(x, dft_length, -2 if axis is None else axis, bool(inverse), bool(onesided))


@op("STFT", since=17, host=("frame_step", "frame_length"))
def stft(
    signal: Tensor,
    frame_step: int,
    window: Tensor | None = None,
    frame_length: int | None = None,
    *,
    onesided: int = 1,
) -> Tensor:
    """Transform frames of a signal [batch, length, 1 or 2]: [batch, frames, bins, 2]; complex ones have all bins."""
    if signal.dim() == 2:
        signal = signal.unsqueeze(-1)
    size = (
        frame_length if frame_length is not None else signal.shape[1] if window is None else window.shape[0]
    )
    frames = signal.unfold(1, size, frame_step).transpose(2, 3)
    if window is not None:
        frames = frames * window[:, None]
    return _transformed(frames, None, 2, False, bool(onesided) and signal.shape[-1] == 1)


@op("HannWindow", since=17, host=("size",))
def hann(size: int, *, output_datatype: int = _FLOAT, periodic: int = 1, like: Tensor) -> Tensor:
    """Return 0.5 - 0.5 cos."""
    return _window(size, (0.5, 0.5), output_datatype, bool(periodic), like)


@op("HammingWindow", since=17, host=("size",))
def hamming(size: int, *, output_datatype: int = _FLOAT, periodic: int = 1, like: Tensor) -> Tensor:
    """Return 25/46 - 21/46 cos."""
    return _window(size, (25 / 46, 21 / 46), output_datatype, bool(periodic), like)


@op("BlackmanWindow", since=17, host=("size",))
def blackman(size: int, *, output_datatype: int = _FLOAT, periodic: int = 1, like: Tensor) -> Tensor:
    """Return 0.42 - 0.5 cos + 0.08 cos of twice the angle."""
    return _window(size, (0.42, 0.5, 0.08), output_datatype, bool(periodic), like)


@op(
    "MelWeightMatrix",
    since=17,
    host=("bins", "dft_length", "sample_rate", "lower_edge", "upper_edge"),
)
def mel_weights(
    bins: int,
    dft_length: int,
    sample_rate: int,
    lower_edge: float,
    upper_edge: float,
    *,
    output_datatype: int = _FLOAT,
    like: Tensor,
) -> Tensor:
    """Return triangles of height one, evenly spaced on the mel scale: [dft_length // 2 + 1, bins]."""
    low, high = (2595 * math.log10(1 + edge / 700) for edge in (lower_edge, upper_edge))
    mels = low + torch.arange(bins + 2, dtype=torch.float64, device=like.device) * ((high - low) / (bins + 2))
    hertz = 700 * (10 ** (mels / 2595) - 1)
    corners = torch.floor((dft_length + 1) * hertz / sample_rate)
    left, peak, right = corners[:-2], corners[1:-1], corners[2:]
    at = torch.arange(dft_length // 2 + 1, dtype=torch.float64, device=like.device)[:, None]
    rise = (at - left) / (peak - left)
    fall = (right - at) / (right - peak)
    height = torch.where((at >= left) & (at < peak), rise, torch.where((at > peak) & (at < right), fall, 0.0))
    return torch.where(at == peak, 1.0, height).to(torch_type(output_datatype))


def _transformed(x: Tensor, length: int | None, axis: int, inverse: bool, onesided: bool) -> Tensor:
    """Transform an axis; half types, which torch transforms on some devices only, by way of single ones."""
    axis %= x.dim()
    wide = x.float() if x.dtype in _NARROW else x
    signal = wide[..., 0] if x.shape[-1] == 1 else torch.view_as_complex(wide.contiguous())
    if inverse and onesided:
        return torch.fft.irfft(signal, length, axis).unsqueeze(-1).to(x.dtype)
    if inverse:
        found = torch.fft.ifft(signal, length, axis)
    elif onesided and not signal.is_complex():
        found = torch.fft.rfft(signal, length, axis)
    else:
        found = torch.fft.fft(signal, length, axis)
        if onesided:
            found = found.narrow(axis, 0, found.shape[axis] // 2 + 1)
    return torch.view_as_real(found).to(x.dtype)


def _window(size: int, weights: tuple[float, ...], kind: int, periodic: bool, like: Tensor) -> Tensor:
    """Return a sum of cosines with signs in turn; a window of one number is a 1."""
    steps = size if periodic else size - 1
    angles = torch.arange(size, dtype=torch.float64, device=like.device) * (2 * math.pi / max(steps, 1))
    found = sum((-1) ** order * weight * torch.cos(order * angles) for order, weight in enumerate(weights))
    return (torch.ones_like(angles) if size == 1 else found).to(torch_type(kind))
