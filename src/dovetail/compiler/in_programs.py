"""Modules that a ``@dace.program`` may call: their parameters are then arguments of the program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

__all__ = ["InPrograms"]


class InPrograms:
    """What DaCe asks of an object that is called in a program, for the module ``_source``.

    Parameters and buffers are read where they are at each call of the program, so that what is
    trained between two calls is seen. Tensors are on the CPU, their shapes are known.
    """

    _source: nn.Module

    def __sdfg__(self, *args: Any, **kwargs: Any) -> Any:
        """The SDFG for arguments of these shapes, given as arrays or as DaCe's descriptors."""
        from dovetail.compiler.dace_programs import program_sdfg

        return program_sdfg(self._source, (*args, *kwargs.values()))

    def __sdfg_closure__(self, reevaluate: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Parameters and buffers by the names of their arrays."""
        from dovetail.compiler.dace_programs import state_arrays

        return state_arrays(self._source)

    def __sdfg_signature__(self) -> tuple[Sequence[str], Sequence[str]]:
        """The names of the arguments; none is a constant."""
        from dovetail.compiler.dace_programs import argument_names

        return argument_names(self._source), ()

    def closure_resolver(self, *_: Any) -> Any:
        """What the program must give besides its own arguments."""
        from dovetail.compiler.dace_programs import closure_of

        return closure_of(self._source)
