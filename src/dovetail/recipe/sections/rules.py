"""What may stand under `rules`: selectors, and the fields that they set."""

from __future__ import annotations

from typing import Any

from pydantic import Field, model_validator

from dovetail.kinds import GROUPS, KINDS
from dovetail.recipe.rule import FIELDS, Rule, rule
from dovetail.recipe.sections.base import Spec
from dovetail.recipe.sections.spelling import MultiplierText, Spelling, loaded

__all__ = ["RuleSpec"]


class RuleSpec(Spec):
    """One rule: which operations (all given selectors must match), and what they get."""

    match: str = Field("*", min_length=1, description="glob on the module path, or 're:' + regex")
    op: str | None = Field(
        None,
        description=f"kinds of operation ({', '.join(KINDS)}), groups of them "
        f"({', '.join(GROUPS)}), or * for all; product if left out",
    )
    type: str | None = Field(None, description="class name of the module")
    optional: bool = Field(False, description="do not refuse the rule when it matches nothing")
    input: Spelling | None = Field(None, description="format of the input")
    weight: Spelling | None = Field(None, description="format of the weight")
    weight_storage: Spelling | None = Field(
        None, description="format that the weight is kept in, before it is cast to multiply"
    )
    other: Spelling | None = Field(
        None, description="format of the second operand of add, sub, mul or div"
    )
    bias: Spelling | None = Field(None, description="format of the bias")
    output: Spelling | None = Field(None, description="format of the output")
    sparsity: str | None = Field(
        None,
        description="which weights are kept: n:m, topk(0.5), blocks(16, 4, 0.25), bernoulli(0.5)",
    )
    mul: MultiplierText | None = Field(
        None,
        description="name, family(k=...), file, or {file: ..., signed: ...}",
    )
    acc: Spelling | None = Field(None, description="accumulator: width, overflow, order")
    fn: str | None = Field(
        None,
        description="how softmax, a norm or an activation is computed, such as poly2(fp16)",
    )
    grad: str | None = Field(
        None,
        description="gradient of products and casts, such as ste, lut1d or lut2d(window=4)",
    )

    @model_validator(mode="after")
    def _sets_something(self) -> RuleSpec:
        if not self.values():
            raise ValueError(f"the rule sets nothing; give it one of {', '.join(FIELDS)}")
        return self

    def values(self) -> dict[str, Any]:
        """The fields that this rule sets, as `rule` takes them.

        >>> RuleSpec(match="conv*", acc={"format": "int24", "overflow": "wrap"}).values()
        {'acc': 'int24(overflow=wrap)'}
        """
        return {name: value for name in FIELDS if (value := getattr(self, name)) is not None}

    def build(self, source: str) -> Rule:
        """The `Rule` that this text describes; `source` is how messages will name it.

        >>> RuleSpec(match="conv*", input="int8").build("digits.yaml:7").label
        'digits.yaml:7'
        """
        return rule(
            self.match,
            op=self.op,
            type=self.type,
            optional=self.optional,
            source=source,
            **{name: loaded(value) for name, value in self.values().items()},
        )
