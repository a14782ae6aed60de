"""The experiment file: what may stand in it, its defaults, and how a rule is written there.

One YAML file is one experiment. The models below are the whole of its grammar; `dovetail show
schema` prints them as a JSON schema. A recipe file is an experiment file that has only rules.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from dovetail._spelling import spell_call
from dovetail.errors import unknown
from dovetail.kinds import GROUPS, KINDS
from dovetail.multipliers import multiplier
from dovetail.recipe.recover import BEFORE_EMULATION, RecoverSpec
from dovetail.recipe.rule import FIELDS, Rule, rule
from dovetail.recipe.yaml_source import describe
from dovetail.sparsity import schedule

__all__ = [
    "CalibrateSpec",
    "DataSpec",
    "Experiment",
    "FitSpec",
    "ModelSpec",
    "RequireSpec",
    "RuleSpec",
]


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _spelling(value: Any) -> Any:
    """A format as text, or as a mapping that is spelt out into that text."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise ValueError(
            f"expected text such as int8(affine), or a mapping such as "
            f"{{format: int24, overflow: wrap}}, got {describe(value)}"
        )
    arguments = dict(value)
    name = arguments.pop("format", None)
    if not isinstance(name, str):
        raise ValueError("the mapping needs the key 'format', as in {format: int24}")
    for key, argument in arguments.items():
        if not isinstance(argument, (str, int, float)):
            raise ValueError(f"'{key}' must be text, a number or true, got {describe(argument)}")
    flags = [key for key, argument in arguments.items() if argument is True]
    named = {key: argument for key, argument in arguments.items() if argument is not True}
    return spell_call(name, *flags, **named)


Spelling = Annotated[
    str,
    BeforeValidator(_spelling),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "required": ["format"]}]}),
]
_FILE_OPTIONS: dict[str, tuple[tuple[type, ...], str]] = {
    "file": ((str,), "text"),
    "signed": ((bool,), "true or false"),
    "bits": ((int, list), "a whole number, or a list such as [8, 4] for input and weight"),
    "function": ((str,), "text"),
    "check": ((str,), "text"),
}


def _multiplier(value: Any) -> Any:
    """A multiplier as text, or as a file with what its contents do not say."""
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise ValueError(
            f"expected text such as mul8s_1KV9, or a mapping such as "
            f"{{file: table.npy, signed: false}}, got {describe(value)}"
        )
    if "file" not in value:
        raise ValueError("the mapping needs the key 'file', as in {file: table.npy}")
    for key, option in value.items():
        if key not in _FILE_OPTIONS:
            raise unknown("key", key, _FILE_OPTIONS)
        kinds, words = _FILE_OPTIONS[key]
        if type(option) not in kinds:
            raise ValueError(f"'{key}' is {words}, got {describe(option)}")
    return value


MultiplierText = Annotated[
    str | dict[str, Any],
    BeforeValidator(_multiplier),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "object", "required": ["file"]}]}),
]
Target = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")]


class _Source(_Spec):
    """Something that is built in, or made by a function of the user's."""

    builtin: str | None = Field(None, description="the name of one that ships with dovetail")
    python: Target | None = Field(None, description="'package.module:function', called to make it")

    @model_validator(mode="after")
    def _one_of_both(self) -> _Source:
        if (self.builtin is None) == (self.python is None):
            raise ValueError("needs exactly one of the keys 'builtin' and 'python'")
        return self


class ModelSpec(_Source):
    """The network. A Python function takes no argument and returns a trained `nn.Module`."""


class DataSpec(_Source):
    """The data. A Python function takes `seed` and `batch_size` and returns `train`, `test` and,
    if it likes, `calibration` loaders, as a mapping or as an object's attributes.
    """

    seed: int = Field(0, ge=0, description="of the choice of calibration samples")
    batch_size: int = Field(64, ge=1, description="samples in a batch")


class RuleSpec(_Spec):
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


def loaded(value: Any) -> Any:
    """A field's value, with a file's mapping turned into its multiplier.

    >>> loaded("int8")
    'int8'
    """
    if isinstance(value, dict):
        return multiplier(value["file"], **{k: v for k, v in value.items() if k != "file"})
    return value


class CalibrateSpec(_Spec):
    """How the ranges of static formats are found."""

    batches: int = Field(4, ge=1, description="batches of the calibration split to look at")
    observer: str = Field("minmax", description="how a range follows from what was seen")


def _prune(value: str) -> str:
    return str(schedule(value))


Prune = Annotated[str, AfterValidator(_prune)]


