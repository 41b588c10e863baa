"""A block of a binary net as torch exports it: signs and weights through estimators, learned shifts, a residual sum."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from graphrewrite.ir import Model
from graphrewrite.passes.binary import LowerBinaryConv
from graphrewrite.passes.tidy import Tidy
from graphrewrite.pipeline import Context, Pipeline

torch = pytest.importorskip("torch")


def sign_through(x: Any) -> Any:
    """Return the sign, with the gradient of a piecewise polynomial (Liu and others, 2018)."""
    left = -1.0 * (x < -1).float() + (x * x + 2 * x) * (1 - (x < -1).float())
    middle = left * (x < 0).float() + (2 * x - x * x) * (1 - (x < 0).float())
    smooth = middle * (x < 1).float() + 1.0 * (1 - (x < 1).float())
    return torch.sign(x).detach() - smooth.detach() + smooth


class Block(torch.nn.Module):  # type: ignore[name-defined]
    """Shift, sign, binary convolution, norm, sum, shift, rectifier, shift (Liu and others, 2020)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(0.01 * torch.randn(channels, channels, 3, 3))
        self.shifts = torch.nn.ParameterList([0.1 * torch.randn(1, channels, 1, 1) for _ in range(3)])
        self.norm = torch.nn.BatchNorm2d(channels)
        self.slope = torch.nn.PReLU(channels)

    def forward(self, x: Any) -> Any:
        """Run the block."""
        size = self.weight.abs().mean((1, 2, 3), keepdim=True).detach()
        latent = self.weight.clamp(-1, 1)
        weight = (size * torch.sign(self.weight)).detach() - latent.detach() + latent
        read = sign_through(x + self.shifts[0].expand_as(x))
        y = self.norm(torch.nn.functional.conv2d(read, weight, padding=1)) + x
        return self.slope(y + self.shifts[1]) + self.shifts[2]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_an_exported_block_becomes_one_operator_and_what_numbers_need(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(Block(32), Block(32)).eval()
    path = tmp_path / "net.onnx"
    torch.onnx.export(net, (torch.randn(1, 32, 8, 8),), str(path), dynamo=False, opset_version=18)

    step = LowerBinaryConv(zero_is_plus=True)
    result = Pipeline([Tidy(), step]).run(Model.load(path), Context())

    assert Counter(node.op for node in result.model.graph.nodes) == {"BinaryConv": 2, "Add": 4, "PRelu": 2}
    movement = result.report.steps[1].verified.movement
    assert movement is not None and movement < 1e-5  # what the estimators left was rounding
