"""The table of torch forms: which function computes an operator, from which version of its operator set on.

A form is a plain function of tensors in the operator's order, whose keyword-only parameters are the attributes:

    @op("Softmax", since=13)
    def softmax(x: Tensor, *, axis: int = -1) -> Tensor:
        return torch.softmax(x, axis)

or an `nn.Module` class where training changes what it does (attributes go to `__init__`, inputs to `forward`), or,
where the best torch call depends on what is known of the node, a function of the `Site` that writes calls (`lowers`).
What torch has just so is filed by `as_is`, or named as `plain` beside a form that takes types torch cannot compute too.
Two keyword-only parameters are not attributes: `outputs` gets the number of outputs the node has, `like` a tensor on
the module's device, for forms that make tensors from nothing. A form annotated to return a tuple has several outputs;
it may leave out the last ones, and puts None for one it does not make.
"""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, TypeVar, get_origin

from graphrewrite.errors import InvalidConfig

if TYPE_CHECKING:
    from graphrewrite.bridge.site import Site

F = TypeVar("F", bound=Callable[..., object])


@dataclass(frozen=True)
class Form:
    """How one operator is computed from version `since` of its operator set on.

    Attributes:
        target: the function or module class; None when `lower` writes the calls.
        lower: writes the calls of a node, given its site.
        host: inputs (parameter names, or slots of a lowered form) that arrive as Python numbers: an int or float, or a
            tuple of them (nested for matrices), never a tensor.
        still: inputs through which nothing is learned, with the reason they are left as they are.
        gradient: whether any gradient flows from outputs to inputs.
        folds: whether the node may be computed once when all its inputs are constants.
        parameters: the names of the inputs in order; a last name with "*" takes all that follow.
        attributes: keyword -> default (`REQUIRED` when the node must say it).
        several: whether the form returns a tuple of outputs.
        ignores: attributes that a node may carry and that change nothing here.
        plain: torch's own function for inputs known to be floats; takes them in order and no attributes.
    """

    REQUIRED: ClassVar[object] = inspect.Parameter.empty

    since: int
    target: Callable[..., object] | None
    lower: "Callable[[Site], object] | None"
    host: frozenset[str | int]
    still: dict[str | int, str]
    gradient: bool
    folds: bool
    parameters: tuple[str, ...] = ()
    attributes: "dict[str, object] | None" = None
    several: bool = False
    ignores: frozenset[str] = frozenset()
    plain: Callable[..., object] | None = None

    @property
    def is_module(self) -> bool:
        """Whether the form has state or behaves differently while training."""
        return inspect.isclass(self.target)

    def parameter(self, slot: int) -> str | int:
        """Return what names the input at a slot: its parameter, or for a lowered form the slot itself."""
        if self.lower is not None or not self.parameters:
            return slot
        return self.parameters[min(slot, len(self.parameters) - 1)].lstrip("*")

    def is_host(self, slot: int) -> bool:
        """Whether the input at a slot arrives as Python numbers."""
        return self.parameter(slot) in self.host

    def why_still(self, slot: int) -> str | None:
        """Return why nothing is learned through the input at a slot, or None."""
        if not self.gradient:
            return "the operator that reads it has no gradient"
        if self.is_host(slot):
            return "it is read as sizes or settings"
        return self.still.get(self.parameter(slot))


_forms: dict[tuple[str, str], list[Form]] = {}


def op(
    name: str,
    *,
    since: int = 1,
    domain: str = "",
    host: tuple[str, ...] = (),
    still: Mapping[str | int, str] | None = None,
    gradient: bool = True,
    folds: bool = True,
    ignores: tuple[str, ...] = (),
    plain: Callable[..., object] | None = None,
) -> Callable[[F], F]:
    """File a function or module class as the form of an operator; see `Form` for the options."""

    def add(target: F) -> F:
        parameters, attributes, several = _signature(target)
        unknown = (set(host) | set(still or {})) - {name.lstrip("*") for name in parameters}
        if unknown:
            raise InvalidConfig(
                f"the torch form of {name} has no input {sorted(unknown)[0]!r}; mend its list"
            )
        is_module = inspect.isclass(target)
        _file(
            domain,
            name,
            Form(
                since=since,
                target=target,
                lower=None,
                host=frozenset(host),
                still=dict(still or {}),
                gradient=gradient,
                folds=folds and not is_module,
                parameters=parameters,
                attributes=attributes,
                several=several,
                ignores=frozenset(ignores),
                plain=plain,
            ),
        )
        return target

    return add


def as_is(name: str, function: Callable[..., object], *, since: int = 1, gradient: bool = True) -> None:
    """File a function of torch that computes an operator as it stands: all inputs in order, no attributes."""
    _file(
        "",
        name,
        Form(
            since=since,
            target=function,
            lower=None,
            host=frozenset(),
            still={},
            gradient=gradient,
            folds=True,
            attributes={},
        ),
    )


def lowers(
    name: str,
    *,
    since: int = 1,
    domain: str = "",
    host: tuple[int, ...] = (),
    still: Mapping[str | int, str] | None = None,
    gradient: bool = True,
    folds: bool = False,
) -> Callable[[F], F]:
    """File a function of a `Site` that writes the calls of a node and returns its outputs."""

    def add(lower: F) -> F:
        _file(
            domain,
            name,
            Form(
                since=since,
                target=None,
                lower=lower,
                host=frozenset(host),
                still=dict(still or {}),
                gradient=gradient,
                folds=folds,
            ),
        )
        return lower

    return add


def find(name: str, domain: str, version: int) -> Form | None:
    """Return the form that holds for an operator at this version of its operator set, if there is one."""
    _discover()
    fitting = [form for form in _forms.get((domain, name), ()) if form.since <= version]
    return max(fitting, key=lambda form: form.since, default=None)


def known() -> dict[tuple[str, str], list[Form]]:
    """Return all forms by (domain, operator)."""
    _discover()
    return {key: list(forms) for key, forms in sorted(_forms.items())}


def _file(domain: str, name: str, form: Form) -> None:
    forms = _forms.setdefault((domain, name), [])
    if any(present.since == form.since for present in forms):
        raise InvalidConfig(
            f"{domain or 'the default domain'} has two torch forms of {name} from version {form.since}; keep one"
        )
    forms.append(form)


def _signature(target: Callable[..., object]) -> tuple[tuple[str, ...], dict[str, object], bool]:
    """Return the names of the inputs, the keyword-only parameters with their defaults, and whether outputs are many."""
    run = inspect.signature(getattr(target, "forward", target))
    inputs = tuple(
        f"*{entry.name}" if entry.kind is entry.VAR_POSITIONAL else entry.name
        for entry in run.parameters.values()
        if entry.kind is not entry.KEYWORD_ONLY and entry.name != "self"
    )
    made = inspect.signature(target).parameters.values()
    settings = {entry.name: entry.default for entry in made if entry.kind is entry.KEYWORD_ONLY}
    return inputs, settings, get_origin(run.return_annotation) is tuple


def _discover() -> None:
    if _discovered:
        return
    from graphrewrite.bridge import optable

    for info in pkgutil.iter_modules(optable.__path__):
        importlib.import_module(f"{optable.__name__}.{info.name}")
    _discovered.append(True)  # not before: a file that cannot be read must be told each time


_discovered: list[bool] = []
