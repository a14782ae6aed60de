"""The one frozen value that says how an operation computes."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields, replace
from functools import lru_cache
from typing import TYPE_CHECKING

from dovetail.accumulators import Accumulator, FloatAccumulator, accumulator
from dovetail.approximations import Approximation, approximation
from dovetail.errors import DovetailError
from dovetail.formats import FloatFormat, Format, IntFormat
from dovetail.formats import format as to_format
from dovetail.formats.rounding import NEAREST_EVEN
from dovetail.gradients import Gradient, gradient, terms_of
from dovetail.kinds import KINDS
from dovetail.multipliers import FloatMultiplier, Multiplier, any_multiplier, multiplier
from dovetail.multipliers.floating import within
from dovetail.sparsity import Sparsity, sparsity
from dovetail.sparsity.scores import GRADIENT_SCORES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["EXACT", "Arithmetic"]


@dataclass(frozen=True)
class Arithmetic:
    """Formats of the operands and the result, the sparsity of the weight, the multiplier, the
    accumulator, the approximation of a function, the gradient.

    Every default is exact: ``None`` leaves a tensor, the accumulator or the function as torch has
    it. ``fn`` is how a function such as softmax is computed. ``grad`` is what the backward pass
    uses for the products and the casts, or its spelling: see :class:`dovetail.gradients.Gradient`.
    A floating-point multiplier takes operands of its own format, or of formats within it,
    and its products are summed in float32, in order of k, unless ``acc`` says otherwise.

    >>> from dovetail.formats import format
    >>> Arithmetic(input=format("int8"), weight=format("int4")).is_exact
    False
    """

    input: Format | None = None
    weight: Format | None = None
    weight_storage: Format | None = None
    other: Format | None = None
    bias: Format | None = None
    output: Format | None = None
    sparsity: Sparsity | None = None
    mul: Multiplier | FloatMultiplier = field(default_factory=lambda: multiplier("exact"))
    acc: Accumulator | None = None
    fn: Approximation | None = None
    grad: Gradient = field(default_factory=Gradient)

    def __post_init__(self) -> None:
        if self.sparsity is not None and self.sparsity.is_dense:
            object.__setattr__(self, "sparsity", None)
        object.__setattr__(self, "grad", gradient(self.grad))

    @property
    def is_exact(self) -> bool:
        """Whether this asks for nothing."""
        return self == EXACT

    @property
    def multiplies_codes(self) -> bool:
        """Whether products are formed from the operands' integer codes."""
        codes = _has_codes(self.input) and _has_codes(self.weight)
        return codes and not isinstance(self.mul, FloatMultiplier)

    @property
    def code_multiplier(self) -> Multiplier:
        """The multiplier of codes; refused where floating-point numbers are multiplied."""
        if isinstance(self.mul, FloatMultiplier):
            raise DovetailError(f"mul={self.mul} multiplies floating-point numbers, not codes")
        return self.mul

    @property
    def scores_gradients(self) -> bool:
        """Whether calibration must run backward passes, of which the weights' scores are made."""
        return self.sparsity is not None and self.sparsity.score in GRADIENT_SCORES

    def with_nearest_codes(self) -> Arithmetic | None:
        """This arithmetic with codes rounded to nearest that it rounds stochastically, if any are.

        >>> from dovetail.formats import format
        >>> drawn = Arithmetic(format("int8"), format("int4(rounding=Stochastic)"))
        >>> drawn.with_nearest_codes().weight, Arithmetic().with_nearest_codes() is None
        (int4, True)
        """
        drawn = {
            slot: replace(fmt, rounding=NEAREST_EVEN)
            for slot in ("input", "weight")
            if isinstance(fmt := getattr(self, slot), IntFormat) and fmt.rounding.is_stochastic
        }
        return self.with_(drawn) if drawn and self.multiplies_codes else None

    def with_(self, changes: Mapping[str, object]) -> Arithmetic:
        """This arithmetic with some fields replaced."""
        values = {f.name: getattr(self, f.name) for f in fields(self)} | dict(changes)
        return Arithmetic(**values)

    def describe(self) -> dict[str, str]:
        """Field to spelling, for the fields that differ from exact."""
        return {
            f.name: str(getattr(self, f.name))
            for f in fields(self)
            if getattr(self, f.name) != getattr(EXACT, f.name)
        }

    @property
    def spelling(self) -> str:
        """A text from which :meth:`parse` makes an equal value; ops carry it through graphs.

        >>> Arithmetic.parse(Arithmetic(acc=accumulator("int24")).spelling).acc
        int24
        """
        return json.dumps(self.describe())

    @staticmethod
    @lru_cache(maxsize=1024)
    def parse(spelling: str) -> Arithmetic:
        """The arithmetic that :attr:`spelling` spelt."""
        words = json.loads(spelling)
        return EXACT.with_({key: _PARSERS.get(key, to_format)(text) for key, text in words.items()})

    def check(self, kind: str = "linear") -> None:
        """Refuse combinations that no operation of this kind can compute."""
        if KINDS[kind].is_product:
            self._check_product(kind)
            self._check_gradient()
        elif self.grad not in (Gradient(), Gradient(cast="unclipped")):
            raise DovetailError(
                f"grad={self.grad} is about the operands of products, and {kind} has none: give it "
                "'ste' or 'ste(unclipped)'"
            )
        if self.fn is not None:
            self.fn.check(kind)

    def _check_product(self, kind: str) -> None:
        if not self.multiplies_codes:
            if isinstance(self.mul, FloatMultiplier):
                self._check_floats(self.mul)
            elif self.mul != EXACT.mul:
                raise DovetailError(
                    f"mul={self.mul} multiplies integer codes, but "
                    f"input={self.input or 'exact'} and weight={self.weight or 'exact'}: "
                    f"give both an integer format such as {_fitting(self.mul)}, or name the "
                    f"floating-point format, as in 'mitchell(format=bf16)'"
                )
            if self.acc is not None and not isinstance(self.acc, FloatAccumulator):
                raise DovetailError(
                    f"acc={self.acc} sums integer products, but input={self.input or 'exact'} and "
                    f"weight={self.weight or 'exact'}: give both an integer format such as 'int8', "
                    "or sum floating-point products in a register such as 'fp16'"
                )
            return
        self._check_width("input", self.input, 0)
        self._check_width("weight", self.weight, 1)
        self._check_granularity("input", self.input, None)
        self._check_granularity("weight", self.weight, None if kind == "matmul" else 0)

    def _check_gradient(self) -> None:
        """Gradients of a multiplier need one that multiplies codes; its terms are made here."""
        self._check_learned()
        if self.grad.is_noisy and self.acc is not None:
            raise DovetailError(
                f"grad={self.grad} trains on exact sums with noise, which acc={self.acc} would "
                "never see: leave acc out, or give 'ste'"
            )
        if self.grad.is_straight_through and not self.grad.is_noisy:
            return
        if not self.multiplies_codes:
            what = "floating-point numbers" if isinstance(self.mul, FloatMultiplier) else "no codes"
            raise DovetailError(
                f"grad={self.grad} needs a multiplier's products of integer codes, but "
                f"input={self.input or 'exact'}, weight={self.weight or 'exact'} and "
                f"mul={self.mul} multiply {what}: give integer formats such as 'int8', or "
                f"grad='{Gradient(cast=self.grad.cast)}'"
            )
        if self.grad.is_approximate:
            self._check_backward_products()
        terms_of(self.grad, self.code_multiplier, *self.code_ranges)

    def _check_backward_products(self) -> None:
        """Both operands of the product meet a gradient, which has a sign and goes first."""
        mul = self.code_multiplier
        if mul.bits is None:
            return
        if not mul.signed:
            raise DovetailError(
                f"grad={self.grad} multiplies gradients, which have signs, but mul={mul} is "
                f"unsigned: give 'sign_magnitude({mul})', or "
                f"grad='{Gradient(cast=self.grad.cast)}'"
            )
        (low, high), most = self.code_ranges[0], 1 << (mul.bits[1] - 1)
        if low < -most or high >= most:
            raise DovetailError(
                f"grad={self.grad} multiplies gradients by the input, which is the second operand "
                f"then, but input={self.input} has codes {low}..{high} and mul={mul} takes "
                f"{-most}..{most - 1} there: the nearest format that fits is {_fitting(mul, 1)}"
            )

    @property
    def gradient_format(self) -> IntFormat | None:
        """The format of gradients where backward products are the multiplier's; else None.

        Symmetric, per tensor, of the width of the multiplier's first operand. An exact multiplier
        of no width takes gradients as they are: its ``approx`` is ``ste``.

        >>> from dovetail.formats import format
        >>> int8, mul = format("int8"), multiplier("mul8s_1KVM")
        >>> Arithmetic(int8, int8, mul=mul, grad="approx").gradient_format
        int8
        """
        if not self.grad.is_approximate or self.code_multiplier.bits is None:
            return None
        return IntFormat(self.code_multiplier.bits[0])

    def _check_learned(self) -> None:
        """Learned are real scales of symmetric codes, which nothing else determines."""
        for slot in self.grad.learned:
            fmt = getattr(self, slot)
            fixed = isinstance(fmt, IntFormat) and (fmt.affine or fmt.po2 or fmt.dynamic)
            drawn = isinstance(fmt, IntFormat) and fmt.rounding != NEAREST_EVEN
            if not self.multiplies_codes or fixed or drawn:
                raise DovetailError(
                    f"grad={self.grad} learns the scale of the {slot}'s integer codes, but "
                    f"{slot}={fmt or 'exact'}: give input and weight symmetric formats with real "
                    "scales that round to nearest, such as 'int8'"
                )

    @property
    def code_ranges(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """The lowest and highest codes of the two operands of a product of codes."""
        assert isinstance(self.input, IntFormat)
        assert isinstance(self.weight, IntFormat)
        return (self.input.qmin, self.input.qmax), (self.weight.qmin, self.weight.qmax)

    def _check_floats(self, mul: FloatMultiplier) -> None:
        """Operands are values of the multiplier's format, though they may be of a narrower one."""
        for slot, fmt in (("input", self.input), ("weight", self.weight)):
            if not isinstance(fmt, FloatFormat) or not within(fmt, mul.format):
                raise DovetailError(
                    f"{slot}={fmt or 'exact'}: mul={mul} multiplies values of '{mul.format!r}'; "
                    f"give the {slot} that format, or one all of whose values it has"
                )

    def _check_width(self, slot: str, fmt: Format | None, operand: int) -> None:
        mul = self.code_multiplier
        if mul.bits is None or not isinstance(fmt, IntFormat):
            return
        width, signed = mul.bits[operand], mul.signed
        low, high = (-(1 << (width - 1)), (1 << (width - 1)) - 1) if signed else (0, 2**width - 1)
        if fmt.qmin < low or fmt.qmax > high:
            raise DovetailError(
                f"{slot}={fmt} has codes {fmt.qmin}..{fmt.qmax}, but mul={mul} takes "
                f"{low}..{high}: the nearest format that fits is {_fitting(mul, operand)}"
            )

    def _check_granularity(self, slot: str, fmt: Format | None, allowed: int | None) -> None:
        axis = fmt.channel if isinstance(fmt, IntFormat) else None
        if axis not in (None, allowed):
            plain = str(replace(fmt, channel=allowed)) if isinstance(fmt, IntFormat) else fmt
            raise DovetailError(
                f"{slot}={fmt}: the products of one sum share one scale, so it cannot vary along "
                f"axis {axis}; the nearest that works is '{plain}'"
            )


def _has_codes(fmt: Format | None) -> bool:
    """Whether codes of ``fmt`` can be multiplied and summed before they are scaled."""
    return isinstance(fmt, IntFormat) and fmt.group is None


def _fitting(mul: Multiplier, operand: int = 0) -> str:
    if mul.bits is None:
        return "'int8'"
    return f"'{'int' if mul.signed else 'uint'}{min(mul.bits[operand], 16)}'"


_PARSERS: dict[str, Callable[[str], object]] = {
    "sparsity": sparsity,
    "mul": any_multiplier,
    "acc": accumulator,
    "fn": approximation,
    "grad": gradient,
}

EXACT = Arithmetic()
