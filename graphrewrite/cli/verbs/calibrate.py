"""`graphrewrite calibrate`: measure this machine, so that passes know what is faster on it."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import ClassVar

from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.errors import InvalidConfig


@verbs.register("calibrate")
class Calibrate:
    """Measures layers in every form there is a kernel for; reads no model."""

    summary: ClassVar[str] = (
        "Measure how fast layers run on this machine: sparsify and its kin ask what is faster."
    )
    examples: ClassVar[str] = """
        graphrewrite calibrate
        graphrewrite calibrate --isa avx2                  for a machine without AVX-512, on one that has it
        graphrewrite calibrate --forms Conv BlockSparseConv/8 -o speeds.json
    """

    def configure(self, parser: ArgumentParser) -> None:
        """Declare what to measure and where to write it."""
        parser.add_argument(
            "--isa", metavar="NAME", help="the instruction set (default: the one kernels use here)"
        )
        parser.add_argument(
            "--forms",
            nargs="+",
            default=[],
            metavar="FORM",
            help="measure these forms of layers only (default all)",
        )
        parser.add_argument(
            "-o", "--output", metavar="FILE", help="where to write (default: where the passes look for it)"
        )

    def run(self, options: Namespace, screen: Screen) -> int:
        """Measure, save, and print what was found."""
        from graphrewrite.cost.speeds import speeds_path
        from graphrewrite.custom_ops.presence import presence
        from graphrewrite.runtime.calibrate import calibrate

        found = presence()
        isa = options.isa or found.isa
        if isa is None or isa not in found.isas:
            raise InvalidConfig(
                f"there is nothing to measure for the instruction set {isa or 'none'!r}; expected one that kernels can "
                f"use here: {', '.join(found.isas) or 'none, ' + (found.why_not or 'no library')}"
            )
        path = Path(options.output) if options.output else speeds_path(isa)
        with screen.progress() as progress:
            speeds = calibrate(isa, options.forms, progress)
        speeds.save(path)
        screen.facts(
            [
                ("machine", speeds.machine),
                ("instruction set", isa),
                ("runtime", speeds.runtime),
                ("written", str(path)),
            ]
        )
        screen.line()
        rows = []
        for form in speeds.forms():
            points = [point for point in speeds.points if point.form == form]
            rates = sorted(2e-9 * point.work.operations / point.seconds for point in points)
            middle = rates[len(rates) // 2]
            rows.append((form, str(len(points)), f"{rates[0]:.1f}", f"{middle:.1f}", f"{rates[-1]:.1f}"))
        screen.table(
            ("form", "layers", "slowest", "median", "fastest, Gop/s"),
            rows,
            right=("layers", "slowest", "median", "fastest, Gop/s"),
        )
        screen.document(
            {
                "isa": isa,
                "machine": speeds.machine,
                "runtime": speeds.runtime,
                "path": str(path),
                "points": len(speeds.points),
                "forms": list(speeds.forms()),
            }
        )
        return 0
