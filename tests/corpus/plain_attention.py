"""Hand-written attention nets: the ways in which heads, positions, caches and experts are written down."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.corpus.blocks import Attention, RmsNorm
from tests.corpus.index import Feed
from tests.corpus.spec import Family, Spec
from tests.corpus.torch_nets import BOTH, Variant, dyn, half, image, net, raw, specs, static, ts

WORDS, WIDTH, HEADS, STEPS = 80, 48, 4, 12


def mlp(width: int = WIDTH) -> nn.Module:
    """The usual two layers with GELU."""
    return nn.Sequential(nn.Linear(width, 3 * width), nn.GELU(), nn.Linear(3 * width, width))


class Block(nn.Module):
    """Pre-norm attention and MLP, each with a residual."""

    def __init__(
        self,
        attention: nn.Module,
        feed_forward: nn.Module | None = None,
        norm: type[nn.Module] = nn.LayerNorm,
    ):
        super().__init__()
        self.attention, self.feed_forward = attention, feed_forward or mlp()
        self.first, self.second = norm(WIDTH), norm(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.first(x))
        return x + self.feed_forward(self.second(x))


class Language(nn.Module):
    """Token embedding, blocks, norm, and scores over the vocabulary, tied to the embedding or not."""

    def __init__(
        self, blocks: list[nn.Module], tied: bool = False, norm: type[nn.Module] = nn.LayerNorm
    ) -> None:
        super().__init__()
        self.embed = nn.Embedding(WORDS, WIDTH)
        self.blocks, self.norm = nn.Sequential(*blocks), norm(WIDTH)
        self.out = nn.Linear(WIDTH, WORDS, bias=False)
        if tied:
            self.out.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.out(self.norm(self.blocks(self.embed(tokens))))


class Separate(nn.Module):
    """Three projections, explicit matrix products, an optional bias per head distance (ALiBi or a learned table)."""

    def __init__(self, bias: str = "none") -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))
        self.out = nn.Linear(WIDTH, WIDTH)
        self.table = nn.Parameter(torch.randn(2 * STEPS - 1, HEADS)) if bias == "learned" else None
        distance = torch.arange(STEPS)[None, :] - torch.arange(STEPS)[:, None]
        self.register_buffer("index", distance + STEPS - 1)
        slopes = torch.tensor([2.0 ** -(2 * h + 1) for h in range(HEADS)])
        self.register_buffer("alibi", slopes[:, None, None] * -distance.abs() if bias == "alibi" else None)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = (
            layer(x).view(b, n, HEADS, c // HEADS).transpose(1, 2) for layer in (self.q, self.k, self.v)
        )
        scores = q @ k.transpose(-1, -2) / math.sqrt(c // HEADS)
        if self.table is not None:
            scores = scores + self.table[self.index].permute(2, 0, 1)
        if self.alibi is not None:
            scores = scores + self.alibi
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, n, c))


class Grouped(nn.Module):
    """Grouped-query attention with rotary positions: four query heads share two key-value heads; queries are normed."""

    def __init__(self, groups: int = 2, normed: bool = False, interleaved: bool = False) -> None:
        super().__init__()
        self.groups, self.size, self.interleaved = groups, WIDTH // HEADS, interleaved
        self.q = nn.Linear(WIDTH, WIDTH, bias=False)
        self.k, self.v = (nn.Linear(WIDTH, groups * self.size, bias=False) for _ in range(2))
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.q_norm, self.k_norm = (RmsNorm(self.size) if normed else nn.Identity() for _ in range(2))
        angles = torch.outer(
            torch.arange(STEPS).float(), 100.0 ** (-torch.arange(0, self.size, 2) / self.size)
        )
        angles = angles.repeat_interleave(2, 1) if interleaved else torch.cat([angles, angles], 1)
        self.register_buffer("cos", angles.cos())
        self.register_buffer("sin", angles.sin())

    def rotate(self, x: Tensor) -> Tensor:
        """Turn pairs of features by an angle that grows with the position."""
        if self.interleaved:
            turned = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
        else:
            a, b = x.chunk(2, -1)
            turned = torch.cat([-b, a], -1)
        return x * self.cos + turned * self.sin

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q = self.rotate(self.q_norm(self.q(x).view(b, n, HEADS, self.size)).transpose(1, 2))
        k = self.rotate(self.k_norm(self.k(x).view(b, n, self.groups, self.size)).transpose(1, 2))
        v = self.v(x).view(b, n, self.groups, self.size).transpose(1, 2)
        repeat = HEADS // self.groups
        k = k[:, :, None].expand(-1, -1, repeat, -1, -1).reshape(b, HEADS, n, self.size)
        v = v[:, :, None].expand(-1, -1, repeat, -1, -1).reshape(b, HEADS, n, self.size)
        y = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).reshape(b, n, c))


class Gated(nn.Module):
    """SwiGLU: two projections, one gates the other."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.up = nn.Linear(WIDTH, 80, bias=False), nn.Linear(WIDTH, 80, bias=False)
        self.down = nn.Linear(80, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down(functional.silu(self.gate(x)) * self.up(x))


class Experts(nn.Module):
    """Two of four experts per token; expert weights are stacked in one tensor, or each is a net of its own."""

    def __init__(self, stacked: bool) -> None:
        super().__init__()
        self.router = nn.Linear(WIDTH, 4)
        self.nets = None if stacked else nn.ModuleList(mlp() for _ in range(4))
        self.up = nn.Parameter(torch.randn(4, WIDTH, 64) * 0.01) if stacked else None
        self.down = nn.Parameter(torch.randn(4, 64, WIDTH) * 0.01) if stacked else None

    def forward(self, x: Tensor) -> Tensor:
        scores = self.router(x)
        best, which = scores.topk(2, -1)
        weights = torch.zeros_like(scores).scatter(-1, which, best.softmax(-1))
        if self.nets is not None:
            outputs = torch.stack([expert(x) for expert in self.nets], -1)
            return (outputs @ weights[..., None]).squeeze(-1)
        hidden = functional.gelu(torch.einsum("bnc,ech->bneh", x, self.up))
        return torch.einsum("bneh,ehc,bne->bnc", hidden, self.down, weights)


class Cached(nn.Module):
    """One decoding step: past keys and values come in, the grown ones go out."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(WORDS, WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.feed_forward, self.scores = mlp(), nn.Linear(WIDTH, WORDS)

    def forward(self, token: Tensor, past_k: Tensor, past_v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.embed(token)
        b, n, c = x.shape
        q, k, v = (
            t.view(b, n, HEADS, c // HEADS).transpose(1, 2) for t in self.qkv(self.norm(x)).chunk(3, -1)
        )
        k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
        weights = (q @ k.transpose(2, 3) / math.sqrt(c // HEADS)).softmax(-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(b, n, c))
        return self.scores(x + self.feed_forward(x)), k, v


class Linearised(nn.Module):
    """Attention without softmax over positions: feature maps of keys are summed first."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        b, n, c = x.shape
        q, k, v = self.qkv(x).view(b, n, 3, HEADS, c // HEADS).permute(2, 0, 3, 1, 4)
        q, k = functional.elu(q) + 1, functional.elu(k) + 1
        y = q @ (k.transpose(-1, -2) @ v) / (q @ k.sum(-2)[..., None] + 1e-3)
        return self.out(y.transpose(1, 2).reshape(b, n, c))


class Conformer(nn.Module):
    """Half-step MLPs around attention and a gated depthwise 1-D convolution with batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(4))
        self.first, self.last, self.attention = mlp(), mlp(), Attention(WIDTH, HEADS)
        self.wide, self.narrow = nn.Conv1d(WIDTH, 2 * WIDTH, 1), nn.Conv1d(WIDTH, WIDTH, 1)
        self.deep = nn.Sequential(
            nn.Conv1d(WIDTH, WIDTH, 5, padding=2, groups=WIDTH), nn.BatchNorm1d(WIDTH), nn.SiLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + 0.5 * self.first(self.norms[0](x))
        x = x + self.attention(self.norms[1](x))
        y = functional.glu(self.wide(self.norms[2](x).transpose(1, 2)), 1)
        x = x + self.narrow(self.deep(y)).transpose(1, 2)
        return x + 0.5 * self.last(self.norms[3](x))


class Vision(nn.Module):
    """Patches by a strided convolution, class token, positions, packed attention."""

    def __init__(self, blocks: list[nn.Module]) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, WIDTH, 8, 8)
        self.token, self.position = (
            nn.Parameter(torch.zeros(1, 1, WIDTH)),
            nn.Parameter(torch.zeros(1, 17, WIDTH)),
        )
        self.blocks, self.norm, self.head = nn.Sequential(*blocks), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class Perceiver(nn.Module):
    """A small learned array queries the input by cross-attention, then attends to itself."""

    def __init__(self) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(6, WIDTH))
        self.cross = nn.MultiheadAttention(WIDTH, HEADS, kdim=20, vdim=20, batch_first=True)
        self.block, self.head = Block(Attention(WIDTH, HEADS)), nn.Linear(6 * WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        latents = self.latents.expand(x.shape[0], -1, -1)
        y = latents + self.cross(latents, x, x, need_weights=False)[0]
        return self.head(self.block(y).flatten(1))


class EncoderDecoder(nn.Module):
    """torch's own Transformer layers with a padding mask and a causal mask."""

    def __init__(self) -> None:
        super().__init__()
        self.source, self.target = nn.Embedding(WORDS, WIDTH), nn.Embedding(WORDS, WIDTH)
        self.encoder = nn.TransformerEncoderLayer(WIDTH, HEADS, 96, batch_first=True)
        self.decoder = nn.TransformerDecoderLayer(
            WIDTH, HEADS, 96, batch_first=True, norm_first=True, activation="gelu"
        )
        self.out = nn.Linear(WIDTH, WORDS)
        self.register_buffer("causal", torch.triu(torch.full((6, 6), -1e4), 1))

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory = self.encoder(self.source(source))
        return self.out(self.decoder(self.target(target), memory, tgt_mask=self.causal))


def specs_of_source() -> list[Spec]:
    """Every attention form above in a small language or vision net, in both exporters."""
    tokens = (Feed("tokens", (None, STEPS), "int64", 0, WORDS),)
    past = tuple(Feed(name, (None, HEADS, 7, WIDTH // HEADS)) for name in ("past_k", "past_v"))
    step = (Feed("token", (None, 1), "int64", 0, WORDS), *past)
    pairs = (Feed("source", (None, 9), "int64", 0, WORDS), Feed("target", (None, 6), "int64", 0, WORDS))

    def language(*attentions: Callable[[], nn.Module], tied: bool = False) -> Callable[[], nn.Module]:
        return lambda: Language([Block(make()) for make in attentions], tied)

    def llama(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        return lambda: Language([Block(make(), Gated(), RmsNorm) for _ in range(2)], norm=RmsNorm)

    def conformer() -> nn.Module:
        return nn.Sequential(Conformer(), Conformer())

    def routed(stacked: bool) -> nn.Module:
        return Language([Block(Attention(WIDTH, HEADS), Experts(stacked)) for _ in range(2)])

    packed = partial(Attention, WIDTH, HEADS)
    many = (ts(14), dyn(18), dyn(23, "op23"), raw(), half(ts(17)), static(ts(16)))
    old = (ts(11), dyn(18), ts(9, "op9"))
    table: tuple[
        tuple[str, Family, Callable[[], nn.Module], tuple[Feed, ...], tuple[Variant, ...], bool], ...
    ] = (
        ("packed_attention", "transformer", language(packed, packed), tokens, many, True),
        ("tied_language", "transformer", language(Separate, Separate, tied=True), tokens, old, True),
        ("alibi", "transformer", language(partial(Separate, "alibi")), tokens, old, False),
        (
            "relative_table",
            "transformer",
            language(partial(Separate, "learned")),
            tokens,
            (ts(13), dyn(18)),
            True,
        ),
        ("grouped_rotary", "transformer", llama(Grouped), tokens, many, True),
        ("grouped_rotary_normed", "transformer", llama(partial(Grouped, normed=True)), tokens, BOTH, False),
        (
            "multi_query_interleaved",
            "transformer",
            llama(partial(Grouped, 1, interleaved=True)),
            tokens,
            BOTH,
            True,
        ),
        ("experts_stacked", "transformer", partial(routed, True), tokens, BOTH, True),
        ("experts_listed", "transformer", partial(routed, False), tokens, BOTH, False),
        ("cached_step", "transformer", Cached, step, (ts(13), dyn(18)), True),
        ("linear_attention", "transformer", language(Linearised), tokens, BOTH, False),
        ("conformer", "audio", conformer, (Feed("x", (None, 20, WIDTH)),), BOTH, True),
        (
            "plain_vit",
            "transformer",
            lambda: Vision([Block(packed()) for _ in range(2)]),
            image(),
            many,
            True,
        ),
        ("perceiver", "transformer", Perceiver, (Feed("x", (None, 30, 20)),), BOTH, False),
        ("encoder_decoder", "transformer", EncoderDecoder, pairs, (ts(14), dyn(18)), False),
    )
    found: list[Spec] = []
    for name, family, make, feeds, variants, core in table:
        found += specs(name, family, "plain", partial(net, make, feeds), variants, core)
    return found
