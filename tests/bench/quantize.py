"""Static quantisation to 8 bits beside onnxruntime's own: how near the outputs stay, bytes, latency, time to quantise.

`python -m tests.bench.quantize [--bits 4] [--rounds 30] [--only PATTERN ...] [--write]` takes the shipped models, of
256 training images, and models of the corpus, of 32 random samples: most of their weights are random too, which makes
no difference to bytes and speed. The signal is compared with the float model's on samples that nobody saw before. Both
get the same samples and ranges from min to max, uint8 activations, int8 or int4 weights per channel; onnxruntime's gets
the preprocessing that it advises. Latency: one sample, in turns, medians, on one thread its CPU time. Seconds: ours
tidy, calibrate, write and prove.
"""

import fnmatch
import logging
from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple, cast

import numpy as np
from onnxruntime.quantization import QuantType

from graphrewrite import models
from graphrewrite.data import DataSource, load
from graphrewrite.data.accumulators import Floats
from graphrewrite.data.source import Arrays
from graphrewrite.ir import Model
from graphrewrite.passes.quant import InsertQdq
from graphrewrite.passes.tidy import Tidy
from graphrewrite.passes.weights import WeightOnly
from graphrewrite.pipeline import Context, Pipeline
from graphrewrite.runtime import Feeds
from tests.bench.common import kept, say, timed
from tests.bench.kernels_common import head, options_of, row, session
from tests.bench.models_common import measure, prepared, statically_int8, times
from tests.corpus.index import Entry, entries

CORPUS = (
    "mobilenet_v2.dyn",
    "mobilenet_v3_large.ts",
    "resnet18.ts",
    "resnet50_narrow.dyn",
    "densenet121.ts",
    "efficientnet_b0.ts",
    "regnet_y_400mf.ts",
    "timm_efficientnet_lite0.ts",
    "timm_ecaresnet26t.ts",
    "googlenet.dyn",
    "mnasnet0_5.dyn",
    "plain_inception.ts",
    "plain_yolo.ts",
    "resnext50_narrow.dyn",
    "shufflenet_v2_x0_5.dyn",
    "squeezenet1_1.ts",
    "tf_mobilenetv2.tf2onnx.op15",
    "timm_mobilevit_xxs.ts",
    "timm_res2net50_14w_8s.ts",
    "unet_bilinear.dyn",
    "unet_transposed.ts",
    "plain_convnext.ts",
    "hf_convnext.ts",
    "hf_segformer.ts",
    "hf_vit.ts",
    "hf_bert.ts",
    "hf_gpt2.ts",
    "perceptron.ts",
    "timm_mixer.ts",
    "timm_vit_tiny_patch16_224.ts",
    "timm_swin_tiny_patch4_window7_224.ts",
)
COLUMNS = (
    "model",
    "layers in integers",
    "KiB: fp32",
    "onnxruntime",
    "ours",
    "signal to noise, dB: onnxruntime",
    "ours",
    "cosine: onnxruntime",
    "ours",
    "ms: fp32",
    "onnxruntime",
    "ours",
    "times as fast as onnxruntime's",
    "seconds to quantise: onnxruntime",
    "ours",
)
_KINDS = {8: QuantType.QInt8, 4: QuantType.QInt4}
_BATCH, _SEEN, _HELD = 8, range(4), range(100, 104)  # seeds of batches


class Case(NamedTuple):
    """A model with the batches that ranges are found on, and others."""

    name: str
    model: Model
    seen: Sequence[Feeds]
    held: Sequence[Feeds]


class Batches(NamedTuple):
    """Batches as they are, as a source of data; nobody knows labels."""

    given: Sequence[Feeds]

    def batches(self, size: int, seed: int = 0) -> Iterator[Arrays]:
        """Yield the batches, whatever the size."""
        yield from self.given

    def __len__(self) -> int:
        return sum(len(next(iter(feeds.values()))) for feeds in self.given)

    @property
    def labels(self) -> None:
        """None."""
        return None


