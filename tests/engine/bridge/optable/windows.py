"""Random settings of sliding windows, for the tests of convolutions and pools."""

from dataclasses import dataclass

import numpy as np

from graphrewrite.ir import Array


@dataclass
class Draw:
    """One node's settings: sizes of its image's axes and its attributes."""

    rng: np.random.Generator
    space: list[int]
    attributes: dict[str, object]

    def floats(self, *shape: int) -> Array:
        """Return numbers of a normal distribution."""
        return self.rng.standard_normal(shape).astype(np.float32)

    def chance(self, share: float) -> bool:
        """Whether something happens this time."""
        return bool(self.rng.random() < share)

    def close_gaps(self) -> None:
        """Make no stride larger than its window."""
        kernel, strides = self.attributes["kernel_shape"], self.attributes["strides"]
        assert isinstance(kernel, list)
        assert isinstance(strides, list)
        self.attributes["strides"] = [min(pair) for pair in zip(kernel, strides, strict=True)]


def drawn(seed: int) -> Draw:
    """Return windows over one to three axes with strides, pads of all kinds and mostly dilations."""
    rng = np.random.default_rng(seed)
    rank = seed % 3 + 1
    kernel = [int(size) for size in rng.integers(1, 4, rank)]
    attributes: dict[str, object] = {
        "kernel_shape": kernel,
        "strides": [int(step) for step in rng.integers(1, 4, rank)],
    }
    auto = str(rng.choice(["", "", "SAME_UPPER", "SAME_LOWER", "VALID"]))
    if auto:
        attributes["auto_pad"] = auto
    else:
        attributes["pads"] = [int(rng.integers(0, size)) for size in kernel + kernel]
    # onnxruntime's pools forget dilations when the padding is to keep the size.
    if rng.random() < 0.6 and not auto.startswith("SAME"):
        attributes["dilations"] = [int(step) for step in rng.integers(1, 3, rank)]
    return Draw(rng, [int(size) for size in rng.integers(5, 9, rank)], attributes)