class FitSpec(_Spec):
    """Retraining under the emulated arithmetic: the arguments of `dv.fit`."""

    epochs: int = Field(1, ge=1, description="passes over the training data")
    lr: float = Field(5e-4, gt=0, description="the highest learning rate")
    optimizer: str = Field(
        "adam", description="one of torch's, such as adamw(weight_decay=0.01) or sgd(momentum=0.9)"
    )
    schedule: str = Field(
        "cosine", description="of the learning rate: cosine, linear, constant; cosine(warmup=0.1)"
    )
    scheduler: Target | None = Field(
        None, description="instead of schedule, a function of the optimizer: a torch scheduler"
    )
    loss: Target | None = Field(
        None, description="a function of output and target; cross entropy if left out"
    )
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="what torch's autocast computes in"
    )
    accumulate: int = Field(1, ge=1, description="batches for one step")
    clip_norm: float | None = Field(None, gt=0, description="bound of the gradient's norm")
    evaluate: Literal["calibration", "validation", "test"] | None = Field(
        None, description="data on which the accuracy is measured before and after each epoch"
    )
    budget: float | None = Field(
        None, ge=0, description="stop as soon as the accuracy is so near the exact network's"
    )
    keep_best: bool = Field(True, description="end with the weights of the best epoch")
    distill: str | None = Field(
        None, description="learn from the exact network, too: exact(temperature=2, alpha=0.5)"
    )
    checkpoint: str | None = Field(
        None, min_length=1, description="folder from which an interrupted training goes on"
    )
    checkpoint_every: int | None = Field(None, ge=1, description="steps between two checkpoints")
    logger: str | None = Field(None, min_length=1, description="CSV file of loss and accuracy")
    seed: int | None = Field(None, ge=0, description="of the order; the experiment's if left out")
    prune: Prune | None = Field(
        None, description="how sparse weights are taken away: cubic, linear(begin=0.1, end=0.5)"
    )

    @model_validator(mode="after")
    def _together(self) -> FitSpec:
        for option, needed in (("budget", "evaluate"), ("checkpoint_every", "checkpoint")):
            if getattr(self, option) is not None and getattr(self, needed) is None:
                raise ValueError(f"'{option}' needs the key '{needed}'")
        return self


_COMPARISONS: dict[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
}
_CONDITION = re.compile(r"(>=|<=|>|<)\s*(-?[0-9]+(?:\.[0-9]*)?(?:[eE][-+]?[0-9]+)?)\s*(%?)")


def _condition(value: Any) -> Any:
    if isinstance(value, str) and _CONDITION.fullmatch(value.strip()):
        return value.strip()
    raise ValueError(f'expected a condition such as ">=0.95" or "<= 60%", got {describe(value)}')


Condition = Annotated[str, BeforeValidator(_condition)]


class RequireSpec(_Spec):
    """Conditions on the last stage of a run; a missed one makes it end with exit code 1."""

    accuracy: Condition | None = Field(None, description='share of right answers, as ">=0.95"')
    perplexity: Condition | None = Field(None, description='of language data, as "<=6"')
    sqnr: Condition | None = Field(None, description='of the network\'s output in dB, as ">=20"')
    energy: Condition | None = Field(None, description='relative to exact, as "<=0.7"')

    def judge(self, measured: Mapping[str, float | None]) -> tuple[list[str], list[str]]:
        """What is as required, and what is not; one sentence for each condition.

        >>> RequireSpec(accuracy=">= 95%").judge({"accuracy": 0.94})
        ([], ['accuracy 0.94 misses >= 95%'])
        """
        met: list[str] = []
        missed: list[str] = []
        for name, condition in self.model_dump(exclude_none=True).items():
            match = _CONDITION.fullmatch(condition)
            assert match is not None
            bound = float(match[2]) / (100 if match[3] else 1)
            value = measured.get(name)
            if value is None or math.isnan(value):
                missed.append(f"{name} was not measured, so it misses {condition}")
            elif _COMPARISONS[match[1]](value, bound):
                met.append(f"{name} {value:.4g} meets {condition}")
            else:
                missed.append(f"{name} {value:.4g} misses {condition}")
        return met, missed


def _version(value: Any) -> Any:
    if value == 1 and not isinstance(value, bool):
        return value
    raise ValueError(f"this dovetail reads version 1 of the experiment file, not {describe(value)}")


Version = Annotated[
    Literal[1], BeforeValidator(_version), Field(description="version of this file's grammar")
]
Measure = Literal["accuracy", "perplexity", "sqnr", "energy"]


def _with_accuracy(value: Sequence[str]) -> Sequence[str]:
    if "accuracy" in value:
        return value
    raise ValueError("accuracy must be in the list: every stage of a run is judged by it")


def _in_order(value: Sequence[RecoverSpec]) -> Sequence[RecoverSpec]:
    later = False
    for item in value:
        if later and item.name in BEFORE_EMULATION:
            raise ValueError(f"{item.name} changes the model before the rules do: put it first")
        later |= item.name not in BEFORE_EMULATION
    return value


class Experiment(_Spec):
    """One experiment: a model, its data, the arithmetic it gets, and what is measured."""

    dovetail: Version
    seed: int = Field(0, ge=0, description="of everything random in the run")
    threads: int | None = Field(
        None, ge=1, description="to compute with; training sums in another order for another number"
    )
    model: ModelSpec | None = None
    data: DataSpec | None = None
    rules: Sequence[RuleSpec] = Field(min_length=1, description="later wins, field by field")
    calibrate: CalibrateSpec = CalibrateSpec()
    recover: Annotated[Sequence[RecoverSpec], AfterValidator(_in_order)] = Field(
        (), description="post-training recipes, by name or {name: {option: value}}, in their order"
    )
    fit: FitSpec | None = Field(None, description="retraining; left out: none")
    measure: Annotated[Sequence[Measure], AfterValidator(_with_accuracy)] = Field(
        ("accuracy", "sqnr", "energy"), description="what the report shows; accuracy always"
    )
    require: RequireSpec = RequireSpec()
    report: str | None = Field(None, min_length=1, description="folder for the run's files")

    @model_validator(mode="after")
    def _required_is_measured(self) -> Experiment:
        for name in self.require.model_dump(exclude_none=True):
            if name not in self.measure:
                raise ValueError(f"require.{name} needs '{name}' in the list 'measure'")
        return self