def cases(only: Sequence[str]) -> Iterator[Case]:
    """Yield the shipped models and those of the corpus that a pattern names."""

    def is_wanted(name: str) -> bool:
        return any(fnmatch.fnmatch(name, pattern) for pattern in only)

    for name in filter(is_wanted, models.names()):
        card, model = models.card(name), Model.load(models.shipped(name))
        seen, held = (list(load(which, model).batches(_BATCH)) for which in (card.calibration, card.test))
        yield Case(name, model, seen[: 256 // _BATCH], held)
    corpus: dict[str, Entry] = {entry.name: entry for entry in entries()}
    for name in filter(is_wanted, CORPUS):
        if name in corpus:
            entry = corpus[name]
            drawn = [[entry.sample(_BATCH, seed) for seed in seeds] for seeds in (_SEEN, _HELD)]
            yield Case(name, Model.load(entry.path), *drawn)


def ours(model: Model, data: DataSource, bits: int = 8) -> tuple[Model, str]:
    """Return the model quantised and proved as the verb does it, and how many of its layers are integers."""
    times = "vnni" if bits == 8 else ""
    steps = (Tidy(), InsertQdq(weight_bits=bits, times=times, batch=_BATCH), WeightOnly(8, block=0))
    result = Pipeline(steps).run(model, Context(data=data, threads=1))
    assert result.changed
    rows = cast("list[dict[str, object]]", result.report.steps[1].details["layers"])
    return result.model, f"{sum(not row['left'] for row in rows)} of {len(rows)}"


def outputs(model: Model, held: Sequence[Feeds]) -> Floats:
    """Return the first output for all batches, one after the other."""
    started = session(model.to_proto())
    return np.concatenate([np.ravel(started.run(None, dict(feeds))[0]) for feeds in held]).astype(np.float64)


def line(case: Case, bits: int, rounds: int, threads: int) -> str:
    """Quantise a model both ways and return its line of the table."""
    (own, layers), spent = timed(partial(ours, case.model, Batches(case.seen), bits))
    rival, rival_spent = timed(lambda: statically_int8(prepared(case.model), case.seen, _KINDS[bits]))
    selves = {"fp32": case.model, "rival": rival, "own": own}
    exact, theirs, mine = (outputs(each, case.held) for each in selves.values())
    took = measure(selves, rounds, threads)
    size = {name: len(each.to_proto().SerializeToString()) / 1024 for name, each in selves.items()}
    return row(
        [
            case.name,
            layers,
            *(f"{size[name]:.0f}" for name in selves),
            f"{signal(exact, theirs):.1f}",
            f"{signal(exact, mine):.1f}",
            f"{_cosine(exact, theirs):.4f}",
            f"{_cosine(exact, mine):.4f}",
            *(f"{(took[name].cpu if threads == 1 else took[name].wall) * 1e3:.2f}" for name in selves),
            f"{times(took['rival'], took['own'], threads):.2f}",
            f"{rival_spent.wall:.1f}",
            f"{spent.wall:.1f}",
        ]
    )


def signal(exact: Floats, other: Floats) -> float:
    """Return by how many dB outputs are louder than their difference from others."""
    noise = float(np.square(other - exact).sum())
    return float(10 * np.log10(np.square(exact).sum() / noise)) if noise else float("inf")


def _cosine(exact: Floats, other: Floats) -> float:
    return float(exact @ other / (np.linalg.norm(exact) * np.linalg.norm(other)))


def main() -> None:
    """Print the table."""
    logging.disable(logging.WARNING)  # the quantiser says something about every node
    parser = options_of(__doc__, rounds=30)
    parser.add_argument("--bits", type=int, choices=sorted(_KINDS), default=8, help="of weights")
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN")
    parser.add_argument("--write", action="store_true", help="put the table into tests/bench/RESULTS.md")
    chosen = parser.parse_args()
    with kept(f"{chosen.bits} bits, beside onnxruntime's static quantisation", chosen.write):
        say("\n".join(head(COLUMNS)))
        for case in cases(chosen.only):
            say(line(case, chosen.bits, chosen.rounds, chosen.threads))


if __name__ == "__main__":
    main()
