"""Pictures of a search: what is drawn follows from what was tried."""

from graphrewrite.report.curves import Tried, reached, tradeoff


def tried(macs: float, quality: float, **more: float) -> Tried:
    return Tried({"macs": macs, **more}, quality, is_front=True, is_chosen=False)


def test_the_line_has_those_that_nothing_cheaper_reaches() -> None:
    found = [tried(0.9, 0.8), tried(0.2, 0.5), tried(0.4, 0.5), tried(0.5, 0.9), tried(0.5, 0.7)]
    assert reached(found, "macs") == [(0.2, 0.5), (0.5, 0.9)]
    assert reached([tried(0.2, 0.5, latency=1.2), tried(0.1, 0.4)], "latency") == [(1.2, 0.5)]


def test_each_cost_has_a_panel() -> None:
    picture = tradeoff(
        [tried(0.5, 0.9, bytes=0.4, latency=0.7)], "accuracy", ["macs", "bytes", "latency"], 0.95
    )
    assert all(f"{cost}, of the original's" in picture for cost in ("macs", "bytes", "latency"))
