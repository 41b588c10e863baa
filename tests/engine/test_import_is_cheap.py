"""`import graphrewrite` must not pull in heavy packages: a command that prints help has no time for them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {"torch", "onnxruntime", "matplotlib", "sklearn", "tensorflow"}


def loaded_after(statement: str, folder: Path) -> set[str]:
    """Run a statement in a fresh interpreter standing in `folder`; return the packages it loaded."""
    script = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=120, check=True
    )
    return {name.split(".")[0] for name in json.loads(done.stdout.splitlines()[-1])}


def test_importing_graphrewrite_loads_nothing_heavy(tmp_path: Path) -> None:
    assert loaded_after("import graphrewrite", tmp_path) & HEAVY == set()


def test_a_heavy_import_would_be_seen(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    assert "onnxruntime" in loaded_after("import onnxruntime", tmp_path)


def test_choosing_what_to_train_by_loads_no_torch(tmp_path: Path) -> None:
    """Passes and losses are listed, and a recipe is read, where nothing is trained yet."""
    statement = """
from graphrewrite.bridge.losses import losses
from graphrewrite.bridge.recipe import Recipe
from graphrewrite.pipeline.registry import passes
recipe = {"stages": [{"epochs": 2, "losses": [{"name": "soft_labels"}, {"name": "cross_entropy"}]}]}
assert {"finetune", "distill", "prune_loop"} <= set(passes)
assert {"cross_entropy", "soft_labels", "mse"} <= set(losses)
assert Recipe.from_json(recipe).stages[0].epochs == 2
"""
    assert loaded_after(statement, tmp_path) & HEAVY == set()
