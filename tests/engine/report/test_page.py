"""The report page: complete, self-contained, and safe to open whatever the names in a model are."""

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from graphrewrite.dims.explain import explain
from graphrewrite.errors import MissingExtra
from graphrewrite.pipeline.quality import Accuracy, Agreement
from graphrewrite.report import Check, Latency, Layer, Left, Record, Section, Side, page
from graphrewrite.report.curves import Tried, course, tradeoff
from tests.engine.report.test_dot import net

pytest.importorskip("jinja2")
pytest.importorskip("matplotlib")

NASTY = "</text><script>alert(1)</script>$x^$ \x1b[2J --> {{ 7*7 }} &amp; \"'"


def layer(number: int, name: str = "") -> Layer:
    return Layer(name or f"layer{number}", "Conv", "w", (8, 3), (5, 3), 8, 5, 800, 500, 24, 15, "")


def record(layers: Sequence[Layer] = (layer(0), layer(1)), **more: object) -> Record:
    scores: Mapping[str, tuple[tuple[float, ...], tuple[int, ...]]] = {"w[0]": ((1.0, 2.0, 3.0), (1, 2))}
    plain = Record(
        title="net.onnx",
        command="graphrewrite prune net.onnx -o small.onnx --macs 0.5",
        before=Side(
            "net.onnx",
            4000,
            "a" * 64,
            9,
            1000,
            500,
            Accuracy(90, 100, 0.8, 0.95),
            Latency(0.002, 0.003, 1.0, 20),
        ),
        after=Side(
            "small.onnx",
            2000,
            "b" * 64,
            7,
            500,
            250,
            Accuracy(85, 100, 0.75, 0.9),
            Latency(0.001, 0.0015, 0.49, 20),
        ),
        asked="half of the MACs",
        checks=(Check("RemoveChannels", "outputs equal the masked original's", 3.2e-7, 1e-4),),
        layers=tuple(layers),
        left=(Left("head.weight[0]", "graph output logits"), Left("x[1]", "graph input")),
        seconds=1.5,
        samples="100 held-out samples",
        timing="batch of 1, 1 thread",
        agreement=(Agreement("logits", 1.5, 0.2, 18.3, 0.99, 0.95),),
        scores=scores,
        facts=(("seed", "0"),),
    )
    return replace(plain, **more)  # type: ignore[arg-type]


