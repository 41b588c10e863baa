"""The library and the host, built together in one way: plain, with sanitizers, or for another processor."""

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from tests.custom_ops.runtimes.compiled import BUILT, ROOT, call, compiler, succeed

HOST = Path(__file__).parent
OPS = ROOT / "custom_ops"
ISAS = ("scalar", "avx2", "avx512", "amx", "neon")

RELEASE = "-DCMAKE_BUILD_TYPE=Release"

# A leak is a fault like any other: every status, shape and kernel has to be given back.
_ADDRESS = {
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1:abort_on_error=0",
    "UBSAN_OPTIONS": "abort_on_error=1",  # so that the host says which case it was
}
SANITIZERS: dict[str, tuple[str, Mapping[str, str]]] = {
    "plain": ("", {}),
    "address": ("address,undefined,float-cast-overflow", _ADDRESS),
    "thread": ("thread", {"TSAN_OPTIONS": "halt_on_error=1"}),
}


@dataclass(frozen=True)
class Built:
    """A host and a library that belong together; `words` come before the host, `environment` is added to ours."""

    host: Path
    library: Path
    words: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, verb: str, *arguments: str | Path, **environment: str) -> tuple[int, str]:
        """Call the host on the library; return its exit code and all it printed."""
        command = [*self.words, self.host, verb, self.library, *arguments]
        done = call(command, 900, **{**self.environment, **environment})
        return done.returncode, done.stdout + done.stderr

    def isas(self, cases: Path) -> list[str]:
        """Return the instruction sets the machine has, found by asking for each; `cases` are any that must run."""
        found = []
        for isa in ISAS:
            _, text = self.run("run", cases, GRAPHREWRITE_ISA=isa)
            if "GRAPHREWRITE_ISA is" not in text:
                found.append(isa)
        return found


def planted(kind: str) -> Built:
    """Build the host and the planted faults with the sanitizers of that kind; skip where tools are missing."""
    flags, environment = SANITIZERS[kind]
    compiler()
    instrument = f"-fsanitize={flags} -fno-sanitize-recover=all -fno-omit-frame-pointer" if flags else ""
    folder = _cmake(HOST, f"host-{kind}", [RELEASE, _optimised(kind), f"-DCMAKE_CXX_FLAGS={instrument}"])
    return Built(folder / "gr_host", folder / "libplanted.so", environment=environment)


def built(kind: str) -> Built:
    """Build the host and the operators' library in the same way."""
    beside = planted(kind)
    flags, _ = SANITIZERS[kind]
    library = _library(_cmake(OPS, f"ops-{kind}", [RELEASE, _optimised(kind), f"-DGR_SANITIZE={flags}"]))
    return replace(beside, library=library)


def _optimised(kind: str) -> str:
    # Instrumented intrinsics, unrolled, take minutes a file at higher levels.
    return f"-DCMAKE_CXX_FLAGS_RELEASE={'-O3' if kind == 'plain' else '-O1 -g'} -DNDEBUG"


def built_for_aarch64() -> Built:
    """Build with a cross compiler and run under an emulator; skip where they are missing."""
    cross, emulator = (
        "aarch64-linux-gnu-g++",
        shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64"),
    )
    if shutil.which(cross) is None or emulator is None:
        pytest.skip(f"needs {cross} and qemu-aarch64 (Debian: g++-aarch64-linux-gnu, qemu-user-static)")
    options = [
        "-DCMAKE_SYSTEM_NAME=Linux",
        "-DCMAKE_SYSTEM_PROCESSOR=aarch64",
        f"-DCMAKE_CXX_COMPILER={cross}",
        RELEASE,
    ]
    host = _cmake(HOST, "host-aarch64", options) / "gr_host"
    library = _library(_cmake(OPS, "ops-aarch64", options))
    return Built(host, library, words=(emulator, "-L", "/usr/aarch64-linux-gnu"))


def _cmake(source: Path, name: str, options: Sequence[str]) -> Path:
    if shutil.which("cmake") is None:
        pytest.skip("building needs cmake")
    folder = BUILT / name
    with _alone(name):
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        succeed(["cmake", "-S", source, "-B", folder, *generator, *options])
        succeed(["cmake", "--build", folder, "--parallel", str(os.cpu_count() or 1)], 1500)
    return folder


def _library(folder: Path) -> Path:
    (found,) = (path for path in folder.iterdir() if path.suffix in {".so", ".dylib", ".dll"})
    return found


@contextmanager
def _alone(name: str) -> Iterator[None]:
    """Keep other test processes out of a build folder; what they would build is there when they get in."""
    BUILT.mkdir(parents=True, exist_ok=True)
    with (BUILT / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
