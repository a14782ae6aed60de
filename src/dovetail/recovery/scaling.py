"""Where a scale per channel goes: into what feeds the operations, if that is proven to feed nothing
else, or before their casts, out of sight."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dovetail.emulation.transforms import add_transform, multiplied
from dovetail.errors import DovetailError, unknown
from dovetail.recovery.batches import Batches
from dovetail.recovery.flow import Flow, flow
from dovetail.recovery.handle import Work
from dovetail.recovery.operations import PRODUCTS, Operation, Operations, weight_offset

__all__ = ["FUSE", "Group", "check_fuse", "fusible", "groups", "place_scale", "take_out"]

FUSE = ("auto", "only", "never")

#: Operations that a positive scale of their input passes through.
PASSING = ("relu", "leaky_relu", "dropout")
_POOLS = ("max_pool", "avg_pool")
_LAST = ("linear", "layer_norm", "rms_norm")  # their channels are the last axis


@dataclass(eq=False)
class Group:
    """Operations that take one value, and what gives it (``None``: not provably that alone).

    ``between`` are the operations that the scale passes through on the way; ``why`` says what
    speaks against fusing.
    """

    takers: list[Operation]
    source: Operation | None = None
    between: tuple[Operation, ...] = ()
    why: str = ""

    @property
    def everyone(self) -> list[Operation]:
        """All whose operands a fused scale changes."""
        return [*self.takers, *self.between, *([self.source] if self.source else [])]


def check_fuse(fuse: str) -> None:
    """Refuse what is no way of fusing."""
    if fuse not in FUSE:
        raise unknown("fuse", str(fuse), FUSE)


def groups(
    model: nn.Module,
    batches: Batches,
    found: Operations,
    chosen: Sequence[Operation],
    fuse: str = "auto",
    sources: Sequence[str] = ("layer_norm", "rms_norm", "batch_norm", "group_norm", *PRODUCTS),
) -> list[Group]:
    """The chosen operations in groups that can share a scale, each with its one source."""
    if fuse == "never":
        return [Group([op], why="fuse='never'") for op in chosen]
    flowing = flow(model, batches)
    made: list[Group] = []
    grouped: set[Operation] = set()
    for op in chosen:
        if op not in grouped:
            group = _group(op, flowing, found, chosen, sources)
            grouped.update(group.takers)
            made.append(group)
    return made


def _group(
    op: Operation,
    flowing: Flow,
    found: Operations,
    chosen: Sequence[Operation],
    sources: Sequence[str],
) -> Group:
    place = flowing.feeder(op.place)
    takers = None if place is None else flowing.only_takers(place)
    if place is None or takers is None:
        return Group([op], why="its input is not one operation's alone")
    taking = {taker for taker, _ in takers}
    members = [op for place, op in found.by_place.items() if place in taking]
    strangers = [m.key for m in members if m not in chosen or m.kind == "matmul"]
    if strangers or any(slot != "input" for _, slot in takers):
        return Group([op], why=f"its input goes to {', '.join(strangers) or 'others'} as well")
    source, between, why = _source(place, flowing, found, sources)
    if source is None:
        return Group([op], why=why)
    reason = _unfit(source, between, members, flowing, found)
    return Group([op], why=reason) if reason else Group(members, source, between)


def _source(
    place: tuple[str, str, int], flowing: Flow, found: Operations, sources: Sequence[str]
) -> tuple[Operation | None, tuple[Operation, ...], str]:
    """Back from the value to what first gave it, through what a scale passes."""
    op = found.by_place[place]
    if op.kind in sources:
        return op, (), ""
    if op.kind not in (*PASSING, *_POOLS, "mul"):
        return None, (), f"its input comes from {op.key}, through which no scale passes"
    why = f"the input of {op.key} is not one operation's alone"
    for slot in ("input", "other") if op.kind == "mul" else ("input",):
        before = flowing.feeder(place, slot)
        alike = op.kind != "mul" or op.shapes[slot] == op.shapes["output"]
        if before is not None and alike and flowing.only_takers(before) == {(place, slot)}:
            source, between, reason = _source(before, flowing, found, sources)
            if source is not None:
                return source, (op, *between), ""
            why = reason
    return None, (), why


def _unfit(
    source: Operation,
    between: Sequence[Operation],
    takers: Sequence[Operation],
    flowing: Flow,
    found: Operations,
) -> str:
    """Why a scale cannot go from the source into the takers; empty if it can."""
    users = Counter(id(op.weight.parameter) for op in found.by_place.values() if op.weight)
    if source.weight is None:
        return f"{source.key} has no weight of its own to scale"
    for op in (source, *takers):
        if op.weight is None:
            return f"{op.key} has no weight of its own to scale"
        if op.shared or users[id(op.weight.parameter)] > 1:
            return f"{op.key} shares its weight"
        if op.site is not None and (op.site.transforms or op.site.sparsity):
            return f"{op.key} is sparse, or has transforms already"
    if source.kind not in PRODUCTS and source.weight.parameter.dim() != 1:
        return f"{source.key} normalises several axes"
    if weight_offset(source) != 0:
        return f"{source.key} multiplies by more than its weight"
    if source.bias is None and _has_bias(source):
        return f"{source.key} has no bias of its own to scale"
    last = source.kind in _LAST or (
        source.kind == "batch_norm" and len(source.shapes["output"]) == 2
    )
    if any((op.kind == "linear") != last for op in takers):
        return f"{source.key} has its channels on another axis"
    moved = any(flowing.reshaped(op.place) for op in (source, *between))
    if not last and (moved or any(op.kind == "linear" for op in takers)):
        return f"what {source.key} gives is reshaped"
    if last and any(op.kind in _POOLS for op in between):
        return f"what {source.key} gives is pooled"
    channels = _outputs(source)
    if any(_inputs(op) != channels for op in takers):
        return f"{source.key} gives another number of channels"
    return ""


def _has_bias(op: Operation) -> bool:
    return "bias" in op.shapes


def _outputs(op: Operation) -> int:
    assert op.weight is not None
    shape = op.weight.read().shape
    return shape[0] if op.kind in PRODUCTS else op.weight.parameter.numel()


def _inputs(op: Operation) -> int:
    assert op.weight is not None
    return op.weight.read().shape[1] * op.groups


def fusible(work: Work, parts: list[Group], fuse: str) -> list[Group]:
    """The groups that are scaled: all, or with ``fuse="only"`` those that have a source; the others
    are noted as left, and none at all is refused."""
    if fuse != "only":
        return parts
    able = [group for group in parts if group.source is not None]
    if not able:
        raise DovetailError(
            f"{work.name}: no scale can be fused; of {parts[0].takers[0].key}, {parts[0].why}"
        )
    for group in parts:
        if group.source is None:
            work.note(group.takers[0].key, f"left, as {group.why}")
    return able


def place_scale(work: Work, group: Group, scale: Tensor) -> str:
    """Divide what the group's operations take by ``scale`` and multiply their weights by it; says
    where in words. ``scale`` is one positive number per input channel."""
    name = group.takers[0].key
    if not bool(torch.isfinite(scale).all() & (scale > 0).all()):
        raise DovetailError(f"{work.name}: the scale of {name} is not finite and positive")
    if group.source is not None:
        take_out(work, group.source, scale)
        for op in group.takers:
            assert op.weight is not None
            op.weight.write(multiplied(op.weight.read(), scale, op.kind, op.groups), work.journal)
        return f"scale in {group.source.key}"
    (op,) = group.takers
    if op.site is None:
        raise DovetailError(
            f"{work.name}: the scale of {name} cannot be fused, as {group.why}; apply a recipe to "
            "the model first, and it is applied before the casts, or leave it by fuse='only'"
        )
    work.journal.save(op.module)
    add_transform(op.site, op.module, "smooth", {"scale": scale})
    return f"scale before its casts ({group.why})"


def take_out(work: Work, source: Operation, scale: Tensor) -> None:
    """Divide each output channel of an operation by its scale."""
    for held in (source.weight, source.bias):
        if held is not None:
            value = held.read()
            shaped = scale.to(value.dtype).view(-1, *[1] * (value.dim() - 1))
            held.write((value / shaped).view_as(value), work.journal)
