"""A leader that learns from the fused features of several students, and features that rebuild each other."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphrewrite.bridge.losses import Batch, Needs, losses
from graphrewrite.errors import InvalidConfig, InvalidData
from graphrewrite.passes.losses.attention_diversity import check_ramp, risen, turned
from graphrewrite.passes.losses.attention_transfer import attention_gap, attention_map
from graphrewrite.passes.losses.feature_match import check_several
from graphrewrite.passes.losses.soft_labels import divergence
from graphrewrite.passes.losses.vsd import by_labels

if TYPE_CHECKING:
    import torch
    from torch import nn


@losses.register("feature_fusion")
@dataclass(frozen=True)
class FeatureFusion:
    """What a leader learns of its students' fused features (Li et al. 2021, FFSD); the recipe `ffsd` builds on it.

    One model holds the leader, and students whose tensors are called like the leader's behind a prefix. The loss learns
    a module that fuses the students' last maps into one map and scores, one that foretells the students' maps from the
    leader's, and for the leader and each student but the first a decoder that draws the shallower maps from the last.

    - The fusing module learns by labels and from the mean of the students' scores.
    - The leader learns from the fused scores (`distill`), and with the weight `fusion` to look where the fused map
      looks, to foretell where the students look, and to look in its shallower maps where its decoder draws from the
      fused map.
    - Students but the first learn, with the weight `diversity`, to look where their decoder draws from the map of the
      student before, led away from where that one looks.
    - Decoders learn, with the weight `decoding`, to draw a net's shallower maps from its own last one.

    What teaches gets no gradient. `fusion`, `diversity` and `decoding` grow in the first `ramp` of a stage's steps.

    Args:
        maps: the leader's feature maps [samples, channels, height, width], from the shallowest to the deepest.
        students: prefixes.
        tensor: the leader's scores; None is the first output.
        temperature: how much scores are softened.
        rate: what the stage's rate is multiplied by for the modules.
    """

    maps: tuple[str, ...] = ()
    students: tuple[str, ...] = ()
    tensor: str | None = None
    temperature: float = 2.0
    distill: float = 1.0
    fusion: float = 10.0
    diversity: float = 1e-5
    decoding: float = 1000.0
    ramp: float = 0.0
    rate: float = 1.0
    weight: float = 1.0

    def __post_init__(self) -> None:
        check_several("FeatureFusion.maps", self.maps, 1, "feature maps of the leader")
        check_several("FeatureFusion.students", self.students, 1, "students: what stands before theirs")
        if not self.temperature > 0:
            raise InvalidConfig(
                f"FeatureFusion.temperature is {self.temperature}; it must be positive; try 2"
            )
        check_ramp("FeatureFusion", self.ramp)

    @property
    def needs(self) -> Needs:
        """The maps of all, the scores of all, and labels."""
        named = (*self.maps, *((self.tensor,) if self.tensor is not None else ()))
        own = tuple(f"{prefix}{name}" for prefix in self.students for name in named)
        return Needs(student=named + own, labels=True)

    def net(self, batch: Batch) -> "nn.Module":
        """Return the modules: `fuse`, `score`, `foretell`, and `decoders` of the leader and the students but one."""
        from torch import nn

        leader = self._maps_of(batch, "")
        channels, several = leader[-1].shape[1], leader[-1].shape[1] * len(self.students)
        classes = batch.student[batch.name(self.tensor)].shape[1]
        decoders = [_decoder(self.maps, leader) for _ in self.students]
        return nn.ModuleDict(
            {
                "fuse": _separable(several, channels),
                "score": nn.Linear(channels, classes),
                "foretell": _separable(channels, several),
                "decoders": nn.ModuleList(decoders),
            }
        )

    def __call__(self, batch: Batch) -> "torch.Tensor":
        """Return the mean over samples."""
        import torch

        assert batch.net is not None
        part = batch.net.get_submodule
        leader = self._maps_of(batch, "")
        students = [self._maps_of(batch, prefix) for prefix in self.students]
        seen = torch.cat([maps[-1].detach() for maps in students], dim=1)
        fused = part("fuse")(seen)
        scores = part("score")(fused.mean(dim=(2, 3)))
        together = torch.stack([self._scores_of(batch, prefix).detach() for prefix in self.students]).mean(
            dim=0
        )
        total = by_labels(scores, batch, 0.0) + divergence(scores, together, self.temperature)
        own = batch.student[batch.name(self.tensor)]
        total = total + self.distill * divergence(own, scores.detach(), self.temperature)
        fused = fused.detach()
        decoders = [part(f"decoders.{number}") for number in range(len(self.students))]
        looks = attention_gap(leader[-1], fused) + attention_gap(part("foretell")(leader[-1]), seen)
        looks = looks + _looks_as_drawn(decoders[0], leader, fused)
        others = torch.zeros_like(looks)
        for decoder, maps, before in zip(decoders[1:], students[1:], students[:-1], strict=True):
            others = others + _looks_as_drawn(decoder, maps, _led_away(before[-1].detach()))
        drawn = torch.stack(
            [
                _redrawn(decoder, [features.detach() for features in maps])
                for decoder, maps in zip(decoders, [leader, *students[1:]], strict=True)
            ]
        ).sum()
        later = self.fusion * looks + self.diversity * others + self.decoding * drawn
        return total + risen(batch.done, self.ramp) * later

    def _maps_of(self, batch: Batch, prefix: str) -> "list[torch.Tensor]":
        found = [batch.student[f"{prefix}{name}"].float() for name in self.maps]
        for name, features in zip(self.maps, found, strict=True):
            if features.ndim != 4:
                raise InvalidData(
                    f"{name!r} has the shape {list(features.shape)}; expected feature maps [samples, channels, height, "
                    "width]; name others"
                )
        return found

    def _scores_of(self, batch: Batch, prefix: str) -> "torch.Tensor":
        return batch.student[f"{prefix}{batch.name(self.tensor)}"].float()


def _separable(into: int, out: int) -> "nn.Module":
    """Return a 3x3 convolution of each channel and a mix of channels, each with norm and rectifier."""
    from torch import nn

    return nn.Sequential(
        nn.Conv2d(into, into, 3, padding=1, groups=into, bias=False),
        nn.BatchNorm2d(into),
        nn.ReLU(),
        nn.Conv2d(into, out, 1, bias=False),
        nn.BatchNorm2d(out),
        nn.ReLU(),
    )


def _decoder(names: tuple[str, ...], maps: "list[torch.Tensor]") -> "nn.Module":
    """Return modules from the deepest map to each shallower one in turn.

    Raises:
        InvalidData: a map is not about a whole number of times as large as the next deeper one.
    """
    from torch import nn

    steps: list[nn.Module] = []
    for number in range(len(maps) - 1, 0, -1):
        coarse, fine = maps[number], maps[number - 1]
        sizes = list(zip(coarse.shape[2:], fine.shape[2:], strict=True))
        strides = [-(-new // old) for old, new in sizes]
        over = [new - 1 - (old - 1) * stride for (old, new), stride in zip(sizes, strides, strict=True)]
        if not all(0 <= rest < stride for rest, stride in zip(over, strides, strict=True)):
            raise InvalidData(
                f"{names[number - 1]!r} has the shape {list(fine.shape)} and {names[number]!r} {list(coarse.shape)}; "
                "expected maps of which each is a whole number of times as large as the next; name others"
            )
        grown = nn.ConvTranspose2d(
            coarse.shape[1],
            fine.shape[1],
            3,
            stride=(strides[0], strides[1]),
            padding=1,
            output_padding=(over[0], over[1]),
            bias=False,
        )
        steps.append(nn.Sequential(grown, nn.BatchNorm2d(fine.shape[1]), nn.ReLU()))
    return nn.ModuleList(steps)


def _drawn(decoder: "nn.Module", deepest: "torch.Tensor") -> "list[torch.Tensor]":
    """Return what a decoder makes of a map in place of the shallower ones, from the shallowest on."""
    found = []
    for step in decoder.children():
        deepest = step(deepest)
        found.append(deepest)
    return found[::-1]


def _looks_as_drawn(
    decoder: "nn.Module", maps: "list[torch.Tensor]", source: "torch.Tensor"
) -> "torch.Tensor":
    """Return how far maps look elsewhere than what a decoder, as it would serve, draws from a source."""
    import torch

    is_training = decoder.training
    decoder.eval()
    with torch.no_grad():
        wanted = _drawn(decoder, source)
    decoder.train(is_training)
    gaps = [attention_gap(own, other) for own, other in zip(maps[:-1], wanted, strict=True)]
    return torch.stack([torch.zeros_like(maps[-1][0, 0, 0, 0]), *gaps]).sum()


def _redrawn(decoder: "nn.Module", maps: "list[torch.Tensor]") -> "torch.Tensor":
    """Return how far a decoder's maps are from the net's own: of attention, and of all numbers at length 1."""
    import torch
    from torch.nn import functional

    gaps = [torch.zeros_like(maps[-1][0, 0, 0, 0])]
    for found, wanted in zip(_drawn(decoder, maps[-1]), maps[:-1], strict=True):
        apart = functional.normalize(found.flatten(1)) - functional.normalize(wanted.flatten(1))
        gaps += [attention_gap(found, wanted), apart.square().mean()]
    return torch.stack(gaps).sum()


def _led_away(features: "torch.Tensor") -> "torch.Tensor":
    """Return features moved, by as much in every channel, towards where the next net shall look."""
    from torch.nn import functional

    raw = attention_map(features)
    length = raw.norm(dim=1, keepdim=True)
    moved = (turned(features) - functional.normalize(raw)) * length / features.shape[1]
    return features + moved.reshape(len(features), 1, *features.shape[2:])
