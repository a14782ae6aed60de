"""Rounding to integers in ONNX operators: :func:`dovetail.formats.quantization.to_integers`."""

from __future__ import annotations

from dovetail.errors import DovetailError
from dovetail.formats.rounding import Rounding
from dovetail.interchange.onnx.nodes import Nodes

__all__ = ["BY_OPERATOR", "check_rounding", "to_integers"]

#: Modes that are one operator.
BY_OPERATOR = {
    "NearestTiesToEven": "Round",
    "TowardPositive": "Ceil",
    "TowardNegative": "Floor",
}


def check_rounding(mode: Rounding, where: str) -> None:
    """Refuse what draws random bits: a file has no counter to draw them from."""
    if mode.is_stochastic:
        raise DovetailError(
            f"{where} rounds by {mode}, which no ONNX operator draws as the emulation does: give "
            "it rounding=NearestTiesToEven"
        )


def to_integers(nodes: Nodes, x: str, mode: Rounding) -> str:
    """``x`` rounded to integers; NaN and infinities come out as anything.

    >>> nodes = Nodes()
    >>> to_integers(nodes, "x", Rounding("NearestTiesToEven")), nodes.made[0].op_type
    ('v0', 'Round')
    """
    if mode.name in BY_OPERATOR:
        return nodes(BY_OPERATOR[mode.name], x)

    sign, size = nodes("Sign", x), nodes("Abs", x)
    inner = nodes("Floor", size)
    if mode.name == "TowardZero":
        return nodes("Mul", sign, inner)
    rest = nodes("Sub", size, inner)
    if mode.name == "NearestTiesToAway":
        outward = nodes("GreaterOrEqual", rest, nodes.float(0.5))
    else:
        assert mode.name == "ToOdd"
        half = nodes("Mul", inner, nodes.float(0.5))
        is_even = nodes("Equal", nodes("Floor", half), half)
        outward = nodes("And", nodes("Greater", rest, nodes.float(0.0)), is_even)
    further = nodes("Add", inner, nodes.float(1.0))
    return nodes("Mul", sign, nodes("Where", outward, further, inner))
