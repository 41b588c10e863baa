"""Every benchmark one after the other, quick versions first: what `make bench` prints.

`python tests/bench/run.py` takes a few minutes; `--full` adds graphs of 100k nodes, the 3 GB model, the corpus.
Nothing is asserted: machines differ and are shared. Each script also runs alone, with options of its own.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import onnxruntime

QUICK = (
    ("prune_resnet50.py", "--rounds", "1", "--threads", "1"),
    ("scaling.py", "--sizes", "1000", "4000"),
    ("ir_scaling.py", "--sizes", "1000", "10000"),
)
FULL = (("prune_resnet50.py",), ("scaling.py",), ("ir_scaling.py",), ("memory.py",), ("cleaners.py",))


def main() -> int:
    """Run the scripts; return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true")
    options = parser.parse_args()
    print(f"Python {sys.version.split()[0]}, onnxruntime {onnxruntime.__version__}", flush=True)
    failed = 0
    for name, *words in FULL if options.full else QUICK:
        print(f"\n== {name} {' '.join(words)}", flush=True)
        failed += (
            subprocess.run([sys.executable, Path(__file__).with_name(name), *words], check=False).returncode
            != 0
        )
    return failed


if __name__ == "__main__":
    sys.exit(main())
