"""What project files may not name: paths of one machine, hosts of package registries, missing documents."""

import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OURS = ["graphrewrite", "passes", "custom_ops", "models", "tests", ".ci"]
TEXT = {".py", ".md", ".toml", ".sh", ".json", ".j2", ".txt", ".yml", ".yaml", ".html", ""}

# Written in pieces, so that this file does not name them either.
MACHINE = re.compile(
    "|".join([r"(?<![\w.])/" + r"(work|root)/", "/tmp/" + "bash", "pypi" + r"\.org", "python" + "hosted"])
)
DOCUMENT = re.compile(r"[\w./-]*\w\.md\b")


def texts() -> Iterator[Path]:
    """Yield every text file that belongs to the project."""
    yield from (path for path in ROOT.iterdir() if path.is_file() and path.suffix in TEXT)
    for folder in OURS:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.is_file() and path.suffix in TEXT and "__pycache__" not in path.parts:
                yield path


def machine_lines(text: str) -> list[str]:
    """Return the lines that name a path of one machine or the host of a registry."""
    return [line for line in text.splitlines() if MACHINE.search(line)]


def missing_documents(text: str, present: set[str]) -> list[str]:
    """Return the Markdown files a text names whose file name is not in `present`."""
    return [name for name in DOCUMENT.findall(text) if name.rsplit("/", 1)[-1] not in present]


def test_no_file_names_a_machine_or_a_registry() -> None:
    found = {path.relative_to(ROOT).as_posix(): machine_lines(read(path)) for path in texts()}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_every_document_that_is_named_exists() -> None:
    present = {path.name for path in texts() if path.suffix == ".md"}
    found = {
        path.relative_to(ROOT).as_posix(): missing_documents(read(path), present)
        for path in texts()
        if path != Path(__file__).resolve()
    }
    assert {path: names for path, names in found.items() if names} == {}


def test_a_machine_path_is_found_and_a_folder_of_that_name_is_not() -> None:
    assert machine_lines("see /" + "work/main\nfine") == ["see /" + "work/main"]
    assert machine_lines("pip install -i https://pypi" + ".org/simple x") != []
    assert machine_lines("build/work/a.py, at work, ./work/b") == []


def test_a_missing_document_is_found() -> None:
    text = "the algebra (notes/algebra.md, section 6) and README.md"
    assert missing_documents(text, {"README.md"}) == ["notes/algebra.md"]


def read(path: Path) -> str:
    """Return the text of a file, whatever its bytes."""
    return path.read_text(encoding="utf-8", errors="replace")
