"""Foretelling a layer's time from measured ones: exact at the points, between them in between, honest without any."""

import json
from pathlib import Path

import pytest

from graphrewrite.cost.speeds import Point, Speeds, Work, gain, load_speeds, positions, speeds_path
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir.symbols import Symbols


def known() -> Speeds:
    """One gigaproduct a second at 64 channels, four at 256."""
    slow, fast = Work(64, 64, 196), Work(256, 256, 196)
    return Speeds(
        "none",
        "m",
        "r",
        (Point("Conv", slow, slow.operations / 1e9), Point("Conv", fast, fast.operations / 4e9)),
    )


def test_a_measured_layer_comes_back() -> None:
    assert known().seconds("Conv", Work(64, 64, 196)) == pytest.approx(64 * 64 * 196 / 1e9)


def test_halfway_on_the_logarithmic_scale_the_speed_is_the_geometric_mean() -> None:
    found = known().seconds("Conv", Work(128, 128, 196))
    assert found == pytest.approx(128 * 128 * 196 / 2e9)


def test_half_the_products_take_less_time_at_the_same_speed() -> None:
    whole, half = (known().seconds("Conv", Work(64, 64, 196, 1, share)) for share in (1.0, 0.5))
    assert whole is not None and half is not None and half < whole


def test_what_was_not_measured_is_not_known() -> None:
    assert known().seconds("MatMul", Work(64, 64, 1)) is None


def test_a_gain_is_one_that_is_left_when_a_network_takes_its_part() -> None:
    work = Work(64, 64, 196)
    machine = Speeds("isa", "here", "r", (Point("old", work, 1e-3), Point("new", work, 0.89e-3)))
    assert gain(machine, ("old", work), ("new", work)) == pytest.approx(1 / 0.89)
    assert gain(machine, ("new", work), ("old", work)) == "it would run 0.89 times as fast on here (isa)"
    slower = Speeds("isa", "here", "r", (Point("old", work, 1e-3), Point("new", work, 0.91e-3)))
    assert gain(slower, ("old", work), ("new", work)) == "it would run 1.10 times as fast on here (isa)"


def test_no_gain_is_foretold_where_nothing_was_measured() -> None:
    work = Work(64, 64, 196)
    assert "no speeds of other are known" in str(gain(known(), ("Conv", work), ("other", work)))
    assert "no speeds of MatMul are known" in str(gain(known(), ("MatMul", work), ("Conv", work)))
    assert "graphrewrite calibrate" in str(gain(None, ("Conv", work), ("Conv", work)))


def test_machines_with_matrix_tiles_run_what_was_measured_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GRAPHREWRITE_SPEEDS", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert load_speeds("amx") == load_speeds("avx512") is not None


def test_positions_are_counted_from_shapes() -> None:
    batch = Symbols().size("batch", (2, 3))
    assert positions((3, 5)) == 15
    assert positions(()) == 1
    assert positions((batch, 5)) == 5
    assert positions((batch, 5, batch), unknown=7) == 35
    assert positions((0, 5)) == 1


def test_a_file_comes_back_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRAPHREWRITE_SPEEDS", str(tmp_path / "folder" / "speeds.json"))
    known().save(speeds_path("none"))
    assert load_speeds("none") == known()
    assert [path.name for path in (tmp_path / "folder").iterdir()] == ["speeds.json"]


def test_no_machine_is_made_up() -> None:
    assert load_speeds("an instruction set nobody has") is None


@pytest.mark.parametrize("text", ["", "{}", '{"format": 99}', '{"format": 1, "isa": "x", "points": [{}]}'])
def test_a_damaged_file_is_named(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "speeds.json"
    path.write_text(text, encoding="utf-8")
    monkeypatch.setenv("GRAPHREWRITE_SPEEDS", str(path))
    with pytest.raises(InvalidConfig, match="speeds.json"):
        load_speeds("avx2")


def test_a_time_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "speeds.json"
    known().save(path)
    content = json.loads(path.read_text(encoding="utf-8"))
    content["points"][0]["seconds"] = 0
    path.write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setenv("GRAPHREWRITE_SPEEDS", str(path))
    with pytest.raises(InvalidConfig, match="not positive"):
        load_speeds("avx2")
