"""States of a run on disk: tensors in safetensors, the rest in JSON, complete or not there at all."""

import hashlib
import json
import os
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from graphrewrite.bridge.extras import missing
from graphrewrite.bridge.recipe import Recipe
from graphrewrite.bridge.weights import stored
from graphrewrite.errors import InvalidConfig, InvalidData
from graphrewrite.ir import Model
from graphrewrite.serial import Json

_VERSION = 1
_NAME = re.compile(r"state-(\d{9})\.json")


@dataclass(frozen=True)
class Checkpoints:
    """Where states are written, and how often: every so many steps and after every epoch; the last `keep` stay."""

    folder: str | Path
    every: int = 500
    keep: int = 2

    def __post_init__(self) -> None:
        if self.every < 1 or self.keep < 1:
            raise InvalidConfig(
                f"Checkpoints(every={self.every}, keep={self.keep}) cannot be; both must be 1 or more; correct it"
            )


@dataclass(frozen=True)
class Saved:
    """One state: tensors by name, and everything else as JSON."""

    tensors: Mapping[str, torch.Tensor]
    rest: Mapping[str, Json]

    def below(self, prefix: str) -> dict[str, torch.Tensor]:
        """Return the tensors whose names begin with a prefix, without it."""
        return {
            name.removeprefix(prefix): tensor
            for name, tensor in self.tensors.items()
            if name.startswith(prefix)
        }


def save(where: Checkpoints, number: int, state: Saved) -> None:
    """Write a state; a run that is killed meanwhile leaves the ones before as they were."""
    folder = Path(where.folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors, rest = _files(folder, number)
    try:
        from safetensors.torch import save as packed
    except ImportError as error:
        raise missing("a checkpoint", "safetensors", error) from error
    plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.tensors.items()}
    _write(tensors, packed(plain))
    # The second file makes the state complete: it names the first, which is there by now.
    _write(rest, json.dumps({"version": _VERSION, **state.rest}).encode())
    for old in _numbers(folder)[: -where.keep]:
        for file in reversed(_files(folder, old)):
            file.unlink(missing_ok=True)


def newest(where: Checkpoints, fingerprint: str) -> Saved | None:
    """Return the last complete state, None when there is none.

    Raises:
        InvalidData: it cannot be read, or belongs to another run.
    """
    folder = Path(where.folder)
    numbers = _numbers(folder) if folder.is_dir() else []
    if not numbers:
        return None
    tensors, rest = _files(folder, numbers[-1])
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load as unpacked
    except ImportError as error:
        raise missing("a checkpoint", "safetensors", error) from error
    try:
        known = json.loads(rest.read_text(encoding="utf-8"))
        found = unpacked(tensors.read_bytes())
    except (OSError, ValueError, SafetensorError) as error:
        raise InvalidData(
            f"the checkpoint {str(rest)!r} cannot be read ({error}); expected what a run wrote; delete the file to "
            "take the one before, or finetune(..., resume=False) to start again"
        ) from error
    if known.get("version") != _VERSION or known.get("fingerprint") != fingerprint:
        raise InvalidData(
            f"the checkpoint {str(rest)!r} belongs to another run: model, recipe or data differ; expected one of "
            "this run; take another folder, or finetune(..., resume=False) to start again"
        )
    return Saved(found, cast("Mapping[str, Json]", known))


def clear(where: Checkpoints) -> None:
    """Remove the states of an earlier run."""
    folder = Path(where.folder)
    for number in _numbers(folder) if folder.is_dir() else ():
        for file in reversed(_files(folder, number)):
            file.unlink(missing_ok=True)


def fingerprint(model: Model, recipe: Recipe, samples: int, teacher: Model | None) -> str:
    """Return what tells runs apart: model, recipe, teacher and the number of samples, but not the processes."""
    digest = hashlib.sha256(json.dumps([recipe.to_json(), samples]).encode())
    for each in (model, teacher) if teacher is not None else (model,):
        for node in each.graph.nodes:
            digest.update(f"{node.op}:{','.join(tensor.name for tensor in node.outputs)};".encode())
        for name, entry in stored(each).items():
            array = entry.array
            digest.update(f"{name}{array.shape}{array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def generators() -> tuple[dict[str, torch.Tensor], list[Json]]:
    """Return the states of torch's, Python's and numpy's generators of this process: tensors, and JSON."""
    tensors = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["cuda"] = torch.cuda.get_rng_state()
    version, words, gauss = random.getstate()
    kind, keys, place, has_gauss, cached = np.random.get_state(legacy=True)
    return tensors, [
        [version, list(words), gauss],
        [str(kind), [int(key) for key in keys], int(place), int(has_gauss), float(cached)],
    ]


def set_generators(tensors: Mapping[str, torch.Tensor], rest: Sequence[Json]) -> None:
    """Put generators back into the states that `generators` gave."""
    torch.set_rng_state(tensors["cpu"])
    if "cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda"])
    (version, words, gauss), (kind, keys, place, has_gauss, cached) = cast("list[list[Any]]", rest)
    random.setstate((version, tuple(words), gauss))
    np.random.set_state((kind, np.array(keys, np.uint32), place, has_gauss, cached))


def _files(folder: Path, number: int) -> tuple[Path, Path]:
    return folder / f"state-{number:09}.safetensors", folder / f"state-{number:09}.json"


def _numbers(folder: Path) -> list[int]:
    """Return the numbers of the complete states, oldest first."""
    found = [int(match[1]) for entry in folder.iterdir() if (match := _NAME.fullmatch(entry.name))]
    return sorted(number for number in found if all(file.exists() for file in _files(folder, number)))


def _write(path: Path, data: bytes) -> None:
    beside = path.with_name(f"{path.name}.part")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
