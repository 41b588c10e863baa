"""Build the corpus: `python tests/corpus/build.py [--only PATTERN] [--core] [--list] [--retry] [--jobs N]`.

Every model is made in a forked process with a time limit, so that a crash, a leak or an endless export
costs one file only. The index is rewritten after each file: an interrupted run resumes where it stopped.
"""

import argparse
import fnmatch
import importlib
import json
import multiprocessing
import os
import sys
import time
from collections import deque
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.corpus.check import check, count_params, opset
from tests.corpus.index import FAILURES_NAME, INDEX_NAME, Entry, cache_folder, entries
from tests.corpus.spec import Spec

SOURCES = (
    "plain_convs",
    "plain_images",
    "plain_generators",
    "plain_recurrent",
    "plain_scripted",
    "plain_attention",
    "plain_tables",
    "foreign_keras",
    "foreign_frameworks",
    "foreign_control",
    "foreign_nets",
    "foreign_loops",
    "derived",
    "onnx_hub",
    "sklearn_models",
    "torchvision_models",
    "timm_models",
    "transformers_models",
    "transformers_cached",
    "derived_transformers",
    "keras_models",
    "elsewhere",
)
SECONDS_PER_FILE = 240


def main() -> int:
    """Build what is missing; 0 when something is in the cache afterwards."""
    options = _options()
    # onnxruntime and torch would each start a thread per core in every process.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    chosen, absent = _specs()
    names = {spec.name for spec in chosen}
    chosen = [spec for spec in chosen if not options.core or spec.core]
    chosen = [spec for spec in chosen if any(fnmatch.fnmatch(spec.name, p) for p in options.only)]
    chosen.sort(key=lambda spec: not spec.core)
    for source, reason in absent.items():
        print(f"source {source} skipped: {reason}", file=sys.stderr)
    if options.list:
        print("\n".join(f"{spec.name:44} {spec.family:14} {spec.source}" for spec in chosen))
        return 0
    # Imported before the fork, the exporter costs its two seconds once.
    importlib.import_module("torch.onnx._internal.exporter._core")
    importlib.import_module("onnxscript.optimizer")
    cache = _Cache(cache_folder())
    todo = [spec for spec in chosen if options.force or not cache.knows(spec.name, options.retry)]
    print(f"{len(chosen)} chosen, {len(todo)} to build, cache {cache.folder}")
    if not absent:
        cache.forget({*cache.entries, *cache.failures} - names)
    _build_all(todo, cache, options.jobs)
    size = sum(entry.path.stat().st_size for entry in cache.entries.values())
    architectures = {entry.architecture for entry in cache.entries.values()}
    print(
        f"{len(cache.entries)} files of {len(architectures)} architectures, {size / 1e9:.2f} GB, "
        f"{len(cache.failures)} failures"
    )
    return 0 if cache.entries else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Build the corpus of exported models.")
    parser.add_argument(
        "--only", action="append", metavar="PATTERN", help="names to build, such as 'resnet*.ts'"
    )
    parser.add_argument("--core", action="store_true", help="the first, small set only")
    parser.add_argument("--list", action="store_true", help="print the names and stop")
    parser.add_argument("--retry", action="store_true", help="try recorded failures again")
    parser.add_argument("--force", action="store_true", help="rebuild files that exist")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time (default 1)")
    options = parser.parse_args()
    options.only = options.only or ["*"]
    return options


