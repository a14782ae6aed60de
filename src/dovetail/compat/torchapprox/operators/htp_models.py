"""``htp_models_mul8s`` and its wider kin: multipliers as polynomials of ordinary products.

They are fitted here (`dovetail.Multiplier.model`), for the circuits of EvoApproxLib v2022. Exact
emulation is as fast; a model is for studying what a model misses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from dovetail.errors import unknown
from dovetail.multipliers import Multiplier, catalog, multiplier
from dovetail.multipliers.models import Fidelity, Polynomial

__all__ = ["HTPModel", "htp_models_mul8s", "htp_models_mul12s", "htp_models_mul16s"]


@dataclass(frozen=True)
class HTPModel:
    """A multiplier as at most four calls of an ordinary product.

    ``model(base_func, op1, op2, kwargs)``: ``op1`` the input's codes, ``op2`` the weight's, both
    floating-point; ``base_func(op1, op2, **kwargs)`` such as ``F.linear``. Computed in float64 for
    operands of more than 8 bits.

    >>> model = htp_models_mul8s["mul8s_1KVM"]
    >>> a, w = torch.tensor([[3.0, -5.0]]), torch.tensor([[7.0, 9.0]])
    >>> model(torch.nn.functional.linear, a, w).round()      # (a & ~1) w
    tensor([[-40.]])
    """

    of: Multiplier

    @property
    def polynomial(self) -> Polynomial:
        """The fitted model."""
        return _fitted(self.of)

    @property
    def fidelity(self) -> Fidelity:
        """How far it is from the multiplier."""
        return self.polynomial.fidelity

    def __call__(
        self,
        base_func: Callable[..., Tensor],
        op1: Tensor,
        op2: Tensor,
        kwargs: Mapping[str, Any] | None = None,
    ) -> Tensor:
        """The sums of the modelled products."""
        if max(self.of.bits or (8, 8)) > 8:
            op1, op2 = op1.double(), op2.double()
        given, c = kwargs or {}, self.polynomial.coefficients.tolist()
        a, am = op1, torch.remainder(op1, 2**self.polynomial.e)
        w, wm = op2, torch.remainder(op2, 2**self.polynomial.e)
        alone = (
            c[0][0] + c[0][1] * a + c[1][1] * a * a + (c[1][3] * a + c[3][3] * am + c[0][3]) * am
        )
        other = c[0][2] * w + c[2][2] * w * w + (c[2][4] * w + c[4][4] * wm + c[0][4]) * wm
        total = base_func(a, c[1][2] * w + c[1][4] * wm, **given)
        total = total + base_func(am, c[2][3] * w + c[3][4] * wm, **given)
        total = total + base_func(alone, torch.ones_like(w), **given)
        return total + base_func(torch.ones_like(a), other, **given)


class _Models(Mapping[str, HTPModel]):
    """By the circuit's name; each is fitted when it is first called."""

    def __init__(self, bits: int) -> None:
        self._names = [c.name for c in catalog(bits=bits, signed=True, version="v2022")]

    def __getitem__(self, name: str) -> HTPModel:
        if name not in self._names:
            raise KeyError(str(unknown("model of a multiplier", name, self._names)))
        return HTPModel(multiplier(name))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


@lru_cache(maxsize=64)
def _fitted(of: Multiplier) -> Polynomial:
    made = of.model("poly")
    assert isinstance(made, Polynomial)
    return made


htp_models_mul8s, htp_models_mul12s, htp_models_mul16s = (_Models(bits) for bits in (8, 12, 16))
