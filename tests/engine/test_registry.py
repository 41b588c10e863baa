"""Files of a folder register themselves; whatever goes wrong on the way is reported with its name and cause."""

import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from graphrewrite.errors import InvalidConfig, UnknownNameError
from graphrewrite.registry import Registry

_numbers = count()

ENTRY = """
from dataclasses import dataclass
from {package} import things

@things.register("{name}")
@dataclass(frozen=True)
class Thing:
    size: int = 1
"""


class Folder:
    """A package on disk with a registry in its __init__, under a name no other test uses."""

    def __init__(self, root: Path, depth: int = 0) -> None:
        self.name = f"plugs_{next(_numbers)}"
        self.path = root / self.name
        self.write("__init__.py", self._registry(depth))

    def _registry(self, depth: int) -> str:
        return (
            "from graphrewrite.registry import Registry\n"
            f"things: Registry[object] = Registry('thing', package=__name__, depth={depth})\n"
        )

    def write(self, file: str, text: str) -> None:
        path = self.path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")

    def entry(self, file: str, name: str) -> None:
        self.write(file, ENTRY.format(package=self.name, name=name))

    def registry(self) -> Registry[object]:
        module = __import__(self.name)
        assert isinstance(module.things, Registry)
        return module.things


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_a_file_put_into_the_folder_is_found(root: Path) -> None:
    folder = Folder(root)
    folder.entry("small.py", "small")
    folder.entry("large.py", "large")

    assert list(folder.registry()) == ["large", "small"]
    assert "small" in folder.registry()
    assert folder.registry().name_of(folder.registry().make("small", size=3)) == "small"


def test_nothing_is_imported_before_the_first_use(root: Path) -> None:
    folder = Folder(root)
    folder.entry("small.py", "small")
    registry = folder.registry()

    assert f"{folder.name}.small" not in sys.modules
    assert "small" in registry
    assert f"{folder.name}.small" in sys.modules


@pytest.mark.parametrize(("depth", "found"), [(0, []), (1, ["inner"])])
def test_files_of_subfolders_register_when_the_registry_walks_that_deep(
    root: Path, depth: int, found: list[str]
) -> None:
    folder = Folder(root, depth)
    folder.write("family/__init__.py", '"""A family."""')
    folder.entry("family/inner.py", "inner")
    folder.write("family/deeper/__init__.py", '"""Too deep."""')
    folder.entry("family/deeper/hidden.py", "hidden")

    assert list(folder.registry()) == found


def test_a_broken_file_is_reported_with_its_name_and_cause_every_time(root: Path) -> None:
    folder = Folder(root)
    folder.write("broken.py", "import nowhere_to_be_found")

    for _ in range(2):  # a second use must not find an empty registry instead
        with pytest.raises(
            InvalidConfig, match=rf"{folder.name}\.broken .*No module named 'nowhere_to_be_found'"
        ):
            list(folder.registry())


def test_a_file_that_wants_an_absent_extra_is_left_out_and_named_when_missed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it now fails as if it were not installed
    folder = Folder(root)
    folder.entry("small.py", "small")
    folder.write("trained.py", "import torch.nn")

    assert list(folder.registry()) == ["small"]
    with pytest.raises(UnknownNameError, match=rf"{folder.name}\.trained is left out, it needs torch"):
        folder.registry().make("trained")


def test_a_name_used_twice_is_an_error_that_names_both(root: Path) -> None:
    folder = Folder(root)
    folder.entry("one.py", "same")
    folder.entry("two.py", "same")

    with pytest.raises(
        InvalidConfig, match=rf"'same' is registered twice, by {folder.name}\.one.*{folder.name}\.two"
    ):
        list(folder.registry())


def test_an_unknown_name_lists_the_nearest(root: Path) -> None:
    folder = Folder(root)
    folder.entry("small.py", "small")
    folder.entry("other.py", "quite_different")

    with pytest.raises(UnknownNameError, match="no thing called 'smal'; did you mean small\\?"):
        folder.registry().make("smal")


def test_fields_that_do_not_fit_are_refused(root: Path) -> None:
    folder = Folder(root)
    folder.entry("small.py", "small")

    with pytest.raises(InvalidConfig, match="thing 'small' does not take these options.*'colour'"):
        folder.registry().make("small", colour="red")


def test_an_object_of_another_class_has_no_name(root: Path) -> None:
    with pytest.raises(UnknownNameError, match="int is not a registered thing"):
        Folder(root).registry().name_of(3)


def distribution(root: Path, kind: str, target: str) -> None:
    """Pretend that a distribution with one entry point is installed."""
    info = root / "extra_things-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: extra-things\nVersion: 1.0\n", encoding="utf-8"
    )
    (info / "entry_points.txt").write_text(f"[graphrewrite.{kind}]\nextra = {target}\n", encoding="utf-8")


def test_another_distribution_adds_entries_through_an_entry_point(root: Path) -> None:
    folder = Folder(root)
    text = ENTRY.format(package=folder.name, name="extra")
    (root / "extra_things.py").write_text(text, encoding="utf-8")
    distribution(root, "thing", "extra_things:Thing")

    assert list(folder.registry()) == ["extra"]


def test_a_broken_entry_point_is_reported_with_its_name_and_cause(root: Path) -> None:
    folder = Folder(root)
    distribution(root, "thing", "not_there:Thing")

    with pytest.raises(InvalidConfig, match=r"'extra' \(not_there:Thing\).*No module named 'not_there'"):
        list(folder.registry())
