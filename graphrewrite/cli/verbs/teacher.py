"""`graphrewrite teacher`: which model is worth learning from?"""

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from typing import ClassVar

from graphrewrite.cli.loading import load
from graphrewrite.cli.parser import add_data, add_threads, positive
from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.errors import InvalidConfig
from graphrewrite.pipeline.base import Json


@verbs.register("teacher")
class Teacher:
    """Measures classifiers that a smaller one could learn from."""

    summary: ClassVar[str] = (
        "Say of models to learn from how often they are right, and what they tell beyond the label."
    )
    examples: ClassVar[str] = """
        graphrewrite teacher big.onnx --data held_out.npz
        graphrewrite teacher big.onnx smoothed.onnx --data held_out.npz --temperature 4
        graphrewrite teacher big.onnx --data held_out.npz --json | jq '.teachers[0].stability'
    """

    def configure(self, parser: ArgumentParser) -> None:
        """Declare the models and what they are asked."""
        parser.add_argument("models", metavar="MODEL", nargs="+", help="ONNX files of classifiers")
        add_data(parser, "samples with labels that no model was trained on (needed)")
        parser.add_argument(
            "--temperature",
            type=positive,
            default=1.0,
            metavar="T",
            help="what the scores are to be softened by (default 1)",
        )
        add_threads(parser)

    def run(self, options: Namespace, screen: Screen) -> int:
        """Measure and print."""
        from graphrewrite.data import load as load_data
        from graphrewrite.passes.train.teacher import check_teacher

        if not options.data:
            raise InvalidConfig(
                "a teacher is judged by labelled samples, and there are none; expected data that fits the models; "
                "give it with --data"
            )
        rows = []
        for path in options.models:
            model = load(path)
            source = load_data(options.data, model)
            rows.append((path, check_teacher(model, source, options.temperature, threads=options.threads)))
        screen.table(
            ("model", "accuracy", "95 %", "stability", "confidence"),
            [
                (
                    path,
                    f"{100 * facts.accuracy.share:.2f} %",
                    f"{100 * facts.accuracy.low:.1f} to {100 * facts.accuracy.high:.1f}",
                    f"{facts.stability:.4f}",
                    f"{100 * facts.confidence:.1f} %",
                )
                for path, facts in rows
            ],
            right=("accuracy", "95 %", "stability", "confidence"),
        )
        for path, facts in rows:
            for warning in facts.warnings:
                screen.warn(f"note: {path}: {warning}")
        screen.line(
            f"on {rows[0][1].accuracy.total} samples of {options.data}; at stability 1 a model says the same of all "
            "samples of a class"
        )
        found: list[Json] = [
            {
                "model": path,
                "accuracy": asdict(facts.accuracy),
                "stability": facts.stability,
                "confidence": facts.confidence,
                "warnings": [*facts.warnings],
            }
            for path, facts in rows
        ]
        screen.document({"teachers": found, "temperature": options.temperature})
        return 0
