"""Rectangles of outputs and inputs at one tap: what the int8 kernels take (16x4), and finer blocks for floats."""

from dataclasses import dataclass

from graphrewrite.errors import InvalidConfig
from graphrewrite.passes.sparse.masks import Floats, Kept, block_means, largest, masks


@masks.register("blocks")
@dataclass(frozen=True)
class Blocks:
    """Keep the blocks (`outputs` x `inputs` neighbours at one tap) of largest mean |w|, counted over each layer."""

    outputs: int = 16
    inputs: int = 4

    def __post_init__(self) -> None:
        if self.outputs < 1 or self.inputs < 1:
            raise InvalidConfig(
                f"blocks of {self.outputs}x{self.inputs} were asked for; expected at least 1x1; change it"
            )

    @classmethod
    def of(cls, argument: str) -> "Blocks":
        """Read `OUTPUTSxINPUTS`."""
        if not argument:
            return cls()
        outputs, _, inputs = argument.partition("x")
        if not outputs.isdigit() or not inputs.isdigit():
            raise InvalidConfig(f"blocks was given {argument!r}; expected a size such as 16x4; change it")
        return cls(int(outputs), int(inputs))

    @property
    def rows(self) -> int:
        """The outputs of a block."""
        return self.outputs

    def keep(self, weight: Floats, sparsity: float) -> Kept:
        """Drop the blocks of lowest mean."""
        kept = largest(block_means(weight, self.outputs, self.inputs), sparsity)
        whole = kept.repeat(self.outputs, axis=0).repeat(self.inputs, axis=1)
        return whole[: weight.shape[0], : weight.shape[1]]
