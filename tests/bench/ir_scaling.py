"""What the model costs by its size: load, clone, write, check and small edits of chains of 1k to 100k nodes.

Run `python tests/bench/ir_scaling.py [--sizes 1000 10000 100000]`. Each figure is the smallest CPU time of three runs;
the last column is the exponent between the smallest and the largest size: 1 is linear.
"""

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from graphrewrite.ir import Model, Namer
from graphrewrite.ir.check import check
from graphrewrite.ir.edit import drop_unused, sort_nodes
from graphrewrite.ir.inline import inlined

RUNS = 3


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[1_000, 10_000, 100_000], metavar="NODES")
    sizes = sorted(parser.parse_args().sizes)
    steps: dict[str, dict[int, float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for size in sizes:
            for name, run in figures(chain(size), Path(folder)).items():
                steps.setdefault(name, {})[size] = min(cpu_seconds(run) for _ in range(RUNS))
    head = "".join(f"{f'{size:,} nodes':>26}" for size in sizes)
    print(f"{'':14}{head}  exponent")
    for name, seconds in steps.items():
        cells = "".join(f"{seconds[size]:>12.3f} s {1e6 * seconds[size] / size:>7.1f} us/n" for size in sizes)
        growth = (
            math.log(seconds[sizes[-1]] / seconds[sizes[0]]) / math.log(sizes[-1] / sizes[0])
            if len(sizes) > 1
            else 1
        )
        print(f"{name:14}{cells}  {growth:8.2f}")
    return 0


def figures(proto: ModelProto, folder: Path) -> dict[str, Callable[[], object]]:
    """Return what is timed, by name; `called` is the same chain with every second node behind a function."""
    path = folder / "chain.onnx"
    path.write_bytes(proto.SerializeToString())
    model, called = Model.from_proto(proto), Model.from_proto(behind_functions(proto))
    return {
        "load": lambda: Model.load(path),
        "from_proto": lambda: Model.from_proto(proto),
        "clone": model.clone,
        "to_proto": model.to_proto,
        "save": lambda: model.save(folder / "out.onnx"),
        "check": lambda: check(model),
        "sort_nodes": lambda: sort_nodes(model.graph),
        "drop_unused": lambda: drop_unused(model.graph),
        "Namer": lambda: Namer(model.graph),
        "inlined": lambda: inlined(called),
    }


def chain(nodes: int) -> ModelProto:
    """Return Relu, Add, Relu, Add, ... with a weight for each Add and a declared type for each tensor."""
    names = ["x", *(f"t{i}" for i in range(nodes))]
    made = [
        helper.make_node("Add", [a, f"w{i}"], [b], name=f"add{i}")
        if i % 2
        else helper.make_node("Relu", [a], [b], name=f"r{i}")
        for i, (a, b) in enumerate(zip(names, names[1:], strict=False))
    ]
    weights = [numpy_helper.from_array(np.ones(8, np.float32), f"w{i}") for i in range(1, nodes, 2)]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 8]) for name in names]
    graph = helper.make_graph(made, "chain", infos[:1], infos[-1:], weights, value_info=infos[1:-1])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def behind_functions(proto: ModelProto) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(proto)
    body = [helper.make_node("Relu", ["a"], ["b"])]
    copy.functions.append(
        helper.make_function("my", "Act", ["a"], ["b"], body, [helper.make_opsetid("", 21)])
    )
    copy.opset_import.append(helper.make_opsetid("my", 1))
    for node in copy.graph.node:
        if node.op_type == "Relu":
            node.op_type, node.domain = "Act", "my"
    return copy


def cpu_seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


if __name__ == "__main__":
    sys.exit(main())
