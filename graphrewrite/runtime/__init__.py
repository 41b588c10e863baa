"""Running models in onnxruntime: sessions, sample inputs, latency. Importing this room does not load onnxruntime."""

from graphrewrite.runtime.bench import Timing, latency
from graphrewrite.runtime.exact import run_exact
from graphrewrite.runtime.inputs import candidates, fits, sample_inputs
from graphrewrite.runtime.ports import Ports, take_kept
from graphrewrite.runtime.session import Feeds, run, run_session, session

__all__ = [
    "Feeds",
    "Ports",
    "Timing",
    "candidates",
    "fits",
    "latency",
    "run",
    "run_exact",
    "run_session",
    "sample_inputs",
    "session",
    "take_kept",
]
