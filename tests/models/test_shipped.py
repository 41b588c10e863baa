"""Each shipped model is what its card says it is."""

import hashlib
import importlib
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import numpy_helper

from graphrewrite import models
from graphrewrite.errors import InvalidModel, UnknownNameError
from graphrewrite.models import registry

NAMES = models.names()
Scores = npt.NDArray[np.float32]
# Another onnxruntime or another instruction set may round one borderline image differently.
BORDERLINE_IMAGES = 1
LEAST_ACCURACY = {"digits_resnet": 0.97, "digits_keras": 0.95}


def scores(content: bytes, images: npt.NDArray[np.float32]) -> Scores:
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(content, settings, providers=["CPUExecutionProvider"])
    (result,) = session.run(["logits"], {"image": images})
    return np.asarray(result)


def held_out(card: models.Card) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    module, function = card.test.split(":")
    inputs, labels = getattr(importlib.import_module(module), function)()
    return inputs[card.input], labels


def correct(content: bytes, card: models.Card) -> int:
    images, labels = held_out(card)
    return int((scores(content, images).argmax(axis=1) == labels).sum())


def test_two_frameworks_are_shipped() -> None:
    assert set(NAMES) >= {"digits_resnet", "digits_keras"}
    assert models.card("digits_resnet").producer.startswith("torch ")
    assert models.card("digits_keras").producer.startswith("keras ")


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_the_one_that_was_measured(name: str) -> None:
    path = models.shipped(name)
    assert hashlib.sha256(path.read_bytes()).hexdigest() == models.card(name).sha256


@pytest.mark.parametrize("name", NAMES)
def test_the_accuracy_is_the_one_on_the_card(name: str) -> None:
    card = models.card(name)
    measured = correct(models.shipped(name).read_bytes(), card)

    assert card.held_out == 600
    assert card.accuracy == card.correct / card.held_out
    assert abs(measured - card.correct) <= BORDERLINE_IMAGES
    assert measured / 600 >= LEAST_ACCURACY.get(name, 0.9)


@pytest.mark.parametrize("name", NAMES)
def test_the_accuracy_measurement_sees_a_broken_classifier(name: str) -> None:
    # Two of the ten columns of the classifier change places: about a fifth of the images must be lost.
    card = models.card(name)
    model = onnx.load(models.shipped(name))
    for tensor in model.graph.initializer:
        weights = numpy_helper.to_array(tensor)
        if weights.ndim == 2:
            swapped = np.take(weights, [1, 0, *range(2, 10)], axis=weights.shape.index(10))
            tensor.CopyFrom(numpy_helper.from_array(swapped, tensor.name))
    assert correct(model.SerializeToString(), card) < card.correct - 60


@pytest.mark.parametrize("name", NAMES)
def test_the_card_counts_the_parameters(name: str) -> None:
    model = onnx.load(models.shipped(name))
    arrays = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    assert sum(a.size for a in arrays if a.dtype.kind == "f") == models.card(name).params


def test_the_residual_net_has_the_parameters_its_shape_implies() -> None:
    # Convolutions and the four statistics of each norm, from the widths 1-32-(32,32)-(64,64)-(128,128)-10.
    norm = 4
    stem = 1 * 32 * 9 + 32 * norm
    same = [width * width * 9 + width * norm for width in (32, 64, 128)]
    first = [half * 2 * half * 9 + 2 * half * norm for half in (32, 64)]
    projection = [half * 2 * half + 2 * half * norm for half in (32, 64)]
    head = 128 * 10 + 10
    total = stem + 4 * same[0] + sum(first) + 3 * (same[1] + same[2]) + sum(projection) + head
    # Where a projection joins, two norms learnt one and the same bias and the exporter stores it once.
    assert models.card("digits_resnet").params == total - 64 - 128


def test_the_residual_net_keeps_its_batch_norms() -> None:
    model = onnx.load(models.shipped("digits_resnet"))
    norms = [node for node in model.graph.node if node.op_type == "BatchNormalization"]
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    sums = [node for node in model.graph.node if node.op_type == "Add"]

    # The stem, twelve in six blocks, two projections; six sums of which four have an identity shortcut.
    assert (len(norms), len(convolutions), len(sums)) == (15, 15, 6)
    for node in norms:
        assert all(attribute.i == 0 for attribute in node.attribute if attribute.name == "training_mode")
        assert len(node.output) == 1


@pytest.mark.parametrize("name", NAMES)
def test_the_file_stands_alone_and_tells_nothing_about_its_maker(name: str) -> None:
    path = models.shipped(name)
    model = onnx.load(path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert all(tensor.data_location == onnx.TensorProto.DEFAULT for tensor in model.graph.initializer)
    assert not model.doc_string and not model.metadata_props
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.initializer):
        assert not part.doc_string and not part.metadata_props
    assert b".py" not in path.read_bytes()


@pytest.mark.parametrize("name", NAMES)
def test_the_batch_is_free(name: str) -> None:
    card = models.card(name)
    content = models.shipped(name).read_bytes()
    model = onnx.load_model_from_string(content)
    (declared,) = model.graph.input
    dims = declared.type.tensor_type.shape.dim
    images, _ = held_out(card)

    assert declared.name == card.input == "image"
    assert dims[0].dim_param and not dims[0].HasField("dim_value")
    assert [dim.dim_value for dim in dims][1:] == list(images.shape[1:])
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == card.opset

    together = scores(content, images[:7])
    apart = np.concatenate(
        [scores(content, images[:1]), scores(content, images[1:4]), scores(content, images[4:7])]
    )
    np.testing.assert_allclose(together, apart, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_calibration_reference_fits_the_model(name: str) -> None:
    card = models.card(name)
    module, function = card.calibration.split(":")
    inputs = getattr(importlib.import_module(module), function)()
    assert list(inputs) == [card.input]
    assert inputs[card.input].shape == (256, *held_out(card)[0].shape[1:])
    assert math.isfinite(float(scores(models.shipped(name).read_bytes(), inputs[card.input]).sum()))


def test_an_unknown_name_lists_the_nearest() -> None:
    for ask in (models.card, models.shipped):
        with pytest.raises(UnknownNameError, match=r"'digits_resnt'.*digits_resnet"):
            ask("digits_resnt")


def test_a_card_without_its_file_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    with pytest.raises(InvalidModel, match=r"digits_resnet\.onnx.*missing"):
        models.shipped("digits_resnet")


def test_importing_the_room_is_cheap() -> None:
    heavy = ["torch", "sklearn", "onnxruntime", "tensorflow", "keras"]
    code = f"""
import json, sys
import graphrewrite.models, graphrewrite.models.digits
graphrewrite.models.shipped("digits_resnet")
print(json.dumps([name for name in {heavy!r} if name in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.home()
    )
    assert json.loads(done.stdout) == []
