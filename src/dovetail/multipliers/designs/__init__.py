"""Circuits of one's own: masks of partial products searched for the least error at a given size."""

from dovetail.multipliers.designs.design import design

__all__ = ["design"]
