"""What the serving guide shows works as it stands, in Python, C++ and JavaScript, with the same numbers."""

import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import onnx
import pytest

from tests.custom_ops.runtimes.compiled import BUILT, ROOT, call, compiler, succeed

PAGE = ROOT / "graphrewrite" / "docs" / "guide" / "serving.md"
# Channel c of position p is number 4 c + p of the input, which is 1 where a multiple of 3, else -1.
BY_HAND = [sum(1 << c for c in range(32) if (4 * c + p) % 3 == 0) for p in range(4)]


def block(language: str, number: int = 0) -> str:
    """Return a fenced block of the page."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)[number]


def numbers(text: str) -> list[int]:
    """Return the lines of a program's output as numbers."""
    return [int(line) for line in text.split()]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write the page's model into the current folder, which is a new one, and return its path."""
    monkeypatch.chdir(tmp_path)
    exec(compile(block("python"), str(PAGE), "exec"), {})
    return tmp_path / "signs.onnx"


def test_python(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(block("python", 1), str(PAGE), "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert [numbers(line.strip("[]")) for line in lines] == [BY_HAND, BY_HAND]


def onnxruntime_library() -> Path:
    """Return onnxruntime's library inside its Python package, where recent releases have it as a file of its own."""
    spec = find_spec("onnxruntime")
    assert spec is not None and spec.origin is not None
    for found in (Path(spec.origin).parent / "capi").glob("libonnxruntime.so*"):
        return found
    pytest.skip("this onnxruntime package holds no library that a program can link")


def program(folder: Path) -> Path:
    """Build the page's C++ program in a folder; it finds onnxruntime's library there, under the name it asks for."""
    source, built, linked = folder / "serving.cc", folder / "serving", onnxruntime_library()
    source.write_text(block("cpp"), encoding="utf-8")
    (folder / "libonnxruntime.so.1").symlink_to(linked)
    flags = [
        "-std=c++17",
        "-Wall",
        "-Wextra",
        "-Werror",
        f"-I{Path(__file__).parent}",
        f"-Wl,-rpath,{folder}",
    ]
    succeed([compiler(), *flags, source, linked, "-o", built])
    return built


@pytest.mark.slow
def test_cpp(model: Path, library: Path) -> None:
    assert numbers(succeed([program(model.parent), model, library])) == BY_HAND


@pytest.mark.slow
def test_cpp_runs_the_kernel(model: Path, library: Path) -> None:
    bare = onnx.load(model)
    del bare.functions[:]
    onnx.save(bare, model)
    assert numbers(succeed([program(model.parent), model, library])) == BY_HAND


@pytest.mark.slow
def test_cpp_says_why_a_library_is_not_taken(model: Path) -> None:
    done = call([program(model.parent), model, model.with_name("none.so")])
    assert done.returncode == 1
    assert "none.so" in done.stderr


def node_modules() -> Path:
    """Return a folder that holds onnxruntime-node; skip where npm or the network is missing."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            pytest.skip(f"there is no {tool}")
    folder = BUILT / "node"
    if not (folder / "node_modules" / "onnxruntime-node").exists():
        folder.mkdir(parents=True, exist_ok=True)
        # Without its scripts, which fetch libraries for other processors; the one for this machine is in the package.
        done = call(["npm", "install", "--ignore-scripts", "--prefix", folder, "onnxruntime-node"], 300)
        if done.returncode != 0:
            pytest.skip(f"npm cannot install onnxruntime-node: {done.stderr.strip().splitlines()[:1]}")
    return folder / "node_modules"


@pytest.mark.slow
def test_javascript(model: Path) -> None:
    modules = node_modules()
    script = model.with_name("serving.js")
    script.write_text(block("js"), encoding="utf-8")
    assert numbers(succeed(["node", script], NODE_PATH=str(modules))) == BY_HAND
