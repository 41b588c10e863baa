"""Folders of images, decoded batch by batch.

Every image is resized (bilinear, to exactly the input's height and width; 224 where the model leaves them open) and
turned into the channels the input has: three are red, green, blue, one is grey. Floats lie in [0, 1], 8-bit inputs get
the bytes as they are. Any further normalisation belongs to the model, or to a `module:function` source.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt
import onnx_graphsurgeon as gs

from graphrewrite.data.fit import fit_array, listed, only_input, shape_text
from graphrewrite.data.source import Arrays
from graphrewrite.errors import InvalidData, MissingExtra
from graphrewrite.ir import Array, Model

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
OPEN_SIZE = 224


@dataclass(frozen=True)
class Layout:
    """What an image input takes: where its channels lie, how many, and the picture's size in pixels."""

    channels_first: bool
    channels: int
    height: int
    width: int


@dataclass(frozen=True)
class ImageSource:
    """Images in the order of their paths; `labels` are positions in `classes` when the folder has subfolders."""

    paths: tuple[Path, ...]
    tensor: gs.Variable
    layout: Layout
    labels: npt.NDArray[np.generic] | None = None
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)

    def batches(self, size: int, seed: int = 0) -> Iterator[Arrays]:
        """Yield decoded images.

        Raises:
            InvalidData: a file is no image, or a damaged one.
        """
        for start in range(0, len(self.paths), size):
            pictures = [read_image(path, self.layout) for path in self.paths[start : start + size]]
            pixels: Array = np.stack(pictures)
            if np.dtype(self.tensor.dtype).kind != "u":
                pixels = pixels.astype(np.float32) / np.float32(255)
            yield {self.tensor.name: fit_array(pixels, self.tensor, repr(str(self.paths[start])))}


def image_source(path: Path, model: Model) -> ImageSource:
    """Open a folder of images, or of subfolders of images that are the classes.

    Raises:
        InvalidData: the model does not take images, or images lie both in the folder and in its subfolders.
        MissingExtra: Pillow is not installed.
    """
    pillow()
    what = f"the folder of images {str(path)!r}"
    tensor = only_input(model, what)
    layout = layout_of(tensor, what)
    direct = _images(path)
    classes = sorted(entry for entry in path.iterdir() if entry.is_dir() and _images(entry))
    if direct and classes:
        raise InvalidData(
            f"{what} has images of its own ({listed([file.name for file in direct], 2)}) and in subfolders "
            f"({listed([entry.name for entry in classes], 2)}); expected either all in one place or all in class "
            "folders; move them"
        )
    if direct:
        return ImageSource(tuple(direct), tensor, layout)
    if not classes:
        raise InvalidData(
            f"{what} has its images deeper than one subfolder; expected folder/class/image; name a folder inside"
        )
    files = [(file, index) for index, entry in enumerate(classes) for file in _images(entry)]
    labels = np.array([index for _, index in files], np.int64)
    return ImageSource(
        tuple(file for file, _ in files), tensor, layout, labels, tuple(entry.name for entry in classes)
    )


def layout_of(tensor: gs.Variable, what: str) -> Layout:
    """Read from an input's shape how it takes images; where both readings are possible, channels come first.

    Raises:
        InvalidData: it is no batch of images with one or three channels, of floats or bytes.
    """
    shape = tensor.shape
    dtype = np.dtype(tensor.dtype) if tensor.dtype is not None else np.dtype(np.float32)
    if (
        shape is not None
        and len(shape) == 4
        and (dtype.kind == "f" or dtype == np.uint8 or dtype.name == "bfloat16")
    ):
        first, second, last = shape[1], shape[2], shape[3]
        if first in (1, 3):
            return Layout(True, int(first), _size(second), _size(last))
        if last in (1, 3):
            return Layout(False, int(last), _size(first), _size(second))
        if not isinstance(first, (int, np.integer)):
            return Layout(True, 3, _size(second), _size(last))
    raise InvalidData(
        f"{what} cannot be fed to the input {tensor.name!r} {dtype}{shape_text(tensor)}; expected [N, C, H, W] or "
        "[N, H, W, C] with one or three channels, of floats or bytes; give an .npz file instead"
    )


def read_image(path: Path, layout: Layout) -> npt.NDArray[np.uint8]:
    """Return one image as bytes, [C, H, W] or [H, W, C].

    Raises:
        InvalidData: the file is no image, or a damaged one.
    """
    library = pillow()
    try:
        with library.open(path) as image:
            image.load()
            if image.mode == "F":
                raise ValueError("its pixels are floating-point numbers of unknown range")
            if image.mode.startswith("I"):  # 16 bits a pixel, which Pillow would clip instead of scale
                image = library.fromarray((np.asarray(image) // 257).clip(0, 255).astype(np.uint8))
            picture = image.convert("L" if layout.channels == 1 else "RGB")
            picture = picture.resize((layout.width, layout.height), library.Resampling.BILINEAR)
            pixels = np.asarray(picture, np.uint8)
    except (OSError, ValueError, SyntaxError, library.DecompressionBombError) as error:
        raise InvalidData(
            f"{str(path)!r} cannot be read as an image ({' '.join(str(error).split())}); expected a complete picture; "
            "remove or replace the file"
        ) from error
    pixels = pixels.reshape(layout.height, layout.width, layout.channels)
    return np.moveaxis(pixels, -1, 0) if layout.channels_first else pixels


def pillow() -> ModuleType:
    """Return Pillow's image module.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra(
            "reading images needs Pillow, which is not installed; expected the extra `images`; "
            "install it with pip install 'graphrewrite[images]', or give an .npz file"
        ) from error
    return Image


def _images(path: Path) -> list[Path]:
    return sorted(
        entry for entry in path.iterdir() if entry.is_file() and entry.suffix.lower() in IMAGE_SUFFIXES
    )


def _size(dim: object) -> int:
    return int(dim) if isinstance(dim, (int, np.integer)) and dim > 0 else OPEN_SIZE
