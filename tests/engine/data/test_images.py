"""Folders of images: layout, size, channels, scale, classes, damage."""

import builtins
from pathlib import Path

import numpy as np
import pytest

from graphrewrite.data import load
from graphrewrite.errors import InvalidData, MissingExtra
from graphrewrite.ir import Builder, Model

Image = pytest.importorskip("PIL.Image")

RED = (255, 0, 51)


def taking(*shape: int | str, dtype: type = np.float32) -> Model:
    b = Builder()
    return b.model(b.op("Identity", b.input(shape, name="x", dtype=dtype)), dtypes=[dtype])


def paint(
    path: Path, colour: tuple[int, ...] | int = RED, size: tuple[int, int] = (6, 4), mode: str = "RGB"
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)


def only(model: Model, folder: Path) -> np.ndarray:
    """Return the one batch of a folder with at most eight images."""
    (batch,) = load(folder, model).batches(8)
    return np.asarray(batch["x"])


def test_channels_first_scaled_to_one(tmp_path: Path) -> None:
    paint(tmp_path / "a.png")
    x = only(taking("N", 3, 5, 7), tmp_path)
    assert x.shape == (1, 3, 5, 7) and x.dtype == np.float32
    np.testing.assert_allclose(x[0, :, 0, 0], [1.0, 0.0, 0.2], rtol=1e-6)
    assert (x == x[:, :, :1, :1]).all()


def test_channels_last_and_bytes_as_they_are(tmp_path: Path) -> None:
    paint(tmp_path / "a.png")
    assert only(taking("N", 5, 7, 3), tmp_path).shape == (1, 5, 7, 3)
    x = only(taking("N", 5, 7, 3, dtype=np.uint8), tmp_path)
    assert x.dtype == np.uint8 and x[0, 0, 0].tolist() == list(RED)


def test_one_channel_is_grey_and_half_floats_stay_half(tmp_path: Path) -> None:
    paint(tmp_path / "a.png", (100, 100, 100))
    x = only(taking("N", 1, 5, 7, dtype=np.float16), tmp_path)
    assert x.shape == (1, 1, 5, 7) and x.dtype == np.float16
    np.testing.assert_allclose(x, 100 / 255, rtol=1e-3)


def test_open_sizes_become_224(tmp_path: Path) -> None:
    paint(tmp_path / "a.png")
    assert only(taking("N", 3, "H", "W"), tmp_path).shape == (1, 3, 224, 224)
    assert only(taking("N", "C", "H", "W"), tmp_path).shape == (1, 3, 224, 224)


def test_rows_and_columns_are_not_exchanged(tmp_path: Path) -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[0, :, 0] = 255  # the top row is red
    Image.fromarray(pixels).save(tmp_path / "a.png")
    x = only(taking("N", 3, 4, 6), tmp_path)
    assert x[0, 0].tolist() == [[1.0] * 6] + [[0.0] * 6] * 3


def test_palettes_alpha_and_sixteen_bits(tmp_path: Path) -> None:
    Image.new("RGBA", (6, 4), (*RED, 10)).save(tmp_path / "a.png")
    Image.new("P", (6, 4), 0).save(tmp_path / "b.gif")
    Image.fromarray(np.full((4, 6), 257 * 51, np.uint16)).save(tmp_path / "c.png")
    x = only(taking("N", 3, 4, 6), tmp_path)
    np.testing.assert_allclose(x[0, :, 0, 0], [1.0, 0.0, 0.2], rtol=1e-6)
    np.testing.assert_allclose(x[2], 0.2, rtol=1e-6)


def test_subfolders_are_classes_in_name_order(tmp_path: Path) -> None:
    paint(tmp_path / "dog" / "1.png")
    paint(tmp_path / "cat" / "2.jpg")
    paint(tmp_path / "cat" / "1.png")
    (tmp_path / "notes").mkdir()
    source = load(tmp_path, taking("N", 3, 4, 4))
    assert source.labels is not None and source.labels.tolist() == [0, 0, 1]
    assert getattr(source, "classes", None) == ("cat", "dog")
    assert [len(batch["x"]) for batch in source.batches(2)] == [2, 1]


def test_images_in_two_places_are_refused(tmp_path: Path) -> None:
    paint(tmp_path / "a.png")
    paint(tmp_path / "cat" / "1.png")
    with pytest.raises(InvalidData, match=r"images of its own \('a.png'\) and in subfolders \('cat'\)"):
        load(tmp_path, taking("N", 3, 4, 4))


def test_images_too_deep_are_refused(tmp_path: Path) -> None:
    paint(tmp_path / "train" / "cat" / "1.png")
    with pytest.raises(InvalidData, match="deeper than one subfolder"):
        load(tmp_path, taking("N", 3, 4, 4))


@pytest.mark.parametrize(
    ("shape", "dtype"), [(("N", 4, 8, 8), np.float32), (("N", 3), np.float32), (("N", 3, 8, 8), np.int64)]
)
def test_inputs_that_are_no_images_are_refused(
    tmp_path: Path, shape: tuple[int | str, ...], dtype: type
) -> None:
    paint(tmp_path / "a.png")
    with pytest.raises(InvalidData, match="cannot be fed to the input 'x'"):
        load(tmp_path, taking(*shape, dtype=dtype))


@pytest.mark.parametrize("damage", ["text", "cut", "empty"])
def test_a_damaged_image_is_named(tmp_path: Path, damage: str) -> None:
    paint(tmp_path / "good.png", size=(60, 40))
    content = (tmp_path / "good.png").read_bytes()
    bad = {"text": b"not an image", "cut": content[: len(content) // 2], "empty": b""}[damage]
    (tmp_path / "bad.png").write_bytes(bad)
    with pytest.raises(InvalidData, match=r"bad.png' cannot be read as an image") as caught:
        list(load(tmp_path, taking("N", 3, 4, 4)).batches(8))
    assert "\n" not in str(caught.value)


def test_without_pillow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paint(tmp_path / "a.png")
    real = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name == "PIL":
            raise ImportError(name)
        return real(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match="images"):
        load(tmp_path, taking("N", 3, 4, 4))
