"""Which operations a recipe is for: those of a model, selected as rules select them."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from dovetail.emulation import is_emulated
from dovetail.emulation.calls import Call
from dovetail.emulation.mode import ENTRY
from dovetail.emulation.operators import OpCall, norm_offset
from dovetail.emulation.seen import Place
from dovetail.emulation.site import Site
from dovetail.emulation.trace import named, watching
from dovetail.errors import DovetailError
from dovetail.kinds import KINDS
from dovetail.recipe import OpAddress
from dovetail.recipe.selectors import Selector
from dovetail.recovery.batches import Batches, quiet
from dovetail.recovery.order import refuse_late
from dovetail.recovery.parameters import Held, held_bias, held_weight, homes

__all__ = [
    "PRODUCTS",
    "Operation",
    "Operations",
    "Select",
    "operations",
    "watch_exact",
    "weight_offset",
]

#: Products with a weight.
PRODUCTS = ("linear", "conv", "conv_transpose")

#: Patterns as rules have them, or selectors.
Select = str | Selector | Sequence[str | Selector]


@dataclass(eq=False)
class Operation:
    """One operation of a model: where it is called, by which module, with which parameters.

    ``site`` is what emulation knows of it, ``None`` where no rule addresses it. ``shared`` are the
    other names under which the model holds its weight.
    """

    place: Place
    address: OpAddress
    module: nn.Module
    site: Site | None = None
    weight: Held | None = None
    bias: Held | None = None
    groups: int = 1
    shared: tuple[str, ...] = ()
    calls: int = 0
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.address.key

    @property
    def kind(self) -> str:
        return self.address.kind


class Operations:
    """The operations that a model calls, in their order."""

    def __init__(self, model: nn.Module, by_place: dict[Place, Operation]) -> None:
        self.by_place = by_place
        self.emulated = any(is_emulated(module) for module in model.modules())

    def select(
        self,
        recipe: str,
        select: Select,
        kinds: Sequence[str],
        also: Sequence[str] = (),
        *,
        anywhere: bool = False,
    ) -> list[Operation]:
        """Those that are selected, of the kinds that the recipe can treat.

        A pattern without a kind speaks of ``kinds``, one with it of those ``also``; one that
        matches nothing is refused, as is one that names an operation of another kind, and an
        operation that an earlier recipe left in a state that this one would spoil. Of an
        emulated model only what its rules address is found, unless ``anywhere``.
        """
        patterns = [select] if isinstance(select, (str, Selector)) else list(select)
        if not patterns:
            raise DovetailError(f"{recipe}: select is empty; '*' is everything that it treats")
        chosen: dict[Place, Operation] = {}
        for pattern in patterns:
            selector = _selector(pattern, kinds)
            found = [op for op in self.by_place.values() if selector.matches(op.address)]
            planned = [op for op in found if op.site is not None or anywhere or not self.emulated]
            self._check(recipe, pattern, found, planned, (*kinds, *also))
            chosen.update({op.place: op for op in planned})
        ordered = [op for place, op in self.by_place.items() if place in chosen]
        refuse_late(recipe, ordered)
        return ordered

    def _check(
        self,
        recipe: str,
        pattern: str | Selector,
        found: list[Operation],
        planned: list[Operation],
        kinds: Sequence[str],
    ) -> None:
        text = (
            f"{recipe}: select='{pattern}'" if isinstance(pattern, str) else f"{recipe}: {pattern}"
        )
        if not found:
            able = [op.key for op in self.by_place.values() if op.kind in kinds]
            if not able:
                raise DovetailError(
                    f"{text} matches no operation: this model calls no {' or '.join(kinds)}, so "
                    f"there is nothing for {recipe} to do"
                )
            near = difflib.get_close_matches(str(pattern).strip("'*"), able, n=1, cutoff=0.3)
            hint = f"; did you mean '{near[0]}'?" if near else "."
            shown = ", ".join(able[:12]) + (", ..." if len(able) > 12 else "")
            raise DovetailError(f"{text} matches no operation{hint} It can treat: {shown}")
        for op in found:
            if op.kind not in kinds:
                raise DovetailError(
                    f"{text} names {op.key}, which is {op.kind}; {recipe} treats {', '.join(kinds)}"
                )
        if not planned:
            raise DovetailError(
                f"{text} matches only operations that no rule addresses, such as {found[0].key}: "
                "nothing is emulated there"
            )


def _selector(pattern: str | Selector, kinds: Sequence[str]) -> Selector:
    if isinstance(pattern, Selector):
        return pattern
    if not isinstance(pattern, str):
        raise DovetailError(f"select={pattern!r} is no pattern such as 'layers.*'")
    named_kind = ":" in pattern.removeprefix("re:")
    return Selector(pattern, op=None if named_kind else " ".join(kinds))


def operations(model: nn.Module, batches: Batches) -> Operations:
    """What the model calls on the first batch."""
    calls: dict[Place, tuple[nn.Module, Call | OpCall]] = {}
    shared = homes(model)

    def watch(place: Place, call: Call | OpCall, _: Tensor) -> None:
        calls.setdefault(place, (owners[place[0]], call))
        found_parameters.setdefault(place, _parameters(owners[place[0]], call))

    owners = dict(model.named_modules())
    found_parameters: dict[Place, tuple[Held | None, Held | None]] = {}
    with quiet(model), watching(model, watch) as trace:
        model(*batches.first.args, **batches.first.kwargs)
    by_place = {}
    for place, seen in named(trace).seen.items():
        weight, bias = found_parameters[place]
        names = shared[id(weight.parameter)] if weight is not None else []
        call = calls[place][1]
        by_place[place] = Operation(
            place,
            seen.address,
            seen.module,
            _site(seen.module, place),
            weight,
            bias,
            call.geometry.groups if isinstance(call, Call) else 1,
            tuple(names[1:]),
            seen.calls,
            seen.shapes,
        )
    return Operations(model, by_place)


def _parameters(module: nn.Module, call: Call | OpCall) -> tuple[Held | None, Held | None]:
    if isinstance(call, Call):
        weight = held_weight(module, call) if call.kind in PRODUCTS else None
        return weight, held_bias(module, call.bias)
    slots = KINDS[call.kind].fields
    pair = [call.operands.get(slot) if slot in slots else None for slot in ("weight", "bias")]
    return held_bias(module, pair[0]), held_bias(module, pair[1])


def _site(module: nn.Module, place: Place) -> Site | None:
    entry = module.__dict__.get(ENTRY)
    by_index: dict[int | None, Site] = {} if entry is None else entry.sites.get(place[1], {})
    return by_index.get(place[2], by_index.get(None))


def weight_offset(norm: Operation) -> float | None:
    """What a normalisation adds to its weight before it scales by it: 1 for Gemma's, ``None`` if it
    computes something else."""
    with quiet(norm.module), watching(norm.module):
        return norm_offset(norm.module)


def watch_exact(
    model: nn.Module,
    batches: Batches,
    wanted: Iterable[Operation],
    see: Callable[[Operation, Call | OpCall, Tensor], None],
    text: str,
) -> None:
    """Show every call of some operations, and its result, as the model computes without emulation;
    batch by batch."""
    by_place = {op.place: op for op in wanted}

    def watch(place: Place, call: Call | OpCall, result: Tensor) -> None:
        op = by_place.get(place)
        if op is not None:
            see(op, call, result)

    with quiet(model):
        for batch in batches.over(text):
            with watching(model, watch):
                model(*batch.args, **batch.kwargs)
