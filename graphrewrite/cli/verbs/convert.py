"""`graphrewrite convert`: the same model in another operator set."""

from argparse import ArgumentParser, Namespace
from typing import ClassVar

from graphrewrite.cli.parser import add_rewriting, add_seed, add_threads, whole
from graphrewrite.cli.rewriting import Job, document, rewrite, show_check, show_sizes
from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.pipeline import Pipeline


@verbs.register("convert")
class Convert:
    """Takes one model to another version of the standard operators."""

    summary: ClassVar[str] = "Take a model to another operator set; the outputs stay the same."
    examples: ClassVar[str] = """
        graphrewrite convert old.onnx -o new.onnx --opset 21
        graphrewrite convert model.onnx -o older.onnx --opset 17    where every node may stay as it is
    """

    def configure(self, parser: ArgumentParser) -> None:
        """Declare MODEL and the operator set."""
        parser.add_argument("model", metavar="MODEL", help="the ONNX file")
        add_rewriting(parser)
        parser.add_argument(
            "--opset", type=whole(1), required=True, metavar="N", help="version of the standard operators"
        )
        add_seed(parser)
        add_threads(parser)

    def run(self, options: Namespace, screen: Screen) -> int:
        """Convert, save, and print which nodes have another form."""
        from graphrewrite.passes.opset import ConvertOpset

        job = rewrite(options, screen, Pipeline((ConvertOpset(options.opset),), verify=options.verify))
        show_sizes(job, screen)
        show_check(job, screen, _told(job))
        screen.document({**document(job), "opset": [job.before.opset, job.result.model.opset]})
        return job.code


def _told(job: Job) -> list[tuple[str, str]]:
    return [(note.subject, note.text) for note in job.result.notes if note.kind == "done"]
