"""Our own operators: each brings its torch form with it, so all are filed here at once."""

from torch import fx

from graphrewrite.bridge.forms import lowers
from graphrewrite.bridge.site import Site
from graphrewrite.custom_ops import DOMAIN, find, ops


def own(site: Site) -> list[fx.Node] | fx.Node:
    """Write the operator's `torch_impl`, its attributes filled from its declaration."""
    spec = find(str(site.node.op))
    settings = spec.filled(site.node.attrs)
    made = site.call(spec.torch_impl, *(site.tensor(i) for i in range(len(site.inputs))), **settings)
    if len(spec.outputs) == 1:
        return made
    return [site.item(made, i) for i in range(site.outputs)]


for _spec in ops().values():
    lowers(_spec.name, domain=DOMAIN, since=_spec.since)(own)
