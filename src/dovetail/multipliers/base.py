"""`Multiplier`: what product one hardware multiply computes."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from dovetail.errors import DovetailError
from dovetail.multipliers.cost import Cost
from dovetail.multipliers.definition import Definition
from dovetail.multipliers.factorisation import find_factors
from dovetail.multipliers.factors import Factors
from dovetail.multipliers.metrics import (
    ErrorMetrics,
    SumErrors,
    measure_errors,
    measure_sums,
)
from dovetail.multipliers.operands import Bits, IntArray, check_operand, operand_values, spell_bits

if TYPE_CHECKING:
    from dovetail.multipliers.circuits.circuit import Circuit
    from dovetail.multipliers.explanation import Explanation
    from dovetail.multipliers.models import Model

__all__ = ["MAX_TABLE_BITS", "Multiplier"]

MAX_TABLE_BITS = 24


class Multiplier(Definition, ABC):
    """A function ``f(first, second)`` of two integer operands; first = input, second = weight.

    Subclasses are frozen dataclasses that set ``bits`` and ``signed`` and define `_product` and
    `__repr__`; everything else follows. What is derived of a definition is computed once and kept.
    """

    bits: Bits | None
    signed: bool

    @abstractmethod
    def _product(self, first: IntArray, second: IntArray) -> IntArray:
        """The definition, on checked int64 operand values that broadcast together."""

    @abstractmethod
    def __repr__(self) -> str:
        """The canonical spelling: ``dv.multiplier(repr(m)) == m``."""

    @property
    def name(self) -> str:
        """The short name, without arguments and version."""
        return repr(self).partition("(")[0].partition("@")[0]

    def __call__(self, first: Any, second: Any) -> IntArray:
        """The products of operand *values* (NumPy or torch integers), broadcast, as int64.

        An operand outside the multiplier's range, or not an integer, is refused.

        >>> from dovetail.multipliers import multiplier
        >>> multiplier("mul8s_1KV9")(7, [-3, 5])
        array([-32,  24])
        """
        widths = self.bits or (None, None)
        a = check_operand(first, widths[0], self.signed, "first (input)")
        w = check_operand(second, widths[1], self.signed, "second (weight)")
        return np.asarray(self._product(a, w))

    def bind(self, bits: int | Bits, signed: bool) -> Multiplier:
        """This multiplier for operands of that width and signedness; only `exact` adapts.

        >>> from dovetail.multipliers import multiplier
        >>> multiplier("exact").bind(4, signed=False)
        exact(bits=4, signed=False)
        """
        wanted = bits if isinstance(bits, tuple) else (bits, bits)
        if (wanted, signed) != (self.bits, self.signed):
            raise DovetailError(
                f"{self!r} multiplies {self._operands()} operands, not "
                f"{_describe(wanted, signed)} ones; choose formats or a multiplier that fit"
            )
        return self

    def table(self) -> torch.Tensor:
        """All products: a new int32 tensor ``[2**bits[0], 2**bits[1]]``.

        Row and column are the codes of the first and the second operand: the value itself for
        unsigned operands, two's complement for signed ones (``table()[255, 1]`` is ``f(-1, 1)``).
        A table above 12 + 12 bits, or with a product beyond int32, is refused.

        >>> from dovetail.multipliers import multiplier
        >>> multiplier("exact(bits=2)").table()
        tensor([[ 0,  0,  0,  0],
                [ 0,  1, -2, -1],
                [ 0, -2,  4,  2],
                [ 0, -1,  2,  1]], dtype=torch.int32)
        """
        products = self._products
        limit = np.iinfo(np.int32)
        if products.size and not limit.min <= products.min() <= products.max() <= limit.max:
            raise DovetailError(f"{self!r} has products beyond int32; call it on operands instead")
        return torch.from_numpy(products.astype(np.int32))

    def errors(
        self, first_pdf: Any = None, second_pdf: Any = None, joint: Any = None
    ) -> ErrorMetrics:
        """Errors against the exact product; operands uniform unless weights by code are given.

        ``first_pdf`` and ``second_pdf`` hold one non-negative weight for each code of the operand
        (a histogram will do); ``joint`` instead holds one for each pair of codes. Tables up to
        12 + 12 bits are measured over all pairs, wider ones on a seeded sample; the result's
        ``method`` says which.

        >>> from dovetail.multipliers import multiplier
        >>> multiplier("mul8s_1KV9").errors().wce
        17
        """
        if first_pdf is None and second_pdf is None and joint is None:
            return self._errors
        return measure_errors(self, first_pdf, second_pdf, joint)

    def sum_errors(self, weights: Any, first_pdf: Any = None) -> SumErrors:
        """Mean and variance of the error of ``sum_k f(a_k, w_k)``, for each row of ``weights``.

        ``weights [..., K]`` are second operands (values); the first ones are drawn independently,
        uniformly or by ``first_pdf``, a weight for each code. Where the weights are drawn as well:
        ``m.errors(first_pdf, second_pdf).summed(K)``.

        >>> from dovetail.multipliers import multiplier
        >>> found = multiplier("mul8s_1KVM").sum_errors([[5, 7, -2]])
        >>> found.mean, found.variance
        (array([-5.]), array([19.5]))
        """
        return measure_sums(self, weights, first_pdf)

    def model(self, kind: str, **parameters: Any) -> Model:
        """An approximation of this multiplier, which states how far off it is.

        ``kind``: ``"poly"`` (``e=``), ``"noise"`` (``first_pdf=``, ``second_pdf=``, ``joint=``) or
        ``"low_rank"`` (``rank=``); see `dovetail.multipliers.models`. A model is no multiplier:
        nothing computes with one unless it is asked for by name.

        >>> from dovetail.multipliers import multiplier
        >>> multiplier("mul8s_1KVM").model("poly").fidelity.max < 1e-6
        True
        """
        from dovetail.multipliers.models import model

        return model(self, kind, **parameters)

    def factors(self) -> Factors | None:
        """Exact integer factors ``f(a, w) = sum_r first[r, a] * second[r, w]``, or None.

        None means that no exact factorisation of useful rank (8 for a table) was found. What is
        returned was verified over all operand pairs, or holds by construction for wide operands.

        >>> from dovetail.multipliers import multiplier
        >>> multiplier("mul8s_1KV9").factors().rank
        4
        """
        return self._factors

    def explain(self) -> Explanation:
        """What structure was found in the products, and what the planner would run for it.

        Everything said of a table was checked over all operand pairs; of operands wider than 8 + 8
        bits only what holds by construction is said. ``print(m.explain())`` shows it.

        >>> from dovetail.multipliers import multiplier
        >>> m = multiplier("mul8s_1KVM")
        >>> m.explain().structure.unread
        (1, 0)
        """
        from dovetail.multipliers.explanation import explain

        return explain(self)

    @property
    def circuit(self) -> Circuit | None:
        """The gates that compute this multiplier, or None where they are not known.

        >>> from dovetail.multipliers import multiplier
        >>> multiplier("drum").circuit is None, multiplier("truncate").circuit.bits
        (True, (8, 8))
        """
        return None

    @property
    def cost(self) -> Cost | None:
        """Energy, power, area and delay with their source, or None when nothing is known.

        Measured, or else estimated from the gates of `circuit`.
        """
        from dovetail.multipliers.circuits.unit_gates import estimated

        return None if self.circuit is None else estimated(self.circuit)

    def to_verilog(self, name: str | None = None) -> str:
        """Combinational Verilog of `circuit`: a module of inputs ``a``, ``w`` and output ``y``.

        ``name`` is the module's, by default made of the multiplier's. `dv.multiplier` reads the
        file back. Refused where no gates are known.

        >>> from dovetail.multipliers import multiplier
        >>> multiplier("array(mask=1, bits=1, signed=False)").to_verilog("one").splitlines()[1]
        'module one(input [0:0] a, input [0:0] w, output [1:0] y);'
        """
        from dovetail.multipliers.circuits.verilog import verilog

        if self.circuit is None:
            raise DovetailError(
                f"{self!r} is known by its products, not by its gates: only arrays of partial "
                "products (array, broken_array, truncated, the catalogue's) and multipliers read "
                "from Verilog can be written as Verilog; to_c() writes any table"
            )
        return verilog(self.circuit, _identifier(name, self.name), repr(self))

    def to_c(self, name: str | None = None) -> str:
        """C source of one function ``f(a, w)``, and of a check of all products.

        An array of partial products becomes a sum of masked products, anything else up to 8 + 8
        bits a table; wider ones without such a form are refused. With ``-DDOVETAIL_CHECK`` the file
        is a program that compares a checksum of all products.

        >>> from dovetail.multipliers import multiplier
        >>> "int32_t f(uint8_t a, uint8_t w)" in multiplier("kulkarni(signed=False)").to_c("f")
        True
        """
        from dovetail.multipliers.circuits.c_code import c_code
        from dovetail.multipliers.partial_products import PartialProducts

        if not isinstance(self, PartialProducts) and not self._tabulable(16):
            raise DovetailError(
                f"{self!r} has 2**{sum(self._width())} products, too many for a table in C, and is "
                "no array of partial products"
            )
        return c_code(self, _identifier(name, self.name))

    @property
    def max_abs(self) -> int:
        """The largest ``|f(a, w)|`` over all operand pairs.

        >>> from dovetail.multipliers import multiplier
        >>> multiplier("exact(bits=8, signed=True)").max_abs
        16384
        """
        return self._max_abs

    # What subclasses may improve on ------------------------------------------------------------

    def _find_factors(self) -> Factors | None:
        return find_factors(self._products, self.signed) if self._tabulable(16) else None

    def _find_max_abs(self) -> int:
        return int(np.abs(self._products).max())

    def _exact_errors(self) -> dict[str, Any]:
        """Metrics known in closed form; they replace sampled ones of wide multipliers."""
        return {}

    # Kept results ------------------------------------------------------------------------------

    @cached_property
    def _products(self) -> IntArray:
        bits = self._width()
        if sum(bits) > MAX_TABLE_BITS:
            raise DovetailError(
                f"{self!r} has 2**{sum(bits)} products; tables stop at 12 + 12 bits. Call it on "
                f"operands, m(a, w), or use m.factors() where it has them"
            )
        rows = operand_values(bits[0], self.signed)[:, None]
        products = self._product(rows, operand_values(bits[1], self.signed)[None, :])
        products.setflags(write=False)
        return products

    @cached_property
    def _factors(self) -> Factors | None:
        return self._find_factors()

    @cached_property
    def _errors(self) -> ErrorMetrics:
        return measure_errors(self, None, None)

    @cached_property
    def _max_abs(self) -> int:
        return self._find_max_abs()

    def _width(self) -> Bits:
        """The operand widths; the width-agnostic `exact` counts as 8 bits where one is needed."""
        return self.bits or (8, 8)

    def _tabulable(self, most: int = MAX_TABLE_BITS) -> bool:
        return sum(self._width()) <= most

    def _operands(self) -> str:
        return _describe(self._width(), self.signed)


def _identifier(name: str | None, otherwise: str) -> str:
    """A name that C and Verilog both take."""
    if name is None:
        made = re.sub(r"\W", "_", otherwise)
        return made if made[:1].isalpha() else f"m_{made}"
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
        raise DovetailError(f"name={name!r} names no function; give letters, digits and _")
    return name


def _describe(bits: Bits, signed: bool) -> str:
    width = spell_bits(bits)
    text = f"{width}-bit" if isinstance(width, int) else f"{width[0]}-bit and {width[1]}-bit"
    return f"{'signed' if signed else 'unsigned'} {text}"