class Reader(HTMLParser):
    """Collects tags, their attributes and the text of a page; notices tags that are never closed."""

    void = frozenset({"meta", "br", "path", "use", "rect"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.open.append(tag)
        self.links.extend(
            str(value) for name, value in attrs if name in ("src", "href", "xlink:href", "action")
        )

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open[-1] in self.void and self.open[-1] != tag:
            self.open.pop()
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += f"{data} "


def test_every_figure_is_on_the_page() -> None:
    text = " ".join(Reader(page(record())).text.split())
    for figure in (
        "4.00 kB", "2.00 kB", "-50.0 %", "90.00 %", "85.00 %", "-5.00 points", "85 of 100, 95 % interval 75.0 to 90.0",
        "2.00 ms", "1.50 ms", "batch of 1, 1 thread", "18.3 dB", "0.99000", "95.0 %", "3.2e-07", "1.0e-04",
        "verified, largest error 3.2e-07", "graph output logits", "head.weight[0]", "a" * 64, "seed 0",
        "half of the MACs",        "100 held-out samples", "[8, 3] \u2192 [5, 3]", "8 \u2192 5",
    ):  # fmt: skip
        assert figure in text, figure


def test_nothing_is_loaded_from_elsewhere_and_nothing_runs() -> None:
    found = Reader(page(record()))
    assert not {"script", "link", "iframe", "img", "object", "embed", "form"} & set(found.tags)
    assert [link for link in found.links if not link.startswith("#")] == []
    assert "default-src 'none'" in page(record())
    assert "@import" not in page(record()) and "url(http" not in page(record())


def test_names_from_a_model_are_text_and_nothing_else() -> None:
    html = page(
        record(
            [layer(0, NASTY), layer(1)],
            title=NASTY,
            left=(Left(NASTY, NASTY),),
            scores={NASTY: ((1.0, 2.0), (0,))},
            checks=(Check(NASTY, NASTY, 0.0, 0.0),),
            agreement=(Agreement(NASTY, 0.0, 0.0, 1.0, 1.0, None),),
            facts=((NASTY, NASTY),),
        )
    )
    found = Reader(html)
    assert "script" not in found.tags
    assert "alert(1)" in found.text
    assert "{{ 7*7 }}" in found.text
    assert "\x1b" not in html


def test_pictures_take_the_colours_of_the_page() -> None:
    html = page(record())
    assert html.count("<svg") == 2
    assert "var(--after)" in html and "var(--before)" in html
    assert not re.search(r"#01020\d", html), "a stand-in colour was left"
    assert "prefers-color-scheme: dark" in html


def test_ids_of_the_pictures_do_not_clash() -> None:
    ids = re.findall(r'\bid="([^"]+)"', "".join(re.findall(r"<svg.*?</svg>", page(record()), re.S)))
    definitions = [entry for entry in ids if re.match(r"[pmCD][0-9a-f]{6,}", entry)]
    assert definitions
    assert len(set(definitions)) == len(definitions)


def test_the_page_is_the_same_for_the_same_record() -> None:
    assert page(record()) == page(record())


@pytest.mark.parametrize("count", [0, 1, 49, 300])
def test_any_number_of_layers_can_be_drawn(count: int) -> None:
    html = page(record([layer(number) for number in range(count)]))
    assert html.count("<svg") == (2 if count else 1)
    # Forty-nine names under one picture could not be read.
    assert ("layers in graph order" in html) == (count > 48)


def test_a_wide_model_makes_no_endless_page() -> None:
    many = {
        f"w{number}[0]": (tuple(map(float, range(2000))), tuple(range(1000, 2000))) for number in range(80)
    }
    html = page(record(scores=many))
    assert html.count("[0]</text>") == 60, "rows of the picture"
    assert len(html) < 5_000_000


def test_groups_are_drawn_with_what_was_kept() -> None:
    found = explain(net(1, NASTY))
    stream = next(group for group in found if group.units == 8)
    html = page(record(groups=found, kept={stream.name: 3}))
    text = Reader(html).text
    assert html.count("<svg") == 3
    assert "8 \u2192 3" in text
    assert "position by position" in text
    assert "script" not in Reader(html).tags and "\x1b" not in html


def test_what_was_not_measured_is_left_out() -> None:
    bare = record(agreement=(), scores={}, left=(), checks=())
    bare = replace(
        bare,
        before=replace(bare.before, accuracy=None, latency=None),
        after=replace(bare.after, accuracy=None, latency=None),
    )
    text = Reader(page(bare)).text
    assert "latency" not in text and "accuracy" not in text and "Scores" not in text
    assert "not verified" in text
    assert "Nothing was verified in this run" in text
    text = Reader(page(replace(bare, is_unchanged=True))).text
    assert "not verified" not in text and "nothing to check" in text


def test_without_labels_the_agreement_leads() -> None:
    bare = record()
    bare = replace(bare, before=replace(bare.before, accuracy=None), after=replace(bare.after, accuracy=None))
    assert "output, signal to noise" in Reader(page(bare)).text


@pytest.mark.parametrize("package", ["jinja2", "matplotlib"])
def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingExtra, match=r"graphrewrite\[report\]"):
        page(record())


def test_a_section_of_a_command_has_its_words_its_table_and_its_picture() -> None:
    picture = tradeoff([Tried({"macs": 0.5}, 0.9, is_front=True, is_chosen=True)], "accuracy", ["macs"], 1.0)
    section = Section(NASTY, "tried 9", picture, ("settings", "accuracy"), ((NASTY, "0.93"),), ("accuracy",))
    read = Reader(page(record(sections=(section,))))
    assert "script" not in read.tags and "tried 9" in read.text and "0.93" in read.text
    assert "of the original's" in read.text and "chosen" in read.text
    assert read.tags.count("svg") == 1 + Reader(page(record())).tags.count("svg")


def test_a_course_leaves_out_what_was_not_measured() -> None:
    drawn = course({"loss": [2.0, 1.0], "validation loss": [None, None]}, [None, 0.5], "accuracy")
    assert "accuracy" in drawn and "validation loss" not in drawn
    assert course({"loss": [None]}, [], "score") == ""
    assert tradeoff([], "accuracy", ["macs"], 1.0) == ""
