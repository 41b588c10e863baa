"""Run models of one node in the onnxruntime of whatever interpreter runs this, and print those that are wrong as JSON.

Needs numpy and onnxruntime alone. Arguments: a folder with `NAME.onnx` and `NAME.npz` (inputs `in_*`, expected outputs
`out_0`, ..., and `rtol`) for each model, and a library to register, or nothing.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort


def wrong(model: Path, library: str) -> str:
    """Return what is wrong with a model's answer, or nothing."""
    data = np.load(model.with_suffix(".npz"))
    options = ort.SessionOptions()
    options.log_severity_level = 4
    if library:
        options.register_custom_ops_library(library)
    try:
        session = ort.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        found = session.run(None, {name[3:]: data[name] for name in data.files if name.startswith("in_")})
    except Exception as error:  # onnxruntime's own classes share no public base
        return str(error)
    for index, got in enumerate(found):
        expected = data[f"out_{index}"]
        if got.shape != expected.shape or got.dtype != expected.dtype:
            return f"output {index} is {got.dtype}{got.shape}, expected {expected.dtype}{expected.shape}"
        finite = np.isfinite(expected.astype(np.float64))
        if not np.array_equal(got[~finite], expected[~finite], equal_nan=True):
            return f"output {index} differs in what is not finite"
        wide = expected[finite].astype(np.float64)
        off = np.abs(got[finite].astype(np.float64) - wide).max(initial=0.0)
        if not off <= float(data["rtol"]) * max(np.abs(wide).max(initial=0.0), 1e-30):
            return f"output {index} is off by {off:.3g}"
    return ""


if __name__ == "__main__":
    models = sorted(Path(sys.argv[1]).glob("*.onnx"))
    answers = {model.stem: wrong(model, sys.argv[2]) for model in models}
    print(json.dumps([len(models), {name: text for name, text in answers.items() if text}]))
