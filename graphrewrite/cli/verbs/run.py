"""`graphrewrite run`: carry out a pipeline that was written down as JSON."""

from argparse import ArgumentParser, Namespace
from dataclasses import replace
from typing import ClassVar

from graphrewrite.cli.left import show_left
from graphrewrite.cli.loading import read_text
from graphrewrite.cli.parser import add_data, add_rewriting, add_seed, add_threads
from graphrewrite.cli.rewriting import document, rewrite, show_check, show_sizes
from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.pipeline import METADATA_KEY, Pipeline
from graphrewrite.pipeline.base import Json


@verbs.register("run")
class Run:
    """Runs a stored pipeline over one model."""

    summary: ClassVar[str] = (
        "Carry out a pipeline stored as JSON, by hand or in a model that was made by one."
    )
    examples: ClassVar[str] = f"""
        graphrewrite run pipeline.json model.onnx -o small.onnx --data calibration.npz
        graphrewrite inspect small.onnx --json | jq -r '.metadata["{METADATA_KEY}"]' > pipeline.json
        echo '[{{"pass": "remove_channels", "budget": {{"name": "ratio", "fraction": 0.5}}}}]' > pipeline.json
    """

    def configure(self, parser: ArgumentParser) -> None:
        """Declare PIPELINE.json, MODEL and the folder for finished steps."""
        parser.add_argument(
            "pipeline", metavar="PIPELINE.json", help="a pass, a list of passes, or a whole pipeline"
        )
        parser.add_argument("model", metavar="MODEL", help="the ONNX file")
        add_rewriting(parser)
        parser.set_defaults(verify=None)
        add_data(parser, "samples for passes that look at activations")
        parser.add_argument(
            "--workdir",
            metavar="FOLDER",
            help="keep every finished step there; an interrupted run continues from it",
        )
        add_seed(parser)
        add_threads(parser)

    def run(self, options: Namespace, screen: Screen) -> int:
        """Read the pipeline, run it, save, and print a row for each step."""
        pipeline = Pipeline.from_json(read_text(options.pipeline, "pipeline"))
        if options.verify is not None:
            pipeline = replace(pipeline, verify=options.verify)
        job = rewrite(options, screen, pipeline, reads=[options.pipeline])
        show_sizes(job, screen)
        titles, *rows = job.result.report.table()
        screen.line()
        screen.table(titles, rows, right=titles[1:5] + titles[6:])
        show_check(job, screen)
        show_left(job.facts.left, screen)
        details: list[Json] = [{"step": step.name, **step.details} for step in job.result.report.steps]
        screen.document({**document(job), "details": details, "pipeline": pipeline.to_json()})
        return job.code
