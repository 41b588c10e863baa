"""Load models into the onnxruntime of whatever interpreter runs this, and print what happened as JSON.

Needs numpy and onnxruntime alone: it runs in environments that hold nothing else. One argument, a JSON list of
steps `{"model": path, "library": path or null, "feed": {name: [[...]]}, ...}`.
"""

import json
import os
import resource
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnxruntime as ort


def options_for(step: dict[str, Any]) -> ort.SessionOptions:
    """Return session options with the step's library in them, as often as the step says."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = step.get("threads", 1)
    if not step.get("optimize", True):
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    for _ in range(step.get("registrations", 1) if step["library"] else 0):
        options.register_custom_ops_library(step["library"])
    return options


def run(step: dict[str, Any]) -> dict[str, Any]:
    """Load, run and describe one model; an exception is a finding like any other."""
    os.environ.pop("PROBE_VERSIONS", None)
    os.environ.pop("PROBE_NAME", None)
    os.environ.update(step.get("environment", {}))
    try:
        options = options_for(step)
        sessions = [
            ort.InferenceSession(step["model"], options, providers=["CPUExecutionProvider"])
            for _ in range(step.get("sessions", 1))
        ]
        feed = {name: np.array(rows, step.get("feed_type", "float32")) for name, rows in step["feed"].items()}
        at_once = [session for session in sessions for _ in range(step.get("at_once", 1))]
        with ThreadPoolExecutor(len(at_once)) as pool:
            runs = [pool.submit(session.run, None, feed) for session in at_once * step.get("runs", 1)]
            found = [run.result() for run in runs]
    except Exception as error:  # onnxruntime's own classes share no public base
        return {"error": str(error), "kind": type(error).__name__}
    return {
        "outputs": [value.tolist() for value in found[0]],
        "all_alike": all(np.array_equal(a, b) for one in found for a, b in zip(one, found[0], strict=True)),
        "signature": [[port.name, port.type, port.shape] for port in sessions[0].get_outputs()],
        "inputs": [[port.name, port.type, port.shape] for port in sessions[0].get_inputs()],
        "most_memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


if __name__ == "__main__":
    steps = json.loads(sys.argv[1])
    print(json.dumps({"version": ort.__version__, "results": [run(step) for step in steps]}))
