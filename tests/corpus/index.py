"""Reading the corpus: which models lie in the cache, and inputs each of them accepts.

Needs numpy only, so benches and tests can list the corpus on a machine that could not build it.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.generic]

ENVIRONMENT_VARIABLE = "GRAPHREWRITE_CORPUS"
INDEX_NAME = "index.json"
FAILURES_NAME = "failures.json"


@dataclass(frozen=True)
class Feed:
    """One graph input and the values that make sense for it.

    `shape` has None where the batch stands. Floats are drawn from a standard normal; integers uniformly
    from [low, high), so that token ids stay inside the vocabulary and a mask can be all ones (1, 2).
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str = "float32"
    low: int = 0
    high: int = 2

    def sample(self, batch: int, rng: np.random.Generator) -> Array:
        """Random values with `batch` written into the batch axis."""
        shape = tuple(batch if size is None else size for size in self.shape)
        if np.issubdtype(np.dtype(self.dtype), np.floating):
            return rng.standard_normal(shape).astype(self.dtype)
        return rng.integers(self.low, self.high, shape).astype(self.dtype)


@dataclass(frozen=True)
class Entry:
    """One model of the cache, checked when it was built: it loads, runs, and its outputs are finite.

    `exporter` is "ts" (TorchScript), "dyn" (torch.export), "dynraw" (the latter, not optimised) or another
    tool's name; "hand" means written with onnx.helper. `dynamic_batch` says that batch sizes 1 to 3 were
    all run. `architecture` is equal for all exports of one network (same seed, hence the same weights).
    """

    name: str
    architecture: str
    family: str
    source: str
    exporter: str
    opset: int
    params: int
    nodes: int
    dynamic_batch: bool
    core: bool
    feeds: tuple[Feed, ...]
    folder: Path

    @property
    def path(self) -> Path:
        """Where the ONNX file lies; weights are inside it."""
        return self.folder / f"{self.name}.onnx"

    def sample(self, batch: int = 2, seed: int = 0) -> dict[str, Array]:
        """Inputs by name, ready for onnxruntime; `batch` matters only where the batch is dynamic."""
        rng = np.random.default_rng(seed)
        return {feed.name: feed.sample(batch, rng) for feed in self.feeds}

    def record(self) -> dict[str, object]:
        """The form written to the index: plain values, without the folder."""
        values = asdict(self)
        del values["folder"]
        return values


def cache_folder() -> Path:
    """The folder of the corpus: the environment variable GRAPHREWRITE_CORPUS, else one under ~/.cache."""
    chosen = os.environ.get(ENVIRONMENT_VARIABLE)
    return Path(chosen) if chosen else Path.home() / ".cache" / "graphrewrite-corpus"


def entries(folder: Path | None = None) -> list[Entry]:
    """Every built model whose file is present, sorted by name; empty when nothing was built."""
    folder = folder or cache_folder()
    index = folder / INDEX_NAME
    if not index.is_file():
        return []
    records = json.loads(index.read_text())
    found = [_entry(record, folder) for record in records]
    return sorted((entry for entry in found if entry.path.is_file()), key=lambda entry: entry.name)


def _entry(record: dict[str, object], folder: Path) -> Entry:
    values = dict(record)
    raw_feeds = values.pop("feeds")
    assert isinstance(raw_feeds, list)
    feeds = tuple(Feed(**{**feed, "shape": tuple(feed["shape"])}) for feed in raw_feeds)
    return Entry(**values, feeds=feeds, folder=folder)  # type: ignore[arg-type]
