"""An ordered list of rules; the last match wins, field by field."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dovetail.arithmetic import EXACT, Arithmetic
from dovetail.errors import DovetailError, unknown
from dovetail.kinds import KINDS
from dovetail.recipe.rule import Rule
from dovetail.recipe.selectors import OpAddress

__all__ = ["Recipe"]


@dataclass(frozen=True, init=False)
class Recipe:
    """Rules, applied like CSS: for each operation and each field, the last rule that sets it.

    >>> from dovetail.recipe.rule import rule
    >>> recipe = Recipe(rule("*", input="int8", weight="int8"), rule("head", weight="int4"))
    >>> recipe.resolve(OpAddress("head", "linear", bare=True))[0].weight
    int4
    """

    rules: tuple[Rule, ...]

    def __init__(self, *rules: Rule) -> None:
        for position, item in enumerate(rules, 1):
            if not isinstance(item, Rule):
                raise DovetailError(
                    f"a recipe is made of dv.rule(...), not {item!r} (number {position})"
                )
        named = (r if r.source else replace(r, source=f"rule {i}") for i, r in enumerate(rules, 1))
        object.__setattr__(self, "rules", tuple(named))

    def __iter__(self) -> Iterator[Rule]:
        return iter(self.rules)

    def __len__(self) -> int:
        return len(self.rules)

    def __add__(self, other: Recipe) -> Recipe:
        """These rules followed by ``other``'s."""
        return Recipe(*self.rules, *other.rules)

    def resolve(self, op: OpAddress) -> tuple[Arithmetic, dict[str, Rule]]:
        """The arithmetic of ``op``, and for each field set the rule that it came from.

        A field that means nothing to the kind of ``op`` is passed over.
        """
        values: dict[str, Any] = {}
        origin: dict[str, Rule] = {}
        kind = KINDS[op.kind]
        for item in self.rules:
            if item.selector.matches(op):
                fields = {name: v for name, v in item.fields.items() if kind.takes(name)}
                values |= fields
                origin |= dict.fromkeys(fields, item)
        return EXACT.with_(values), origin

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """The rules of an experiment file, or of a d-Matrix configuration; errors name its line."""
        from dovetail.recipe.dmatrix import load_configuration

        return load_configuration(path).recipe

    @classmethod
    def preset(cls, name: str) -> Recipe:
        """A named recipe: ``BASELINE``, ``BASIC``, ``FP8`` or ``SBFP_WEIGHT_STORAGE``.

        >>> Recipe.preset("FP8").rules[0].fields["weight"]
        float(e=4, m=3, specials=finite)
        """
        from dovetail.recipe.dmatrix import PRESETS

        if name not in PRESETS:
            raise unknown("preset", str(name), PRESETS)
        return PRESETS[name]

    def save(self, path: str | Path) -> None:
        """Write an experiment file with these rules; ``Recipe.load`` reads back an equal recipe."""
        from dovetail.recipe.schema import dump_rules

        dump_rules(self.rules, path)
