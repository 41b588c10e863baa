"""Run models of a folder on the onnxruntime at hand: `served.py FOLDER` writes each as it is served, and its outputs.

Needs numpy and onnxruntime alone, so that any release can run it.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort


def main(folder: Path) -> None:
    for path in sorted(folder.glob("*.onnx")):
        options = ort.SessionOptions()
        options.optimized_model_filepath = str(path.with_suffix(".served"))
        options.log_severity_level = 4
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        feeds = dict(np.load(path.with_suffix(".npz")))
        np.save(path.with_suffix(".npy"), session.run(None, feeds)[0])
    print(ort.__version__)


main(Path(sys.argv[1]))
