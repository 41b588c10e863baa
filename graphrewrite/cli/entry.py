"""Running one command: streams, signals, and every failure as one line and an exit code."""

import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from types import FrameType
from typing import TextIO

from graphrewrite.cli.parser import parse
from graphrewrite.cli.screen import Screen
from graphrewrite.errors import GraphRewriteError, VerificationError
from graphrewrite.report.text import one_line

DONE, FAILED, BAD_INPUT, UNCHANGED, INTERRUPTED = 0, 1, 2, 3, 130
_DEBUG = "GRAPHREWRITE_DEBUG"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; `argv` leaves out the program name.

    0 done, 1 a check or comparison failed, 2 bad input or usage, 3 nothing could be changed and --strict was given,
    130 interrupted. Nothing is raised: failures are one line on stderr, tracebacks only with GRAPHREWRITE_DEBUG=1.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    _never_unprintable(sys.stdout, sys.stderr)
    screen = Screen(
        sys.stdout,
        sys.stderr,
        as_json="--json" in arguments,
        verbose="-v" in arguments or "--verbose" in arguments,
    )
    with _terminated_as_interrupted(), warnings.catch_warnings():
        if not os.environ.get(_DEBUG):
            warnings.simplefilter("ignore")
        try:
            code = _run(arguments, screen)
        except SystemExit as stop:  # after a help page or the version
            code = stop.code if isinstance(stop.code, int) else DONE
        except BrokenPipeError:
            code = DONE
        except KeyboardInterrupt:
            code = INTERRUPTED
            _complain("interrupted; nothing was left half-written")
        except BaseException as error:
            code = _failed(error, screen)
    return _flushed(code, screen)


def _run(arguments: Sequence[str], screen: Screen) -> int:
    verb, options = parse(arguments)
    # What user code or a library prints must not mix with the result.
    with redirect_stdout(sys.stderr):
        return verb.run(options, screen)


def _failed(error: BaseException, screen: Screen) -> int:
    if os.environ.get(_DEBUG):
        traceback.print_exception(error, file=sys.stderr)
    known = isinstance(error, GraphRewriteError)
    if known:
        message = one_line(str(error))
    elif isinstance(error, OSError) and error.strerror:
        message = one_line(
            f"{error.filename or 'the output'}: {error.strerror}; check the path, its permissions and the free space"
        )
    elif isinstance(error, MemoryError):
        message = "not enough memory for this model; close other programs, or use a machine with more"
    else:
        message = (
            f"internal error ({type(error).__name__}: {one_line(str(error))}); please report it with the model if you "
            f"can; {_DEBUG}=1 shows where it happened"
        )
    _complain(f"error: {message}")
    kind = type(error).__name__ if known else "InternalError"
    code = FAILED if isinstance(error, VerificationError) else BAD_INPUT
    with suppress(BrokenPipeError):
        screen.document({"error": {"kind": kind, "message": message}, "exit_code": code})
    return code


def _complain(message: str) -> None:
    try:
        sys.stderr.write(f"graphrewrite: {message}\n")
        sys.stderr.flush()
    except (BrokenPipeError, ValueError):  # nobody listens
        pass


def _flushed(code: int, screen: Screen) -> int:
    """Hand over what is buffered; a reader that left early (`| head`) is no failure of the command."""
    try:
        sys.stdout.flush()
    except (BrokenPipeError, ValueError):
        _detach(sys.stdout)
    except OSError as error:
        _complain(f"error: the result cannot be written to stdout ({error.strerror}); check the free space")
        _detach(sys.stdout)
        return BAD_INPUT
    return code


def _detach(stream: TextIO) -> None:
    """Point a broken stream nowhere, or the interpreter complains about it once more when it ends."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _never_unprintable(*streams: TextIO) -> None:
    """Print what the terminal's encoding lacks as an escape instead of failing over a tensor's name."""
    for stream in streams:
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Let SIGTERM unwind like Ctrl-C, so that temporary files are removed; only possible in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def unwind(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, unwind)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
