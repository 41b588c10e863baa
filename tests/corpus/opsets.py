"""Every model of the corpus in newer operator sets: does onnxruntime give the same numbers?

`python -m tests.corpus.opsets [--only 'resnet*'] [--to 13 21] [--every 3] [--beside]` converts each model to each of
the sets that are newer than its own and runs both as they stand. `--beside` gives the same to onnx.version_converter.
"""

import argparse
import fnmatch
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import onnx.version_converter

from graphrewrite.errors import GraphRewriteError
from graphrewrite.ir import Model
from graphrewrite.passes.opset import converted
from graphrewrite.runtime.session import run_session, session
from tests.corpus.index import Entry, entries
from tests.support.tolerances import Array, largest

SETS = (13, 17, 19, 21, 26)  # 26 is the newest that onnxruntime 1.31 loads
CLOSE, HALVES = 1e-4, 2e-2
Convert = Callable[[Model, int], Model]


class Result(NamedTuple):
    """What became of one model in one operator set: "equal", "close", "apart", "refused" or "fails"."""

    name: str
    start: int
    to: int
    kind: str
    text: str = ""


def ours(model: Model, to: int) -> Model:
    return converted(model, to).model


def onnx_own(model: Model, to: int) -> Model:
    """Convert by the converter that comes with onnx."""
    return Model.from_proto(onnx.version_converter.convert_version(model.to_proto(), to))


def check(entry: Entry, sets: Sequence[int] = SETS, convert: Convert = ours) -> Iterator[Result]:
    """Convert one model to each set that is newer than its own, and compare outputs."""
    model, feeds = Model.load(entry.path), entry.sample(1)
    want = run_session(session(model, threads=1, optimize=False), feeds)
    halves = any(array.dtype.itemsize == 2 for array in model.weights.values())
    for to in sets:
        if to > model.opset:
            kind, text = _one(model, to, feeds, want, HALVES if halves else CLOSE, convert)
            yield Result(entry.name, model.opset, to, kind, text)


def _one(
    model: Model,
    to: int,
    feeds: dict[str, Array],
    want: dict[str, Array],
    limit: float,
    convert: Convert,
) -> tuple[str, str]:
    try:
        after = convert(model, to)
    except (GraphRewriteError, RuntimeError, onnx.version_converter.ConvertError) as error:
        return "refused", str(error)
    try:
        got = run_session(session(after, threads=1, optimize=False), feeds)
    except Exception as error:  # whatever the runtime has against it
        return "fails", str(error)
    apart = largest(got, want)
    if apart == 0:
        return "equal", ""
    return ("close" if apart <= limit else "apart"), f"{apart:.1e}"


def main() -> int:
    """Print what is not equal, and how many are; 1 when any of ours is apart or fails."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default="*")
    parser.add_argument("--to", type=int, nargs="*", default=list(SETS))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--offset", type=int, default=0)
    parser.add_argument("--beside", action="store_true")
    options = parser.parse_args()
    chosen = [entry for entry in entries() if fnmatch.fnmatch(entry.name, options.only)]
    counts: dict[str, Counter[str]] = {"ours": Counter(), "onnx's own": Counter()}
    for entry in chosen[options.offset :: options.every]:
        for who, convert in (("ours", ours), ("onnx's own", onnx_own)):
            if who == "ours" or options.beside:
                for result in check(entry, options.to, convert):
                    counts[who][result.kind] += 1
                    if result.kind not in ("equal", "close"):
                        print(who, *result[:4], " ".join(result.text.split())[:200], flush=True)
    for who, found in counts.items():
        print(who, dict(found))
    return int(counts["ours"]["apart"] + counts["ours"]["fails"] > 0)


if __name__ == "__main__":
    sys.exit(main())
