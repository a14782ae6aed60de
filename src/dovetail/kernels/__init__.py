"""Realisations of the ops, the register they stand in, and the planner that chooses among them."""

from dovetail.kernels import cast_library, native_casts, native_functions, native_integers
from dovetail.kernels.realisation import realisations, register_realisation, using

# Imported for its registration.
_MODULES = (cast_library, native_casts, native_functions, native_integers)

__all__ = ["realisations", "register_realisation", "using"]
