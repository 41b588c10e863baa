"""Hand-written nets over vectors, sets, graphs and fields: little structure, odd operators."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.corpus.blocks import ConvBnAct, Head, Lambda, Residual
from tests.corpus.index import Feed
from tests.corpus.spec import Family, Spec
from tests.corpus.torch_nets import (
    BOTH,
    KEPT,
    Variant,
    dyn,
    half,
    image,
    net,
    norms_kept,
    raw,
    specs,
    static,
    ts,
)


def perceptron() -> nn.Module:
    """Linear layers with batch norms between."""
    layers: list[nn.Module] = []
    for into, out in ((20, 64), (64, 48), (48, 32)):
        layers += [nn.Linear(into, out), nn.BatchNorm1d(out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(32, 6))


def residual_perceptron() -> nn.Module:
    """Pre-norm residual blocks of linear layers, the norm without gains."""
    body = [
        nn.Sequential(
            nn.LayerNorm(32, elementwise_affine=False), nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32)
        )
        for _ in range(3)
    ]
    return nn.Sequential(nn.Linear(20, 32), *(Residual(b) for b in body), nn.Linear(32, 3), nn.Softmax(1))


class Highway(nn.Module):
    """Each layer mixes its input and its output by a learned gate; maxout ends it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.out = nn.Linear(20, 24), nn.Linear(24, 4 * 3)
        self.layers = nn.ModuleList(nn.Linear(24, 24) for _ in range(3))
        self.gates = nn.ModuleList(nn.Linear(24, 24) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for layer, gate in zip(self.layers, self.gates, strict=True):
            t = gate(x).sigmoid()
            x = t * layer(x).relu() + (1 - t) * x
        return self.out(x).view(-1, 4, 3).amax(2)


class FactorMachine(nn.Module):
    """DeepFM: embeddings of categories, pairwise products by the sum-of-squares trick, and a deep part."""

    def __init__(self) -> None:
        super().__init__()
        self.embeds = nn.ModuleList(nn.Embedding(30, 8) for _ in range(5))
        self.weights = nn.ModuleList(nn.Embedding(30, 1) for _ in range(5))
        self.deep = nn.Sequential(
            nn.Linear(40 + 6, 32), nn.ReLU(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 1)
        )

    def forward(self, categories: Tensor, numbers: Tensor) -> Tensor:
        vectors = torch.stack([e(categories[:, i]) for i, e in enumerate(self.embeds)], 1)
        linear = torch.cat([w(categories[:, i]) for i, w in enumerate(self.weights)], 1).sum(1, keepdim=True)
        pairs = 0.5 * (vectors.sum(1) ** 2 - (vectors**2).sum(1)).sum(1, keepdim=True)
        return torch.sigmoid(linear + pairs + self.deep(torch.cat([vectors.flatten(1), numbers], 1)))


class TwoTower(nn.Module):
    """User and item towers over one shared embedding; normalised vectors, scaled dot product."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.user = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 12))
        self.item = nn.Sequential(nn.Linear(16 + 4, 32), nn.ReLU(), nn.Linear(32, 12))

    def forward(self, history: Tensor, item: Tensor, features: Tensor) -> Tensor:
        user = functional.normalize(self.user(self.embed(history).mean(1)), dim=1)
        other = functional.normalize(self.item(torch.cat([self.embed(item), features], 1)), dim=1)
        return (user * other).sum(1) * 5


class Crossing(nn.Module):
    """Deep and cross: x0 times a projection of x, added layer after layer."""

    def __init__(self) -> None:
        super().__init__()
        self.crosses = nn.ModuleList(nn.Linear(20, 20) for _ in range(3))
        self.deep = nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 16), nn.ReLU())
        self.out = nn.Linear(36, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for cross in self.crosses:
            y = x * cross(y) + y
        return self.out(torch.cat([y, self.deep(x)], 1))


class GraphConvolution(nn.Module):
    """Dense adjacency, normalised in the graph; jumping connections to the read-out."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in ((6, 24), (24, 24), (24, 16)))
        self.out = nn.Linear(64, 4)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        weights = (edges + edges.transpose(1, 2)).sigmoid() + torch.eye(10)
        weights = weights / weights.sum(2, keepdim=True)
        seen = []
        for layer in self.layers:
            nodes = torch.relu(weights @ layer(nodes))
            seen.append(nodes)
        return self.out(torch.cat(seen, 2).mean(1))


class GraphAttention(nn.Module):
    """Scores as sums of a source and a target term per head, masked softmax over neighbours."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(6, 32)
        self.source, self.target = nn.Parameter(torch.randn(4, 8)), nn.Parameter(torch.randn(4, 8))
        self.out = nn.Linear(32, 3)

    def forward(self, nodes: Tensor, edges: Tensor) -> Tensor:
        h = self.project(nodes).view(-1, 10, 4, 8)
        scores = (h * self.source).sum(3)[:, :, None] + (h * self.target).sum(3)[:, None]
        scores = functional.leaky_relu(scores, 0.2).masked_fill(edges[..., None] < -1.5, -1e4)
        return self.out(functional.elu(torch.einsum("bijh,bjhd->bihd", scores.softmax(2), h).flatten(2)))


class MessagePassing(nn.Module):
    """Sparse edges: gather at both ends, an MLP per edge, scatter-add into the nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.edge = nn.Sequential(nn.Linear(2 * 12, 24), nn.SiLU(), nn.Linear(24, 12))
        self.first, self.update, self.out = nn.Linear(6, 12), nn.Linear(24, 12), nn.Linear(12, 2)

    def forward(self, nodes: Tensor, source: Tensor, target: Tensor) -> Tensor:
        h = self.first(nodes)
        for _ in range(2):
            messages = self.edge(torch.cat([h[source], h[target]], 1))
            gathered = torch.zeros_like(h).scatter_add(0, target[:, None].expand(-1, 12), messages)
            h = h + self.update(torch.cat([h, gathered], 1)).tanh()
        return self.out(h)


class PointNet(nn.Module):
    """Shared 1-D convolutions per point, a learned transform by matrix product, max over points."""

    def __init__(self) -> None:
        super().__init__()
        self.small = nn.Sequential(nn.Conv1d(3, 16, 1), nn.BatchNorm1d(16), nn.ReLU(), nn.Conv1d(16, 32, 1))
        self.turn = nn.Linear(32, 9)
        self.net = nn.Sequential(
            nn.Conv1d(3, 24, 1), nn.BatchNorm1d(24), nn.ReLU(), nn.Conv1d(24, 48, 1), nn.BatchNorm1d(48)
        )
        self.out = nn.Sequential(nn.Linear(48, 24), nn.ReLU(), nn.Linear(24, 5))

    def forward(self, points: Tensor) -> Tensor:
        turn = self.turn(self.small(points).amax(2)).view(-1, 3, 3) + torch.eye(3)
        return self.out(self.net(turn @ points).amax(2))


class EdgePoints(nn.Module):
    """Neighbours by top-k distances inside the graph, gathered, convolved, pooled."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(6, 16, 1), nn.BatchNorm2d(16), nn.LeakyReLU(0.2), nn.Conv2d(16, 24, 1)
        )
        self.out = nn.Linear(24, 4)

    def forward(self, points: Tensor) -> Tensor:
        distance = (points[:, :, :, None] - points[:, :, None]).pow(2).sum(1)
        near = distance.topk(4, 2, largest=False).indices.flatten(1)
        other = torch.gather(points, 2, near[:, None].expand(-1, 3, -1)).view(-1, 3, 16, 4)
        centre = points[..., None].expand(-1, -1, -1, 4)
        return self.out(self.conv(torch.cat([other - centre, centre], 1)).amax((2, 3)))


class Radiance(nn.Module):
    """NeRF: sine features of positions, a skip in mid-net, density and colour heads."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.Linear(27, 48), nn.ReLU(), nn.Linear(48, 48), nn.ReLU())
        self.after = nn.Sequential(nn.Linear(48 + 27, 48), nn.ReLU())
        self.density, self.feature = nn.Linear(48, 1), nn.Linear(48, 32)
        self.colour = nn.Sequential(nn.Linear(32 + 3, 24), nn.ReLU(), nn.Linear(24, 3), nn.Sigmoid())

    def forward(self, position: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
        angles = torch.cat([position * 2.0**i for i in range(4)], 1)
        x = torch.cat([position, angles.sin(), angles.cos()], 1)
        x = self.after(torch.cat([self.before(x), x], 1))
        return self.density(x).relu(), self.colour(torch.cat([self.feature(x), direction], 1))


def sine_field() -> nn.Module:
    """SIREN: sines as activations."""
    return nn.Sequential(
        nn.Linear(2, 32),
        Lambda(lambda x: torch.sin(3 * x)),
        nn.Linear(32, 32),
        Lambda(torch.sin),
        nn.Linear(32, 3),
    )


class Capsules(nn.Module):
    """Votes of lower capsules by a weight per pair, three rounds of routing, squashing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Sequential(nn.Conv2d(1, 16, 5, 2), nn.ReLU(), nn.Conv2d(16, 32, 5, 2))
        self.votes = nn.Parameter(torch.randn(64, 4, 8, 6) * 0.1)

    @staticmethod
    def squash(x: Tensor) -> Tensor:
        """Shrink a vector to a length below one."""
        size = x.pow(2).sum(-1, keepdim=True)
        return size / (1 + size) * x / (size + 1e-6).sqrt()

    def forward(self, x: Tensor) -> Tensor:
        low = self.squash(self.conv(x).view(-1, 4, 8, 16).permute(0, 1, 3, 2).reshape(-1, 64, 8))
        votes = torch.einsum("bid,ijde->bije", low, self.votes)
        logits = votes[..., 0] * 0
        for _ in range(3):
            high = self.squash((logits.softmax(2)[..., None] * votes).sum(1))
            logits = logits + (votes * high[:, None]).sum(-1)
        return high.norm(dim=-1)


class WeightStandard(nn.Module):
    """Weights computed in the graph: standardised, and normed by a gain, before the convolution uses them."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 24, 3, padding=1))
        self.weight, self.bias = nn.Parameter(torch.randn(32, 24, 3, 3)), nn.Parameter(torch.zeros(32))
        self.head = Head(32)

    def forward(self, x: Tensor) -> Tensor:
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        deviation = (self.weight - mean).pow(2).mean((1, 2, 3), keepdim=True).add(1e-5).sqrt()
        x = functional.relu(self.first(x))
        return self.head(
            functional.relu(functional.conv2d(x, (self.weight - mean) / deviation / 6, self.bias, 2))
        )


class ManyHeads(nn.Module):
    """One trunk, four outputs of different rank: class, box, mask, embedding; one is also used by another."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(ConvBnAct(3, 24, stride=2), ConvBnAct(24, 32, stride=2), ConvBnAct(32, 32))
        self.label, self.box = nn.Linear(32, 7), nn.Linear(32 + 7, 4)
        self.mask, self.vector = nn.Conv2d(32, 2, 1), nn.Linear(32, 12)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        features = self.trunk(x)
        pooled = features.mean((2, 3))
        label = self.label(pooled)
        box = self.box(torch.cat([pooled, label.softmax(1)], 1)).sigmoid()
        return label, box, self.mask(features), functional.normalize(self.vector(pooled), dim=1)


class Integrator(nn.Module):
    """Four Runge-Kutta steps of one small net: the same weights sixteen times."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Sequential(nn.Linear(8, 24), nn.Tanh(), nn.Linear(24, 8))

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(4):
            a = self.slope(x)
            b = self.slope(x + a * 0.05)
            c = self.slope(x + b * 0.05)
            x = x + (a + 2 * b + 2 * c + self.slope(x + c * 0.1)) * (0.1 / 6)
        return x


def auto_encoder() -> nn.Module:
    """A bottleneck of linear layers, sigmoid output."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 48), nn.SELU(), nn.Linear(48, 8), nn.SELU(), nn.Linear(8, 48), nn.CELU(),
        nn.Linear(48, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8)),
    )  # fmt: skip


def specs_of_source() -> list[Spec]:
    """Every net above, in both exporters where both can."""
    row, picture = (Feed("x", (None, 20)),), image(28, 1)
    graph = (Feed("nodes", (None, 10, 6)), Feed("edges", (None, 10, 10)))
    points = (Feed("points", (None, 3, 16)),)
    mixed = (Feed("categories", (None, 5), "int64", 0, 30), Feed("numbers", (None, 6)))
    shop = (
        Feed("history", (None, 7), "int64", 0, 50),
        Feed("item", (None,), "int64", 0, 50),
        Feed("features", (None, 4)),
    )
    sparse = (
        Feed("nodes", (9, 6)),
        Feed("source", (20,), "int64", 0, 9),
        Feed("target", (20,), "int64", 0, 9),
    )
    rays = (Feed("position", (None, 3)), Feed("direction", (None, 3)))
    table: tuple[
        tuple[str, Family, Callable[[], nn.Module], tuple[Feed, ...], tuple[Variant, ...], bool], ...
    ] = (
        ("perceptron", "mlp", perceptron, row, (*KEPT, ts(9, "op9"), half(ts(13)), raw()), True),
        ("residual_perceptron", "mlp", residual_perceptron, row, BOTH, False),
        ("highway", "mlp", Highway, row, BOTH, False),
        ("factor_machine", "mlp", FactorMachine, mixed, (ts(11), dyn(18)), True),
        ("two_tower", "mlp", TwoTower, shop, BOTH, False),
        ("deep_cross", "mlp", Crossing, row, BOTH, False),
        ("graph_convolution", "graph", GraphConvolution, graph, BOTH, True),
        ("graph_attention", "graph", GraphAttention, graph, BOTH, False),
        ("message_passing", "graph", MessagePassing, sparse, (ts(16), dyn(18)), True),
        ("point_net", "graph", PointNet, points, KEPT, False),
        ("edge_points", "graph", EdgePoints, points, BOTH, False),
        ("radiance_field", "mlp", Radiance, rays, BOTH, False),
        ("sine_field", "mlp", sine_field, (Feed("x", (None, 2)),), BOTH, False),
        ("capsules", "other", Capsules, picture, BOTH, False),
        (
            "weight_standard",
            "cnn",
            WeightStandard,
            image(16),
            (ts(13), dyn(18), raw(), norms_kept(ts(13))),
            True,
        ),
        ("many_heads", "detection", ManyHeads, image(), (*KEPT, static(ts(11))), True),
        ("integrator", "mlp", Integrator, (Feed("x", (None, 8)),), BOTH, False),
        ("auto_encoder", "mlp", auto_encoder, (Feed("x", (None, 1, 8, 8)),), (ts(13), dyn(18)), False),
    )
    found: list[Spec] = []
    for name, family, make, feeds, variants, core in table:
        found += specs(name, family, "plain", partial(net, make, feeds), variants, core)
    return found
