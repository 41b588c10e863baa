"""Show the faults of a saved graph again: python -m tests.support.again MODEL.onnx SEED."""

import sys

from graphrewrite.ir import Model
from tests.support.verdict import model_faults


def main() -> int:
    """Print the graph's nodes and its faults; the exit status says whether there are any."""
    model = Model.load(sys.argv[1])
    for node in model.graph.nodes:
        print(node.op, [t.name for t in node.inputs], "->", [t.name for t in node.outputs], dict(node.attrs))
    faults = model_faults(model, int(sys.argv[2]))
    print("\n".join(str(fault) for fault in faults) or "nothing is wrong")
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
