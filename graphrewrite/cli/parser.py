"""Reading the command line: one-line complaints, help pages with examples, argument types shared by verbs."""

import argparse
import difflib
import math
import textwrap
from collections.abc import Callable, Sequence
from typing import NoReturn

import graphrewrite
from graphrewrite.cli.verbs import Verb, verbs
from graphrewrite.errors import GraphRewriteError


class UsageError(GraphRewriteError):
    """The command line cannot be understood; the message is the one line that is printed."""


class Parser(argparse.ArgumentParser):
    """An argument parser that raises instead of printing pages of usage."""

    def error(self, message: str) -> NoReturn:
        """Raise the complaint with a pointer to the help page."""
        raise UsageError(f"{message}; see {self.prog} --help")


def parse(arguments: Sequence[str]) -> tuple[Verb, argparse.Namespace]:
    """Return the verb that was typed and its options.

    Raises:
        UsageError: no verb, an unknown one, or options that do not fit.
        SystemExit: after printing a help page or the version.
    """
    if not arguments:
        raise UsageError(f"name a command: {', '.join(verbs)}; see graphrewrite --help")
    name, *rest = arguments
    if name in ("-h", "--help", "-V", "--version"):
        _overview().parse_args([name])
    if name.startswith("-"):
        raise UsageError(
            f"expected a command before the option {name}, one of {', '.join(verbs)}; see graphrewrite --help"
        )
    if name not in verbs:
        close = difflib.get_close_matches(name, list(verbs), n=2, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(verbs)}"
        raise UsageError(f"there is no command {name!r}; {hint}; see graphrewrite --help")
    verb = verbs.make(name)
    parser = Parser(
        prog=f"graphrewrite {name}",
        description=verb.summary,
        epilog="examples:\n" + textwrap.indent(textwrap.dedent(verb.examples).strip(), "  "),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    verb.configure(parser)
    common = parser.add_argument_group("output")
    common.add_argument(
        "--json", action="store_true", help="print one JSON document on stdout, everything else on stderr"
    )
    common.add_argument(
        "-v", "--verbose", action="store_true", help="print lists whole instead of grouped and counted"
    )
    # `words` is the whole command, for records of what was run.
    return verb, parser.parse_args(rest, argparse.Namespace(words=[name, *rest]))


def fraction(text: str) -> float:
    """Read the part of the original to keep: a number in (0, 1]."""
    value = _number(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a fraction of the original to keep; expected 0 < F <= 1"
        )
    return value


def share(text: str) -> float:
    """Read a part of a whole that may be nothing: a number in [0, 1)."""
    value = _number(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share; expected 0 <= F < 1")
    return value


def tolerance(text: str) -> float:
    """Read a relative error: a finite number, zero or more."""
    value = _number(text)
    if not (value >= 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a tolerance; expected a number of 0 or more")
    return value


def positive(text: str) -> float:
    """Read a finite number above 0."""
    value = _number(text)
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def whole(least: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from `least` up."""

    def read(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or int(text) < least or len(text) > 9:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return read


def names(text: str) -> tuple[str, ...]:
    """Read names with commas between."""
    found = tuple(part.strip() for part in text.split(","))
    if not all(found):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name; expected names with commas between")
    return found


def add_seed(parser: argparse.ArgumentParser) -> None:
    """Declare --seed, the only source of randomness."""
    parser.add_argument(
        "--seed", type=whole(0), default=0, metavar="N", help="seed of everything random (default 0)"
    )


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Declare --threads, the number onnxruntime may use inside one operator."""
    parser.add_argument(
        "--threads",
        type=whole(0),
        default=0,
        metavar="N",
        help="threads of onnxruntime, 0 for all cores (default 0)",
    )


def add_data(parser: argparse._ActionsContainer, what: str) -> None:
    """Declare --data; `what` says what the samples are for."""
    parser.add_argument(
        "--data",
        metavar="PATH",
        help=f"{what}: an .npz keyed by input names, a folder of .npy files or images, or a Python module:function",
    )


def add_patterns(parser: argparse._ActionsContainer, option: str, what: str) -> None:
    """Declare an option that takes patterns of names; `what` says what becomes of those they name."""
    parser.add_argument(
        option,
        nargs="+",
        action="extend",
        default=[],
        metavar="PATTERN",
        help=f"{what}; * stands for anything",
    )


def add_rewriting(parser: argparse.ArgumentParser) -> None:
    """Declare what all verbs that write a model share: the output, strictness, how much is verified."""
    parser.add_argument(
        "-o", "--output", metavar="OUT", required=True, help="the model file to write; never the input itself"
    )
    parser.add_argument(
        "--strict", action="store_true", help="exit with 3 and write nothing when nothing could be changed"
    )
    parser.add_argument(
        "--verify",
        choices=("full", "structure", "off"),
        default="full",
        help="full: run old and new model and check what each step claims (default); structure: check the graph only",
    )


def _overview() -> Parser:
    lines = [f"  {name.ljust(9)} {verbs.make(name).summary}" for name in verbs]
    parser = Parser(
        prog="graphrewrite",
        usage="graphrewrite COMMAND ...",
        description="Rewrite exported ONNX models into smaller, faster ones, and check every step.",
        epilog="\n".join(
            [
                "commands:",
                *lines,
                "",
                "exit codes: 0 done, 1 a check or comparison failed, 2 bad input or usage,",
                "            3 nothing could be changed and --strict was given",
                "",
                "graphrewrite COMMAND --help shows a command's options and examples.",
            ]
        ),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "-V", "--version", action="version", version=f"graphrewrite {graphrewrite.__version__}"
    )
    return parser


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
