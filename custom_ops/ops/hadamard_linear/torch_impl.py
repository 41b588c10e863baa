"""HadamardLinear in torch: gradients reach the three diagonals."""

import torch


def torch_impl(
    x: torch.Tensor,
    before: torch.Tensor,
    permutation: torch.Tensor,
    middle: torch.Tensor,
    after: torch.Tensor,
    bias: torch.Tensor,
) -> torch.Tensor:
    """Return the layer's output [..., out]."""
    padded = torch.nn.functional.pad(x * before, (0, len(middle) - x.shape[-1]))
    mixed = _transform(padded)[..., permutation] * middle
    return _transform(mixed)[..., : len(after)] * after + bias


def _transform(x: torch.Tensor) -> torch.Tensor:
    """Return the Walsh-Hadamard transform of the last axis, scaled to keep lengths."""
    size = x.shape[-1]
    # Sums and differences of the two halves, written alternately, turn the binary digits of the position once round.
    for _ in range(size.bit_length() - 1):
        first, second = x[..., : size // 2], x[..., size // 2 :]
        x = torch.stack([first + second, first - second], -1).flatten(-2)
    return x / size**0.5
