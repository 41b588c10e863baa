"""What a search has tried, line by line in a file, so that one that was killed goes on where it was."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from graphrewrite.errors import GraphRewriteError, InvalidConfig
from graphrewrite.passes.search.trial import Trial
from graphrewrite.pipeline.base import Json
from graphrewrite.serial import from_json, parse, to_json

_FILE = "trials.jsonl"


class Diary:
    """The trials of one search in `folder`; without a folder they are only remembered.

    The first line says which search they belong to. A line that was cut short by a crash is dropped.

    Raises:
        InvalidConfig: the folder holds another search, or a file that is none.
    """

    def __init__(self, folder: Path | None, key: str) -> None:
        self.trials: dict[str, Trial] = {}
        self._path = None if folder is None else folder / _FILE
        if self._path is None:
            return
        self._first = json.dumps({"search": key})
        if not self._path.exists():
            return
        whole = self._path.read_bytes()
        kept = whole[: whole.rfind(b"\n") + 1]
        try:
            first, *rest = kept.decode("utf-8").splitlines() or [""]
            owner = parse(first, f"the first line of {str(self._path)!r}")
            found = [cast(Trial, from_json(parse(line, "a trial"), Trial)) for line in rest]
        except (GraphRewriteError, UnicodeDecodeError) as error:
            raise InvalidConfig(
                f"the record of trials {str(self._path)!r} cannot be read ({error}); expected one written by a search; "
                "choose another folder, or empty this one"
            ) from error
        if owner != {"search": key}:
            raise InvalidConfig(
                f"the folder {str(folder)!r} holds another search (other space, policy, goal, seed or model); "
                "expected this one or none; choose another folder, or empty this one"
            )
        if len(kept) < len(whole):
            os.truncate(self._path, len(kept))
        self.trials = {name_of(trial.values): trial for trial in found}

    def add(self, trial: Trial) -> None:
        """Write a trial down."""
        self.trials[name_of(trial.values)] = trial
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            if not file.tell():
                file.write(self._first + "\n")
            file.write(json.dumps(to_json(trial), allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())


def name_of(values: Mapping[str, Json]) -> str:
    """Return what tells a candidate from others: its values as text."""
    return json.dumps(to_json(values), sort_keys=True)