def _specs() -> tuple[list[Spec], dict[str, str]]:
    """All specs, and the sources whose libraries are missing with the reason."""
    found: list[Spec] = []
    absent: dict[str, str] = {}
    for source in SOURCES:
        try:
            found += importlib.import_module(f"tests.corpus.{source}").specs_of_source()
        except ImportError as problem:
            absent[source] = str(problem)
    names = [spec.name for spec in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(
            f"names used twice in the corpus: {', '.join(sorted(twice))}; file names must be unique"
        )
    return found, absent


class _Cache:
    """The folder with its index and failures, both written after every change."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.entries = {entry.name: entry for entry in entries(folder)}
        failures = folder / FAILURES_NAME
        self.failures: dict[str, str] = json.loads(failures.read_text()) if failures.is_file() else {}

    def knows(self, name: str, retry: bool) -> bool:
        return name in self.entries or (name in self.failures and not retry)

    def add(self, entry: Entry) -> None:
        self.entries[entry.name] = entry
        self.failures.pop(entry.name, None)
        self._write()

    def fail(self, name: str, reason: str) -> None:
        self.failures[name] = reason
        self._write()

    def forget(self, names: set[str]) -> None:
        """Remove what no source describes any more."""
        for name in names:
            self.failures.pop(name, None)
            if name in self.entries:
                self.entries.pop(name).path.unlink(missing_ok=True)
        self._write()

    def _write(self) -> None:
        records = [self.entries[name].record() for name in sorted(self.entries)]
        _replace(self.folder / INDEX_NAME, json.dumps(records, indent=1).encode())
        _replace(self.folder / FAILURES_NAME, json.dumps(self.failures, indent=1, sort_keys=True).encode())


def _replace(path: Path, content: bytes) -> None:
    """Write beside, then rename: a reader never sees half a file."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    beside.write_bytes(content)
    os.replace(beside, path)


@dataclass
class _Job:
    spec: Spec
    process: ForkProcess
    answer: Connection
    started: float


def _build_all(todo: list[Spec], cache: _Cache, jobs: int) -> None:
    # Fork, not spawn: the libraries are imported once, and specs hold closures.
    context = multiprocessing.get_context("fork")
    waiting = deque(todo)
    running: list[_Job] = []
    done = 0
    while waiting or running:
        while waiting and len(running) < jobs:
            spec = waiting.popleft()
            receiver, sender = context.Pipe(duplex=False)
            process = context.Process(target=_build_one, args=(spec, cache.folder, sender), daemon=True)
            process.start()
            sender.close()
            running.append(_Job(spec, process, receiver, time.monotonic()))
        for job in list(running):
            answer = _answer(job)
            if answer is None:
                continue
            running.remove(job)
            done += 1
            seconds = time.monotonic() - job.started
            if isinstance(answer, Entry):
                cache.add(answer)
                text = f"ok    {answer.params / 1e6:6.2f} M parameters, {answer.nodes:5} nodes"
            else:
                cache.fail(job.spec.name, answer)
                text = f"FAIL  {answer}"
            print(f"[{done}/{len(todo)}] {job.spec.name:42} {seconds:5.1f} s  {text}", flush=True)


def _answer(job: _Job) -> Entry | str | None:
    """What the process said, why it said nothing, or None while it still works."""
    if job.answer.poll(0.2):
        try:
            answer = job.answer.recv()
        except EOFError:
            job.process.join()
            return f"the process died with code {job.process.exitcode}"
        job.process.join()
        assert isinstance(answer, (Entry, str))
        return answer
    if time.monotonic() - job.started > SECONDS_PER_FILE:
        job.process.kill()
        job.process.join()
        return f"took more than {SECONDS_PER_FILE} s"
    return None


def _build_one(spec: Spec, folder: Path, answer: Connection) -> None:
    """Runs in the child: build, check, write, report."""
    # Exporters print advice and whole graphs; it would bury the one line per file.
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        built = spec.build()
        check(built.proto, built.feeds, built.standard)
        _replace(folder / f"{spec.name}.onnx", built.proto.SerializeToString())
    except Exception as problem:
        answer.send(_reason(problem))
        return
    answer.send(
        Entry(
            name=spec.name,
            architecture=spec.architecture,
            family=spec.family,
            source=spec.source,
            exporter=spec.exporter,
            opset=opset(built.proto),
            params=count_params(built.proto),
            nodes=len(built.proto.graph.node),
            dynamic_batch=any(None in feed.shape for feed in built.feeds),
            core=spec.core,
            feeds=built.feeds,
            folder=folder,
        )
    )


def _reason(problem: BaseException) -> str:
    """The first line of the innermost cause: exporters wrap it in pages of advice."""
    while problem.__cause__ is not None:
        problem = problem.__cause__
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()] or [""]
    return f"{type(problem).__name__}: {lines[0][:300]}"


if __name__ == "__main__":
    sys.exit(main())
