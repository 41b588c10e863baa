"""Signs of weights that are turned towards a corner of the cube first."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isqrt, pi

import torch
from torch import nn

from graphrewrite.bridge.transforms.approx_sign import bent, check_steep, steepness
from graphrewrite.bridge.transforms.base import Lowered, straight_through, transforms
from graphrewrite.bridge.transforms.latent import settled, standardized, weight_only
from graphrewrite.bridge.transforms.sign import plus_minus
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Array


@transforms.register("rotated_sign")
@dataclass(frozen=True)
class RotatedSign:
    """Signs of w + |sin(angle)| (R w - w), R a rotation of all filters towards their signs (Lin et al. 2020).

    R is two small rotations, one on either side of a filter written as a matrix. They start at random, from `seed`, and
    are found anew `updates` times in a stage, in `rounds` steps each; an angle is learned for every filter. The
    gradient grows steeper over the stage, t from the first to the last of `steep`. With `detach_rotation` no gradient
    passes R w, as in the authors' code, where the weights stand still until decay has moved the angles.
    """

    updates: int = 1
    rounds: int = 3
    steep: tuple[float, float] = (0.01, 10.0)
    detach_rotation: bool = False
    seed: int = 0
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        if self.updates < 1 or self.rounds < 1:
            raise InvalidConfig(
                f"RotatedSign(updates={self.updates}, rounds={self.rounds}) finds no rotation; expected 1 or more "
                "of both; correct it"
            )
        check_steep("RotatedSign.steep", self.steep)

    def module(self, weight: torch.Tensor | None) -> nn.Module:
        """Return the trainable form of a weight, filters on its first axis."""
        return Turned(self, weight_only(self, weight))

    def lower(self, weight: Array | None, state: Mapping[str, Array]) -> Lowered:
        """Return the signs as the weight; no rotation is left."""
        return settled(self, weight, state)


class Turned(nn.Module):
    """Turns filters and takes signs; `left` and `right` are the rotations, `found` how often they have been found."""

    def __init__(self, settings: RotatedSign, weight: torch.Tensor) -> None:
        super().__init__()
        self.settings = settings
        self.due = 1
        rows, columns = sides(weight[0].numel())
        draw = torch.Generator().manual_seed(settings.seed)
        for name, size in (("left", rows), ("right", columns)):
            start = torch.linalg.qr(torch.randn(size, size, generator=draw, dtype=torch.float64)).Q
            self.register_buffer(name, start.to(torch.float32))
        self.register_buffer("found", torch.zeros((), dtype=torch.int64))
        self.register_buffer("t", torch.tensor(settings.steep[0]))
        self.angle = nn.Parameter(torch.full((len(weight),), pi / 2))

    def advance(self, done: float) -> None:
        """Make the gradient steeper, and let the rotation be found anew where it is time."""
        self.t.fill_(steepness(self.settings.steep, done))
        self.due = int(done * self.settings.updates + 1e-9) + 1

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """Return +1 and -1 in the shape of the weight."""
        x = standardized(weight)
        filters = x.reshape(len(x), len(self.left), len(self.right))
        if self.training and int(self.found) < self.due:
            left, right = bi_rotation(filters.detach(), self.left, self.right, self.settings.rounds)
            self.left.copy_(left)
            self.right.copy_(right)
            self.found.fill_(self.due)
        turned = turn(filters, self.left, self.right).reshape(x.shape)
        if self.settings.detach_rotation:
            turned = turned.detach()
        share = self.angle.sin().abs().reshape(-1, *[1] * (x.ndim - 1))
        mixed = x + share * (turned - x)
        return straight_through(plus_minus(mixed), bent(mixed, self.t))


def sides(numbers: int) -> tuple[int, int]:
    """Return the two factors of a filter's size that are nearest to each other, the smaller first."""
    small = next(size for size in range(isqrt(numbers), 0, -1) if numbers % size == 0)
    return small, numbers // small


def turn(filters: torch.Tensor, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """Return left^T X right for each filter X of [filters, rows, columns]."""
    return left.T @ filters @ right


def bi_rotation(
    filters: torch.Tensor, left: torch.Tensor, right: torch.Tensor, rounds: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return rotations that bring filters [filters, rows, columns] nearer to their signs, found from the given ones.

    Signs, left and right are solved for in turn, each exactly, so that the sum of all products of numbers and signs
    never falls. Computed in float64, returned in the type of `left`.
    """
    x, one, two = filters.double(), left.double(), right.double()
    for _ in range(rounds):
        signs = plus_minus(turn(x, one, two)).double()
        u, _, v = torch.linalg.svd((signs @ two.T @ x.mT).sum(dim=0))
        one = v.T @ u.T
        u, _, v = torch.linalg.svd((x.mT @ one @ signs).sum(dim=0))
        two = u @ v
    return one.to(left.dtype), two.to(right.dtype)
