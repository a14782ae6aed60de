"""A rule: a selector, and the fields of the arithmetic that it sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from dovetail.accumulators import Accumulator, accumulator
from dovetail.approximations import Approximation, approximation
from dovetail.errors import DovetailError, unknown
from dovetail.formats import format as to_format
from dovetail.gradients import gradient
from dovetail.multipliers import any_multiplier
from dovetail.recipe.selectors import Selector
from dovetail.sparsity import Sparsity, sparsity

__all__ = ["FIELDS", "Rule", "rule"]

ModuleClass = type[nn.Module]


@dataclass(frozen=True)
class Rule:
    """One line of a recipe: ``fields`` maps field names to values, ``source`` says where it is."""

    selector: Selector
    fields: Mapping[str, Any]
    optional: bool = False
    source: str = field(default="", compare=False)

    @property
    def label(self) -> str:
        """What tables and errors call this rule."""
        return self.source or str(self.selector)

    def spelled(self) -> dict[str, Any]:
        """The rule as an experiment file writes it; reads back as an equal rule."""
        words: dict[str, Any] = {"match": self.selector.match}
        if self.selector.op is not None:
            words["op"] = self.selector.op
        if self.selector.type is not None:
            words["type"] = self.selector.type
        if self.optional:
            words["optional"] = True
        return words | {k: "exact" if v is None else str(v) for k, v in self.fields.items()}


def rule(
    match: str = "*",
    *,
    op: str | None = None,
    type: str | ModuleClass | None = None,
    optional: bool = False,
    source: str = "",
    **fields: Any,
) -> Rule:
    """A rule for the operations that ``match``, ``op`` and ``type`` select together.

    Without ``op`` a rule speaks of the products; ``op="softmax"``, ``op="norm activation"`` or
    ``op="*"`` speak of other kinds (``dovetail show ops`` lists them).

    Fields: ``input``, ``weight``, ``weight_storage``, ``other`` (the second operand of ``add`` and
    its like), ``bias``, ``output`` (a format or its spelling), ``sparsity`` (which weights are
    kept, before they are cast: anything :func:`dovetail.sparsity` takes), ``mul`` (anything
    :func:`dovetail.multiplier` takes), ``acc`` (an accumulator), ``fn`` (an approximation of a
    function such as softmax), ``grad`` (a gradient). A kind that has no such
    field passes over it; a field that no matched operation has is refused in the plan. The text
    ``"exact"`` undoes what an earlier rule set. ``optional`` lets the rule match nothing.

    >>> rule("conv*", input="int8", weight="int8", mul="mul8s_1KV9").fields["input"]
    int8
    >>> rule("*", inputs="int8")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: unknown rule field 'inputs'; did you mean 'input'? ...
    """
    where = f"{source}: " if source else ""
    if not isinstance(match, str):
        raise DovetailError(f"{where}match is a glob such as 'conv*', not {match!r}")
    name = type if type is None or isinstance(type, str) else type.__name__
    values: dict[str, Any] = {}
    try:
        selector = Selector(match, op, name)
        for key, value in fields.items():
            if key not in _READERS:
                raise unknown("rule field", key, FIELDS)
            values[key] = _READERS[key](value)
    except DovetailError as error:
        raise DovetailError(f"{where}rule '{match}': {error}") from None
    if not values:
        raise DovetailError(f"{where}rule '{match}' sets no field; it can set {', '.join(FIELDS)}")
    return Rule(selector, values, optional, source)


def _format(value: Any) -> Any:
    return None if value is None or value == "exact" else to_format(value)


def _accumulator(value: Any) -> Accumulator | None:
    if value is None or value == "exact":
        return None
    if isinstance(value, Mapping):
        options = dict(value)
        return accumulator(options.pop("format", "int32"), **options)
    return accumulator(value)


def _sparsity(value: Any) -> Sparsity | None:
    if value is None or value == "exact":
        return None
    found = sparsity(value)
    return None if found.is_dense else found


def _approximation(value: Any) -> Approximation | None:
    return None if value is None or value == "exact" else approximation(value)


_READERS: dict[str, Callable[[Any], Any]] = {
    "input": _format,
    "weight": _format,
    "weight_storage": _format,
    "other": _format,
    "bias": _format,
    "output": _format,
    "sparsity": _sparsity,
    "mul": any_multiplier,
    "acc": _accumulator,
    "fn": _approximation,
    "grad": gradient,
}

#: The fields a rule can set.
FIELDS = tuple(_READERS)
