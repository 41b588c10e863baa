"""Candidates are tried by processes, by Dask and by Ray, and come out as when one process tries them all."""

from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from multiprocessing import get_context
from pathlib import Path

import pytest

from graphrewrite.passes.search import search
from graphrewrite.passes.search.policies.evolution import Evolution
from graphrewrite.passes.search.trial import Task, Trial
from tests.passes.search.nets import answered, net, plan

pytestmark = pytest.mark.slow


@contextmanager
def processes() -> Iterator[Executor]:
    """Two processes of this machine."""
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        yield pool


@contextmanager
def dask() -> Iterator[Executor]:
    """A Dask cluster of two local workers."""
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
    with cluster, distributed.Client(cluster) as client, client.get_executor() as executor:
        yield executor


@contextmanager
def ray() -> Iterator[Executor]:
    """A Ray node with two workers; an executor is a few lines there."""
    found = pytest.importorskip("ray")

    class RayExecutor(Executor):
        def submit(self, fn: Callable[[Task], Trial], /, *args: Task) -> Future[Trial]:  # type: ignore[override]
            future: Future[Trial] = found.remote(fn).remote(*args).future()
            return future

    found.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        yield RayExecutor()
    finally:
        found.shutdown()


@pytest.mark.parametrize("cluster", [processes, dask, ray])
def test_any_executor_finds_what_one_process_finds(
    cluster: Callable[[], AbstractContextManager[Executor]], tmp_path: Path
) -> None:
    asked = plan(Evolution(2, 4, 2, 2), evaluations=6)
    alone = search(net(), asked, answered(), seed=5, threads=1)
    with cluster() as executor:
        found = search(net(), asked, answered(), seed=5, threads=1, executor=executor, folder=tmp_path)
    assert [(t.values, t.found) for t in found.trials] == [(t.values, t.found) for t in alone.trials]
    assert len((tmp_path / "trials.jsonl").read_text().splitlines()) == 2 + 6
