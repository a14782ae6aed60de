"""Accumulators: in what register, order and overflow mode the products of one output are summed."""

from dovetail.accumulators.adders import AdderAccumulator
from dovetail.accumulators.base import Accumulator
from dovetail.accumulators.floating import FloatAccumulator
from dovetail.accumulators.integer import IntAccumulator
from dovetail.accumulators.spelling import accumulator

__all__ = [
    "Accumulator",
    "AdderAccumulator",
    "FloatAccumulator",
    "IntAccumulator",
    "accumulator",
]
