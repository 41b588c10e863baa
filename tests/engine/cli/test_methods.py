"""`graphrewrite methods`."""

import subprocess
import sys
from importlib.util import find_spec

import pytest

from graphrewrite.cli.methods import papers
from tests.engine.cli.conftest import Run


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Rank of maps (Lin et al., 2020, HRank).", ["Lin et al., 2020"]),
        ("after Polyak and Wolf, 2015", ["Polyak and Wolf, 2015"]),
        ("He, Zhang and Sun, 2017, equation 3", ["He, Zhang and Sun, 2017"]),
        ("Migacz 2017; Zagoruyko & Komodakis (2017)", ["Migacz, 2017", "Zagoruyko & Komodakis, 2017"]),
        (
            "Theis et al., 2018, then Liu et\nal., 2021, then Theis et al., 2018",
            ["Theis et al., 2018", "Liu et al., 2021"],
        ),
        ("Rastegari and others, 2016", ["Rastegari and others, 2016"]),
        ("O'Neil et al. 1999", ["O'Neil et al., 1999"]),
        ("rows of 2048 numbers, since 2020", []),
    ],
)
def test_papers_are_authors_and_years(text: str, found: list[str]) -> None:
    assert list(papers(text)) == found


def test_all_methods_are_listed_with_their_kind_and_paper(run: Run) -> None:
    ran = run("methods")
    lines = {tuple(line.split()[:2]): line for line in ran.out.splitlines()}
    assert ran.code == 0
    assert "Lin et al., 2020" in lines["criterion", "hrank"] and "data" in lines["criterion", "hrank"]
    assert "alpha, neighbours" in lines["criterion", "kse"] and "data" not in lines["criterion", "kse"]
    assert ("pass", "filter_sketch") in lines and ("mask", "one_by_n") in lines


def test_a_kind_or_a_name_is_shown_alone(run: Run) -> None:
    masks = run("methods", "--kind", "mask", "--json").document["methods"]
    assert {method["kind"] for method in masks} == {"mask"} and len(masks) >= 4
    both = run("methods", "l1", "--json").document["methods"]
    assert [method["kind"] for method in both] == ["block criterion", "criterion"]
    (one,) = run("methods", "l1", "--kind", "criterion", "--json").document["methods"]
    assert one["kind"] == "criterion"


def test_one_in_full_has_its_text_and_its_options_with_defaults(run: Run) -> None:
    out = run("methods", "kse").out
    assert "kse  (criterion)" in out
    assert "paper  Li et al., 2019" in out
    assert "needs  the model only" in out
    assert "s is the sum of |w| over the kernels" in out
    assert "alpha       float  1.0" in out
    assert "has to be given" in run("methods", "ratio").out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("hrnak",), "no method called 'hrnak'; did you mean hrank"),
        (
            ("--kind", "masks"),
            "no kind of methods called 'masks'; expected one of binarizer, block criterion",
        ),
        (("hrank", "--kind", "mask"), "hrank is no mask; it is a criterion"),
    ],
)
def test_what_is_not_there_is_said_with_what_is(run: Run, words: tuple[str, ...], told: str) -> None:
    ran = run("methods", *words)
    assert ran.code == 2
    assert told in ran.err


@pytest.mark.skipif(find_spec("torch") is None, reason="shows what torch brings")
def test_what_needs_torch_says_so(run: Run) -> None:
    by_name = {(m["kind"], m["name"]): m["needs"] for m in run("methods", "--json").document["methods"]}
    assert by_name["criterion", "taylor"] == ["data", "torch"]
    assert by_name["loss", "cross_entropy"] == ["data", "labels", "torch"]
    assert by_name["loss", "soft_labels"] == ["data", "teacher", "torch"]
    assert by_name["loss", "feature_match"] == ["data", "teacher", "torch"]
    assert by_name["pass", "finetune"] == ["data", "torch"]
    assert by_name["reconstruction", "mean"] == ["data"]
    assert by_name["mask", "magnitude"] == []
    assert by_name["mask", "lottery_jackpot"] == by_name["pass", "collaborative"] == ["data", "torch"]
    assert by_name["binarizer", "recu"] == by_name["binarizer", "react"] == ["data", "torch"]


WITHOUT_TORCH = """
import sys

sys.modules["torch"] = None  # as if it were not installed
from graphrewrite.cli import main

sys.exit(main(["methods"]))
"""


def test_without_torch_the_rest_is_listed_and_what_is_missing_is_named() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "hrank" in done.stdout and "step_quantize" not in done.stdout
    assert (
        "graphrewrite.bridge.transforms.sign is left out: it needs torch, which is not installed"
        in done.stderr
    )
