"""Optimizer steps that a training graph carries: weights, gradients and states go in, new weights and states out."""

import torch
from torch import Tensor

from graphrewrite.bridge.forms import op

_TRAINING = "ai.onnx.preview.training"


@op("Adagrad", domain=_TRAINING)
def adagrad(
    rate: Tensor,
    count: Tensor,
    *tensors: Tensor,
    decay_factor: float = 0.0,
    epsilon: float = 1e-6,
    norm_coefficient: float = 0.0,
) -> tuple[Tensor, ...]:
    """Step by the root of all squared gradients so far; tensors are weights, gradients, sums of squares."""
    rate = rate / (1 + count * decay_factor)
    weights, sums = [], []
    for x, slope, total in _grouped(tensors, 3):
        slope = slope + norm_coefficient * x
        total = total + slope * slope
        weights.append(x - rate * slope / (total.sqrt() + epsilon))
        sums.append(total)
    return *weights, *sums


@op("Adam", domain=_TRAINING)
def adam(
    rate: Tensor,
    count: Tensor,
    *tensors: Tensor,
    alpha: float = 0.9,
    beta: float = 0.999,
    epsilon: float = 1e-6,
    norm_coefficient: float = 0.0,
    norm_coefficient_post: float = 0.0,
) -> tuple[Tensor, ...]:
    """Step by a running mean of gradients over the root of one of their squares, both freed of their start at zero."""
    steps = count.to(rate.dtype)
    grown = rate * torch.sqrt(1 - beta**steps) / (1 - alpha**steps)
    rate = torch.where(count > 0, grown, rate)
    weights, means, squares = [], [], []
    for x, slope, mean, square in _grouped(tensors, 4):
        slope = slope + norm_coefficient * x
        mean = alpha * mean + (1 - alpha) * slope
        square = beta * square + (1 - beta) * slope * slope
        stepped = x - rate * mean / (square.sqrt() + epsilon)
        weights.append((1 - norm_coefficient_post) * stepped)
        means.append(mean)
        squares.append(square)
    return *weights, *means, *squares


@op("Momentum", domain=_TRAINING)
def momentum(
    rate: Tensor,
    count: Tensor,
    *tensors: Tensor,
    alpha: float,
    beta: float,
    mode: str,
    norm_coefficient: float,
) -> tuple[Tensor, ...]:
    """Step by a running sum of gradients; nesterov looks one step ahead of it."""
    weights, speeds = [], []
    for x, slope, speed in _grouped(tensors, 3):
        slope = slope + norm_coefficient * x
        speed = alpha * speed + torch.where(count > 0, beta, 1.0).to(x.dtype) * slope
        weights.append(x - rate * (slope + alpha * speed if mode == "nesterov" else speed))
        speeds.append(speed)
    return *weights, *speeds


def _grouped(tensors: tuple[Tensor, ...], kinds: int) -> list[tuple[Tensor, ...]]:
    """Return for each weight itself, its gradient and states; tensors come kind by kind."""
    each = len(tensors) // kinds
    return [tensors[i::each] for i in range(each)]
