"""The bridge is optional: where torch is missing there is nothing to test."""

from importlib.util import find_spec

collect_ignore_glob = [] if find_spec("torch") else ["*"]
