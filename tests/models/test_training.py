"""What the training scripts share, and (slow) a short training from seed to card."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphrewrite.models import digits, registry, training


def test_augmented_images_are_shifted_originals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "NOISE", 0.0)
    images = np.random.default_rng(0).normal(size=(6, 1, 32, 32)).astype(np.float32)
    moved = training.augmented(images, np.random.default_rng(1))

    # Every pixel is that of the place shifted by (r, c), or the nearest border pixel where that lies outside.
    grid = np.arange(32)
    shifts = range(-training.SHIFT, training.SHIFT + 1)
    found = []
    for original, image in zip(images, moved, strict=True):
        for r in shifts:
            for c in shifts:
                rows, columns = np.clip(grid + r, 0, 31), np.clip(grid + c, 0, 31)
                if np.array_equal(image[0], original[0][np.ix_(rows, columns)]):
                    found.append((r, c))
    assert len(found) == 6
    assert len(set(found)) > 1


def test_augmentation_noise_has_the_stated_size_and_follows_the_seed() -> None:
    flat = np.zeros((32, 1, 32, 32), dtype=np.float32)
    first = training.augmented(flat, np.random.default_rng(5))
    assert first.dtype == np.float32
    assert abs(float(first.std()) - training.NOISE) < 0.01 * training.NOISE * 2
    np.testing.assert_array_equal(first, training.augmented(flat, np.random.default_rng(5)))


def test_batches_are_full_and_show_each_image_at_most_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "NOISE", 0.0)
    images = (
        np.zeros((10, 1, 32, 32), dtype=np.float32) + np.arange(10, dtype=np.float32)[:, None, None, None]
    )
    labels = np.arange(10, dtype=np.int64)
    drawn = list(training.batches(images, labels, 4, np.random.default_rng(0)))

    assert [len(x) for x, _ in drawn] == [4, 4]
    seen = np.concatenate([y for _, y in drawn])
    assert len(set(seen.tolist())) == 8
    for x, y in drawn:
        np.testing.assert_array_equal(x[:, 0, 0, 0], y)


def test_the_learning_rate_warms_up_then_falls_to_zero() -> None:
    rates = [training.learning_rate(step, 100, 2.0) for step in range(101)]
    assert rates[0] == pytest.approx(0.2)
    assert max(rates) == rates[10] == rates[9] == 2.0
    assert rates[55] == pytest.approx(1.0)  # half way down the cosine
    assert rates[100] == pytest.approx(0.0, abs=1e-12)
    assert all(a >= b for a, b in zip(rates[10:], rates[11:], strict=False))


def constant_classifier(answer: int) -> onnx.ModelProto:
    """Flatten then a zero matrix and a bias: every image is called `answer`."""
    bias = np.eye(10, dtype=np.float32)[answer]
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"], doc_string="made in /some/folder/file.py"),
            helper.make_node("Gemm", ["flat", "w", "b"], ["logits"]),
        ],
        "g",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, 32, 32])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])],
        [numpy_helper.from_array(np.zeros((1024, 10), np.float32), "w"), numpy_helper.from_array(bias, "b")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def publish(answer: int, name: str, folder: Path) -> registry.Card:
    return training.publish(
        training.without_traces(constant_classifier(answer)),
        name,
        training.Options(epochs=0, seed=4, batch=1, folder=folder),
        producer="hand",
        script="none",
        layout="NCHW",
        packages=(),
        seconds=0.0,
    )


def test_publishing_measures_the_written_file_and_keeps_the_other_cards(tmp_path: Path) -> None:
    _, labels = digits.digits("test")
    for name, answer in (("b", 3), ("a", 5), ("b", 8)):
        card = publish(answer, name, tmp_path)
        assert card.correct == (labels == answer).sum()
        assert card.accuracy == card.correct / 600
        assert (card.params, card.opset, card.seed, card.input) == (1024 * 10 + 10, 17, 4, "image")

    cards = {
        entry["name"]: registry.Card(**entry) for entry in json.loads((tmp_path / "cards.json").read_text())
    }
    assert list(cards) == ["a", "b"]
    assert cards["b"] == card
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.onnx", "b.onnx", "cards.json"]


def test_traces_of_the_exporting_machine_are_removed() -> None:
    model = constant_classifier(0)
    model.metadata_props.add(key="where", value="/some/folder")
    model.graph.node[0].metadata_props.add(key="stack", value="File /some/folder/file.py, line 3")

    clean = training.without_traces(model)

    assert b"/some/folder" in model.SerializeToString()
    assert b"/some/folder" not in clean.SerializeToString()
    assert [node.op_type for node in clean.graph.node] == ["Flatten", "Gemm"]


@pytest.mark.slow
def test_a_short_training_gives_a_working_model_and_its_card(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    command = [
        sys.executable,
        "-m",
        "graphrewrite.models.train_resnet",
        "--epochs",
        "4",
        "--out",
        str(tmp_path),
    ]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)

    (entry,) = json.loads((tmp_path / "cards.json").read_text())
    card = registry.Card(**entry)
    assert card.accuracy > 0.8
    assert card.epochs == 4
    assert onnx.load(tmp_path / card.file).graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
