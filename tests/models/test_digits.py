"""The digits: the split, the enlargement and the calibration draw."""

import hashlib
import sys

import numpy as np
import numpy.typing as npt
import pytest

from graphrewrite.errors import InvalidConfig, MissingExtra, UnknownNameError
from graphrewrite.models import digits as room

# SHA-256 of the held-out positions as little-endian int64: the split every card and every report refers to.
HELD_OUT_DIGEST = "af4d8a22ce60110bee718fde6498e74b81d33c73bd824e1296f4fc28698dbe20"


def labels_of_all() -> npt.NDArray[np.int64]:
    from sklearn.datasets import load_digits

    return np.asarray(load_digits().target, dtype=np.int64)


def pictures(images: room.Images) -> set[bytes]:
    return {np.ascontiguousarray(image).tobytes() for image in images}


def test_both_sides_have_the_promised_shapes_and_types() -> None:
    for split, count in (("train", 1197), ("test", 600)):
        images, labels = room.digits(split)  # type: ignore[arg-type]
        assert images.shape == (count, 1, 32, 32)
        assert labels.shape == (count,)
        assert (images.dtype.name, labels.dtype.name) == ("float32", "int64")
        assert set(labels.tolist()) == set(range(10))


def test_the_split_is_disjoint_complete_and_stable() -> None:
    train, held_out = room.split_indices(labels_of_all())

    assert sorted([*train.tolist(), *held_out.tolist()]) == list(range(1797))
    assert hashlib.sha256(held_out.astype("<i8").tobytes()).hexdigest() == HELD_OUT_DIGEST


def test_every_class_is_held_out_in_proportion() -> None:
    labels = labels_of_all()
    _, held_out = room.split_indices(labels)
    for digit in range(10):
        exact = (labels == digit).sum() * 600 / 1797
        assert abs((labels[held_out] == digit).sum() - exact) < 1


def test_labels_stay_with_their_images() -> None:
    # Held-out image number 7 is the scan at the seventh held-out position, enlarged on its own.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    _, held_out = room.split_indices(labels_of_all())
    images, labels = room.digits("test")
    alone = room.normalised(room.enlarged(bunch.images[held_out[7]][np.newaxis].astype(np.float32)))
    np.testing.assert_array_equal(images[7], alone[0])
    assert labels[7] == bunch.target[held_out[7]]


def slow_enlargement(scan: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """Pixel by pixel: the centre of an enlarged pixel in scan coordinates, between its four neighbours."""
    result = np.zeros((32, 32))
    for i in range(32):
        for j in range(32):
            row = min(max((i + 0.5) / 4 - 0.5, 0.0), 7.0)
            column = min(max((j + 0.5) / 4 - 0.5, 0.0), 7.0)
            top, left = int(row), int(column)
            bottom, right = min(top + 1, 7), min(left + 1, 7)
            down, across = row - top, column - left
            upper = scan[top, left] * (1 - across) + scan[top, right] * across
            lower = scan[bottom, left] * (1 - across) + scan[bottom, right] * across
            result[i, j] = upper * (1 - down) + lower * down
    return result


def test_enlargement_is_bilinear_to_the_last_bit() -> None:
    scan = np.random.default_rng(3).integers(0, 17, size=(8, 8)).astype(np.float32)
    np.testing.assert_array_equal(room.enlarged(scan[np.newaxis])[0, 0], slow_enlargement(scan))


def test_the_constants_are_those_of_the_training_images() -> None:
    images, _ = room.digits("train")
    assert abs(float(images.mean())) < 0.005
    assert abs(float(images.std()) - 1.0) < 0.005


def test_calibration_never_touches_the_held_out_images() -> None:
    train, held_out = pictures(room.digits("train")[0]), pictures(room.digits("test")[0])
    drawn = pictures(room.calibration(1197)[room.INPUT_NAME])

    assert len(drawn) == 1197, "the digits hold no two equal scans, so bytes identify an image"
    assert drawn == train
    assert drawn.isdisjoint(held_out)


def test_the_held_out_check_sees_a_single_leaked_image() -> None:
    drawn = room.calibration(16)[room.INPUT_NAME].copy()
    drawn[5] = room.digits("test")[0][123]
    assert not pictures(drawn).isdisjoint(pictures(room.digits("test")[0]))


def test_a_smaller_calibration_draw_is_a_prefix_and_holds_every_class() -> None:
    large, small = room.calibration()[room.INPUT_NAME], room.calibration(10)[room.INPUT_NAME]
    np.testing.assert_array_equal(large[:10], small)
    images, labels = room.digits("train")
    label_of = {image.tobytes(): int(label) for image, label in zip(images, labels, strict=True)}
    assert {label_of[image.tobytes()] for image in small} == set(range(10))


def test_training_images_come_with_their_labels() -> None:
    images, labels = room.digits("train")
    inputs, given = room.train()

    np.testing.assert_array_equal(inputs[room.INPUT_NAME], images)
    np.testing.assert_array_equal(given, labels)


def test_channels_last_holds_the_same_pixels() -> None:
    inputs, labels = room.test_channels_last()
    plain, plain_labels = room.test()
    assert inputs["image"].shape == (600, 32, 32, 1)
    np.testing.assert_array_equal(inputs["image"][:, :, :, 0], plain["image"][:, 0])
    np.testing.assert_array_equal(labels, plain_labels)
    inputs, labels = room.train_channels_last()
    plain, plain_labels = room.train()
    assert inputs["image"].shape == (1197, 32, 32, 1)
    np.testing.assert_array_equal(inputs["image"][:, :, :, 0], plain["image"][:, 0])
    np.testing.assert_array_equal(labels, plain_labels)
    calibration = room.calibration_channels_last(8)["image"]
    np.testing.assert_array_equal(calibration[..., 0], room.calibration(8)["image"][:, 0])


def test_bad_requests_say_what_there_is() -> None:
    with pytest.raises(UnknownNameError, match=r"'valid'.*'train'.*'test'"):
        room.digits("valid")  # type: ignore[arg-type]
    for n in (0, -3, 1198):
        with pytest.raises(InvalidConfig, match=rf"calibration\(n={n}\).*1197"):
            room.calibration(n)


def test_a_missing_scikit_learn_is_named_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(MissingExtra, match=r"scikit-learn.*pip install"):
        room.digits("train")
