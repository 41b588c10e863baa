"""The passes by name: for JSON, the command line and `make`.

A pass is added by one file under `passes/`, directly or in the folder of its family:

    @passes.register("fold_batchnorm")
    @dataclass(frozen=True)
    class FoldBatchNorm: ...
"""

from graphrewrite.pipeline.base import Pass
from graphrewrite.registry import Registry

passes: Registry[Pass] = Registry("pass", package="graphrewrite.passes", of=Pass, tag="pass", depth=1)
