"""`graphrewrite synthesise`: samples for a model, made from a few real ones and what the model knows of its data."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import ClassVar

import numpy as np

from graphrewrite.cli.files import check_outputs
from graphrewrite.cli.loading import load
from graphrewrite.cli.parser import add_data, add_seed, whole
from graphrewrite.cli.screen import Screen
from graphrewrite.cli.verbs import verbs
from graphrewrite.errors import InvalidConfig


@verbs.register("synthesise")
class Synthesise:
    """Writes a data file that every verb with --data reads."""

    summary: ClassVar[str] = (
        "Make labelled samples for a model whose data is not at hand, from a few real ones."
    )
    examples: ClassVar[str] = """
        graphrewrite synthesise model.onnx -o made.npz --data one_image_per_class.npz --samples 500
        graphrewrite quantize model.onnx -o int8.onnx --data made.npz
        graphrewrite synthesise model.onnx -o made.npz --data ten.npz --epochs 40 --steps 100      a tenth of the work
    """

    def configure(self, parser: ArgumentParser) -> None:
        """Declare MODEL, the file to write, and how samples are made."""
        from graphrewrite.passes.synth.synthesisers import synthesisers

        parser.add_argument("model", metavar="MODEL", help="the ONNX file, its batch norms not folded")
        parser.add_argument(
            "-o", "--output", metavar="DATA.npz", required=True, help="where to write samples and labels"
        )
        what = parser.add_argument_group("what is made")
        what.add_argument("--method", default="fdda", metavar="NAME", help=f"how: {', '.join(synthesisers)}")
        what.add_argument(
            "--samples",
            type=whole(1),
            default=256,
            metavar="N",
            help="how many, classes take turns (default 256)",
        )
        add_data(what, "real samples with labels, one for each class or more (needed)")
        what.add_argument(
            "--epochs", type=whole(1), metavar="N", help="epochs of training what draws them (default 400)"
        )
        what.add_argument("--steps", type=whole(1), metavar="N", help="steps in an epoch (default 200)")
        what.add_argument(
            "--scores",
            metavar="TENSOR",
            help="the scores of classes, where the first output is not (a softmax)",
        )
        add_seed(parser)

    def run(self, options: Namespace, screen: Screen) -> int:
        """Learn, draw, save, and say what the model makes of it."""
        from graphrewrite.data import load as load_data
        from graphrewrite.data.save import as_npz
        from graphrewrite.ir.external import write_beside
        from graphrewrite.passes.synth.synthesisers import synthesisers

        if not options.data:
            raise InvalidConfig(
                "samples are made after real ones, and there are none; expected a labelled one for each class; give "
                "them with --data"
            )
        check_outputs([options.output], [options.model, options.data])
        fields = {
            name: getattr(options, name) for name in ("epochs", "steps", "scores") if getattr(options, name)
        }
        method = synthesisers.make(options.method, **fields)
        model = load(options.model)
        source = load_data(options.data, model)
        with screen.progress() as progress:
            made = method.synthesise(model, source, options.samples, options.seed, progress)
        assert made.labels is not None
        write_beside(Path(options.output), as_npz({**made.arrays, "labels": made.labels}))
        classes = len(np.unique(made.labels))
        shapes = {name: list(np.shape(array)) for name, array in made.arrays.items()}
        screen.facts(
            [
                ("learned from", f"{len(source)} samples of {options.data}"),
                ("made", f"{len(made)} samples of {classes} classes"),
                *((name, " x ".join(map(str, shape))) for name, shape in shapes.items()),
                ("written", options.output),
            ]
        )
        screen.document(
            {"output": options.output, "samples": len(made), "classes": classes, "inputs": {**shapes}}
        )
        return 0
