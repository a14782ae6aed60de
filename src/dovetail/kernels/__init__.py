"""Realisations of the ops, the register they stand in, and the planner that chooses among them."""

from dovetail.kernels.realisation import realisations, register_realisation, using

__all__ = ["realisations", "register_realisation", "using"]
