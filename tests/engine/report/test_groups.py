"""The picture of groups along the depth of a net."""

import re
import time
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from graphrewrite.dims.explain import explain
from graphrewrite.errors import InvalidConfig
from graphrewrite.ir import Builder
from graphrewrite.report.groups import check_picture, groups, picture, stages, unprefixed
from tests.engine.report.test_dot import NASTY, net

pytest.importorskip("matplotlib")


def texts(svg: str) -> list[str]:
    """The words of a picture; fails when it is no XML."""
    return [
        "".join(e.itertext()).strip() for e in ElementTree.fromstring(svg).iter() if e.tag.endswith("text")
    ]


def test_kinds_units_and_layers_are_written() -> None:
    found = texts(picture(explain(net(2)), "net.onnx", ".svg").decode())
    assert {"width", "channels", "pinned", "8", "6", "stem", "block1.out", "head", "MACs"} <= set(found)
    # 16 positions of 8*3, twice 6*8 + 8*6, and 4*8 products.
    assert "net.onnx: 3 groups of channels; 100.0 % of 3.97 k MACs can shrink" in found
    assert "stays: graph input x" in found


def test_units_kept_are_written_and_drawn_on_a_page() -> None:
    found = explain(net(1))
    stream = next(g.name for g in found if g.units == 8)
    svg = groups(found, {stream: 2})
    assert "8 \u2192 2" in texts(svg)
    assert "6" in texts(svg)
    assert groups(found, {}) != svg
    assert not re.search(r"#01020\d", svg), "a stand-in colour was left"


def test_odd_names_stay_text() -> None:
    svg = picture(explain(net(1, NASTY)), NASTY, ".svg").decode()
    assert any('a"b\\c' in text for text in texts(svg))
    assert "\x1b" not in svg
    assert "<f>" not in svg


def test_pictures_are_the_same_every_time_and_come_in_two_formats() -> None:
    found = explain(net(1))
    assert picture(found, "n", ".svg") == picture(found, "n", ".svg")
    assert picture(found, "n", ".png").startswith(b"\x89PNG")
    assert picture(found, "n", ".png") == picture(found, "n", ".PNG")


def test_other_formats_are_refused_with_a_name_that_works(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"groups\.svg"):
        check_picture(str(tmp_path / "groups.jpeg"))


def test_nets_without_groups_or_layers_can_be_drawn() -> None:
    b = Builder()
    empty = explain(b.model(b.input([2], name="x")))
    assert groups(empty, {}) == ""
    assert b"<svg" in picture(empty, "empty", ".svg")


def test_a_thousand_layers_are_drawn_fast_and_repeat_in_the_same_lanes() -> None:
    found = explain(net(500))
    start = time.process_time()
    svg = picture(found, "deep", ".svg").decode()
    taken = time.process_time() - start
    assert taken < 8, f"{taken:.1f} s"
    size = re.search(r'viewBox="0 0 [\d.]+ ([\d.]+)"', svg)
    assert size and float(size[1]) < 600, "500 blocks share the lanes of one"


def test_columns_are_named_by_their_stages() -> None:
    names = [f"stage{i}.block{j}.conv{k}" for i in range(4) for j in range(12) for k in range(3)]
    assert stages(names) == [(36 * i, 36 * i + 35, f"stage{i}") for i in range(4)]
    assert stages(names, most=48)[1] == (3, 5, "stage0.block1")
    assert stages([]) == []


def test_a_path_that_most_names_share_is_left_out() -> None:
    assert unprefixed(["m/e/a", "m/e/b", "m/e/c/d", "x"]) == ["a", "b", "c/d", "x"]
    assert unprefixed(["m/a", "n/b"]) == ["m/a", "n/b"]
    assert unprefixed([]) == []
