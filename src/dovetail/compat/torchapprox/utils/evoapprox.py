"""The circuits of EvoApproxLib, from dovetail's catalogue.

Names without a version mean v2022, as they did in TorchApprox.
"""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from dovetail.errors import DovetailError, unknown
from dovetail.multipliers import Multiplier, catalog, multiplier
from dovetail.multipliers.facts import all_facts

__all__ = [
    "approx_multiplication",
    "attribute",
    "bitwidth_from_name",
    "error_distribution",
    "error_map",
    "load_multiplier",
    "lut",
    "module_names",
    "signedness_from_name",
]

IntArray = npt.NDArray[np.int32]


def module_names(filter_str: str = "") -> list[str]:
    """The circuits known here whose name holds ``filter_str``.

    >>> module_names("mul8s")[:2]
    ['mul8s_1KV6', 'mul8s_1KV8']
    """
    names = sorted({circuit.name for circuit in catalog(version="v2022")})
    return [name for name in names if filter_str in name]


def load_multiplier(name: str) -> Multiplier:
    """The circuit of that name.

    >>> load_multiplier("mul8s_1KV9")
    mul8s_1KV9@v2022
    """
    return multiplier(name)


def attribute(name: str, attr: str) -> float:
    """A published figure of a circuit: ``MAE``, ``WCE``, ``MRE`` and ``EP`` in per cent,
    ``PDK45_PWR`` in mW, ``PDK45_AREA`` in um2, ``PDK45_DELAY`` in ns.

    >>> attribute("mul8s_1KV9", "WCE")
    17.0
    """
    facts = all_facts().get(name if "@" in name else f"{name}@v2022")
    if facts is None:
        raise unknown("circuit", name, module_names())
    figures = {
        "MAE": facts.mae,
        "WCE": facts.wce,
        "MRE": facts.mre * 100,
        "EP": facts.ep * 100,
        "PDK45_PWR": facts.cost.power_mw,
        "PDK45_AREA": facts.cost.area_um2,
        "PDK45_DELAY": facts.cost.delay_ns,
    }
    if attr not in figures:
        raise unknown("figure", attr, figures)
    value = figures[attr]
    assert value is not None
    return value


def bitwidth_from_name(name: str) -> int:
    """The width of its operands.

    >>> bitwidth_from_name("mul12s_2KM")
    12
    """
    return int(_parts(name)[1])


def signedness_from_name(name: str) -> bool:
    """Whether its operands are signed.

    >>> signedness_from_name("mul8u_1JJQ")
    False
    """
    return _parts(name)[2] == "s"


def approx_multiplication(
    name: str, range_x: Any, range_y: Any, signed: bool | None = None, bitwidth: int | None = None
) -> npt.NDArray[np.int64]:
    """The products of every ``range_x`` with every ``range_y``.

    >>> approx_multiplication("mul8s_1KV9", [7], [-3, 5])
    array([[-32,  24]])
    """
    m = _checked(name, bitwidth, signed)
    return m(np.asarray(range_x)[:, None], np.asarray(range_y)[None])


def lut(name: str, bitwidth: int | None = None, signed: bool | None = None) -> IntArray:
    """The table of a circuit, rows and columns 0..127, -128..-1.

    That of an unsigned one holds products of signed operands as well: of the magnitudes, with the
    sign put on afterwards.

    >>> lut("mul8s_1KV9").shape, int(lut("mul8u_1JJQ")[255, 3])
    ((256, 256), -3)
    """
    m = _checked(name, bitwidth, signed)
    if not m.signed:
        m = multiplier("sign_magnitude", m)
    return np.asarray(m.table().numpy())


def error_map(name: str) -> IntArray:
    """Product less exact product, operands in numerical order (of magnitudes, for unsigned ones).

    >>> int(np.abs(error_map("mul8s_1KV9")).max())
    17
    """
    table, size = lut(name), 1 << bitwidth_from_name(name)
    values = np.arange(size) - size // 2
    error: IntArray = np.roll(table, size // 2, (0, 1)) - np.multiply.outer(values, values)
    return error


def error_distribution(name: str, fan_in: float = 1.0) -> tuple[float, float]:
    """Mean and standard deviation of the error of a sum of ``fan_in`` products.

    >>> mean, deviation = error_distribution("mul8s_1KVM", fan_in=9)
    >>> mean, round(deviation, 1)
    (2.25, 156.8)
    """
    error = error_map(name)
    return float(error.mean() * fan_in), float(error.std() * math.sqrt(fan_in))


def _parts(name: str) -> re.Match[str]:
    found = re.match(r"mul(\d+)([su])_", name)
    if found is None:
        raise DovetailError(f"'{name}' is no name like 'mul8s_1KV9'")
    return found


def _checked(name: str, bitwidth: int | None, signed: bool | None) -> Multiplier:
    m = load_multiplier(name)
    for what, given, own in (
        ("bitwidth", bitwidth, bitwidth_from_name(name)),
        ("signed", signed, signedness_from_name(name)),
    ):
        if given not in (None, own):
            raise DovetailError(f"{what}={given}: {name} has {what}={own}")
    return m
