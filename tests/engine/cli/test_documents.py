"""What the README, the guide and the help pages show must work as it stands."""

import re
import shlex
from pathlib import Path

import pytest

from graphrewrite.cli.parser import parse
from graphrewrite.cli.verbs import verbs
from graphrewrite.pipeline import Pipeline

ROOT = Path(__file__).resolve().parents[3]
# Code that imports one of these trains, which needs torch.
TRAINING = tuple(
    f"graphrewrite.{room}"
    for room in (
        "bridge",
        "passes.train",
        "passes.losses",
        "passes.recipes",
        "passes.quant.rounders.adaround",
    )
)
PAGES = [ROOT / "README.md", *sorted((ROOT / "graphrewrite" / "docs" / "guide").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), re.S)


def commands(text: str) -> list[str]:
    """Return the graphrewrite commands of a text, up to the first pipe, redirection or comment of the shell."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = [line.strip().removeprefix("$ ") for line in joined.splitlines()]
    found = [line for line in lines if re.match(r"graphrewrite [a-z]", line)]
    return [re.split(r"\s+(?:[|>;]|\|\||&&|#)(?:\s|$)|;|  +", line)[0] for line in found]


def test_commands_are_found_without_what_the_shell_does_with_them() -> None:
    text = (
        "$ graphrewrite tidy a.onnx \\\n    -o b.onnx || echo no\n"
        "graphrewrite bench a --json | jq .x\nother\ngraphrewrite inspect m   words"
    )
    assert commands(text) == [
        "graphrewrite tidy a.onnx -o b.onnx",
        "graphrewrite bench a --json",
        "graphrewrite inspect m",
    ]


SHOWN = [
    (page.name, command)
    for page in PAGES
    for language in ("sh", "console")
    for block in blocks(page, language)
    for command in commands(block)
]


def test_there_is_a_command_for_every_verb() -> None:
    assert {command.split()[1] for _, command in SHOWN} >= {"inspect", "tidy", "prune", "compare", "bench"}


@pytest.mark.parametrize(("page", "command"), SHOWN)
def test_commands_in_documents_are_understood(page: str, command: str) -> None:
    if "COMMAND" not in command:
        parse(shlex.split(command)[1:])


@pytest.mark.parametrize("name", list(verbs))
def test_commands_in_help_pages_are_understood(name: str) -> None:
    found = commands(verbs.make(name).examples)
    assert found
    for command in found:
        parse(shlex.split(command)[1:])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_in_documents_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if any("digits" in block for block in blocks(page, "python")):
        pytest.importorskip("sklearn")
    if any(room in block for block in blocks(page, "python") for room in TRAINING):
        pytest.importorskip("torch")
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), {"__name__": page.stem})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_pipelines_in_documents_are_read(page: Path) -> None:
    for block in blocks(page, "json"):
        assert Pipeline.from_json(block).steps


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_in_documents_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", text):
        assert (page.parent / target).exists(), target


def links(page: Path) -> list[str]:
    """Return what a page links to in this repository."""
    found = re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
    return [target for target in found if "://" not in target]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    assert [target for target in links(page) if not (page.parent / target).exists()] == []


def test_every_method_has_its_page_in_the_list() -> None:
    guide = ROOT / "graphrewrite" / "docs" / "guide"
    listed = {(guide / target).resolve() for target in links(guide / "methods.md")}
    assert {path.resolve() for path in (guide / "methods").glob("*.md")} <= listed
