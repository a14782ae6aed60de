"""What is searched: for patterns of operations the values that fields may take."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from dovetail.emulation.plan import aliases_of, check_matches
from dovetail.emulation.seen import Trace
from dovetail.errors import DovetailError, unknown
from dovetail.kinds import KINDS
from dovetail.recipe import OpAddress, Recipe, Rule, Selector, rule
from dovetail.recipe.rule import FIELDS
from dovetail.search.choices import Choice, Key, read_choices, read_key

__all__ = ["Axis", "Space", "axes_of"]

#: How messages name a place of the space: its keys in turn.
Where = Callable[..., str]


def _named(*path: str | int) -> str:
    return ".".join(map(str, path))


@dataclass(frozen=True)
class Space:
    """A search space, as ``search:`` of an experiment file writes it.

    ``over`` and ``each`` map ``"PATTERN.FIELD"`` (or ``"PATTERN.FIELD+FIELD"``) to the values to
    choose from, or a pattern alone to mappings of fields. Under ``over`` all operations that the
    pattern matches share one choice, under ``each`` every one has its own; of two keys of ``each``
    that set the same fields of an operation the later counts. ``share`` puts operations on a tile:
    ``{"mul": [["conv1", "conv2"], "head"]}`` gives all on a tile the same choice. ``distinct`` says
    how many different values of a field may be chosen at most: ``{"mul": 2}``.

    >>> Space({"conv*.mul": ["exact", "mul8s_1KVM"]}).distinct
    {}
    """

    over: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    each: Mapping[str, Sequence[Any]] = field(default_factory=dict)
    share: Mapping[str, Sequence[str | Sequence[str]]] = field(default_factory=dict)
    distinct: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("over", "each", "share", "distinct"):
            if not isinstance(getattr(self, name), Mapping):
                raise DovetailError(f"{name} is a mapping, not {getattr(self, name)!r}")
        for name in (*self.share, *self.distinct):
            if name not in FIELDS:
                raise unknown("rule field", name, FIELDS)
        for name, most in self.distinct.items():
            if not isinstance(most, int) or most < 1:
                raise DovetailError(f"distinct: {name} is a whole number from 1, not {most!r}")
        if not self.over and not self.each:
            raise DovetailError(
                'a search space is empty: give it such as {"conv*.mul": ["exact", "mul8s_1L2H"]}'
            )


@dataclass(frozen=True)
class Axis:
    """One decision: the operations that it is for, and the choices."""

    name: str
    targets: tuple[tuple[str, str | None], ...]  # pattern and kinds of each of its rules
    ops: tuple[OpAddress, ...]
    choices: tuple[Choice, ...]
    place: str

    @property
    def fields(self) -> frozenset[str]:
        """All that some choice sets."""
        return frozenset().union(*(choice.fields for choice in self.choices))

    def rules(self, choice: int) -> Iterator[Rule]:
        """What the choice puts into a recipe."""
        for match, op in self.targets:
            yield rule(match, op=op, source=self.place, **self.choices[choice].fields)


def axes_of(space: Space, model: Any, found: Trace, where: Where = _named) -> tuple[Axis, ...]:
    """The decisions of a space for the operations that an example run found.

    Refused: patterns that match nothing, fields that no matched operation has, two keys that set
    the same field of an operation.
    """
    aliases = aliases_of(model)
    shared = [
        axis
        for text, values in space.over.items()
        for axis in [_over(text, values, found, aliases, where("over", text))]
    ]
    own: dict[tuple[OpAddress, frozenset[str]], Axis] = {}
    for text, values in space.each.items():
        for axis in _each(text, values, found, aliases, where("each", text)):
            own.pop((axis.ops[0], axis.fields), None)
            own[(axis.ops[0], axis.fields)] = axis
    axes = [*shared, *_on_tiles(list(own.values()), space.share, where)]
    _refuse_overlaps(axes)
    return tuple(axes)


Aliases = dict[str, list[str]]


def _over(text: str, values: Any, found: Trace, aliases: Aliases, place: str) -> Axis:
    key = read_key(text, values, place)
    choices = read_choices(key, values)
    ops = _matched(key, choices, found, aliases)
    return Axis(text, ((key.match, None),), tuple(ops), choices, place)


def _each(text: str, values: Any, found: Trace, aliases: Aliases, place: str) -> Iterator[Axis]:
    key = read_key(text, values, place)
    choices = read_choices(key, values)
    for op in _matched(key, choices, found, aliases):
        paths = (op.path, *aliases.get(op.path, ()))
        keys = [replace(op, path=path).key for path in paths]
        targets = tuple((_literal(name), op.kind) for name in keys)
        yield Axis(f"{op.key}{key.suffix}", targets, (op,), choices, place)


def _matched(
    key: Key, choices: tuple[Choice, ...], found: Trace, aliases: Aliases
) -> list[OpAddress]:
    """The operations of a key; refused as a rule that matches nothing is."""
    for choice in choices:
        made = rule(key.match, source=key.place, **choice.fields)
        check_matches(Recipe(made), found, aliases)
    fields = [name for choice in choices for name in choice.fields]
    selector = Selector(key.match)
    addresses = [
        (seen.address, replace(seen.address, path=path))
        for seen in found.seen.values()
        for path in (seen.address.path, *aliases.get(seen.address.path, ()))
    ]
    matched = [op for op, spelt in addresses if selector.matches(spelt)]
    return [op for op in dict.fromkeys(matched) if any(map(KINDS[op.kind].takes, fields))]


def _literal(key: str) -> str:
    """A glob that matches only this text."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in key)


def _on_tiles(axes: list[Axis], share: Mapping[str, Any], where: Where) -> list[Axis]:
    """The axes with those of each tile made one, where its first stood."""
    for name, tiles in share.items():
        for number, tile in enumerate(tiles):
            place = where("share", name, number)
            patterns = [Selector(text) for text in ([tile] if isinstance(tile, str) else tile)]
            own = [axis for axis in axes if name in axis.fields]
            for pattern in patterns:
                if not any(pattern.matches(op) for axis in own for op in axis.ops):
                    names = ", ".join(axis.name for axis in own) or "none"
                    raise DovetailError(
                        f"{place}: '{pattern.match}' matches no operation with its own {name}; "
                        f"each has {names}"
                    )
            on = [a for a in own if any(p.matches(op) for p in patterns for op in a.ops)]
            merged = _merged(on, place)
            at = axes.index(on[0])
            axes = [*axes[:at], merged, *(axis for axis in axes[at + 1 :] if axis not in on)]
    return axes


def _merged(axes: list[Axis], place: str) -> Axis:
    first = axes[0]
    for axis in axes:
        if [c.label for c in axis.choices] != [c.label for c in first.choices]:
            raise DovetailError(
                f"{place}: {first.name} and {axis.name} are on one tile, but have different "
                "choices: give them the same"
            )
    ops = tuple(op for axis in axes for op in axis.ops)
    suffix = first.name.removeprefix(first.ops[0].key)
    name = "|".join(op.key for op in ops) + suffix
    targets = tuple(target for axis in axes for target in axis.targets)
    return Axis(name, targets, ops, first.choices, first.place)


def _refuse_overlaps(axes: list[Axis]) -> None:
    seen: dict[tuple[OpAddress, str], Axis] = {}
    for axis in axes:
        for op in axis.ops:
            for name in axis.fields:
                other = seen.setdefault((op, name), axis)
                if other is not axis:
                    raise DovetailError(
                        f"{axis.place}: {name} of {op.key} is searched by '{other.name}' already: "
                        "let only one of the two keys match it"
                    )
