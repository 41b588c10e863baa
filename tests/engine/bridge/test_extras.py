"""Without the packages that training needs, it is said which extra brings them."""

import sys
from pathlib import Path

import pytest

from graphrewrite import bridge
from graphrewrite.bridge import Checkpoints, finetune
from graphrewrite.bridge.train.checkpoint import Saved, save
from graphrewrite.errors import MissingExtra
from tests.engine.bridge.train.digits import brief, net, training

EXTRA = r'pip install "graphrewrite\[train\]"'


def test_accelerate_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(MissingExtra, match=f"training needs Accelerate.*{EXTRA}"):
        finetune(net(), brief(), training(8))


def test_safetensors_is_asked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.torch", None)
    with pytest.raises(MissingExtra, match=f"a checkpoint needs safetensors.*{EXTRA}"):
        save(Checkpoints(tmp_path), 1, Saved({}, {}))


def test_torch_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [name for name in sys.modules if name.startswith("graphrewrite.bridge.")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(MissingExtra, match=f"GraphModule needs torch.*{EXTRA}"):
        bridge.__getattr__("GraphModule")
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        bridge.__getattr__("Nothing")
