"""Comparisons with eager that were passed, noted on disk: the same one need not be made again.

The note is found by all that the outcome depends on: the capture and what that is found by (code,
shapes, versions, processor), the compiled libraries byte for byte, the elements of the parameters,
the buffers and the example, the tolerance, the number of threads, and the variables of the
environment that the libraries of numerics read.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from dovetail.compiler.build.cache import cache_folder, key_of, write
from dovetail.compiler.identity import Digest, UnknownError
from dovetail.compiler.variant import Variant
from dovetail.kernels import native

__all__ = ["Passed"]

#: What the names of variables begin with that choose how a library computes.
_VARIABLES = ("ATEN_", "DNNL_", "DOVETAIL_", "KMP_", "MKL_", "OMP_", "ONEDNN_", "OPENBLAS_")
#: Where results are kept says nothing about them.
_PLACES = {"DOVETAIL_CACHE"}


class Passed:
    """The note that ``variant`` was equal to ``source`` within ``tolerance``, if there is one."""

    def __init__(self, source: nn.Module, variant: Variant, tolerance: float | None) -> None:
        self._file = _file(source, variant, tolerance)

    @property
    def date(self) -> str | None:
        """When an earlier process compared them; None where none has."""
        try:
            return None if self._file is None else self._file.read_text("utf-8")
        except OSError:
            return None

    def note(self) -> None:
        """Note that they were compared today."""
        if self._file is not None:
            write(self._file, datetime.date.today().isoformat().encode())


def _file(source: nn.Module, variant: Variant, tolerance: float | None) -> Path | None:
    """Where the note is; None where nothing tells what the outcome depends on."""
    if variant.shelf.key is None:
        return None
    digest = Digest()
    digest.token(variant.shelf.key, str(tolerance), str(torch.get_num_threads()))
    digest.token(native.isa() if native.available() else "")
    digest.items(_numerics(os.environ), "environment")
    try:
        digest.bytes(variant.shelf.file.read_bytes())
        for unit in variant.units:
            digest.bytes(unit.library.library.read_bytes())
        for name, tensor in (*source.named_parameters(), *source.named_buffers()):
            digest.token(name)
            digest.add(tensor, name)
        for leaf in pytree.tree_leaves(variant.example):
            digest.add(leaf, "the example")
    except (OSError, UnknownError):
        return None
    return cache_folder() / "checks" / key_of(digest.text)


def _numerics(environment: Mapping[str, Any]) -> dict[str, str]:
    """The variables that choose how a library computes, in the order of their names."""
    names = (n for n in sorted(environment) if n.startswith(_VARIABLES) and n not in _PLACES)
    return {name: environment[name] for name in names}
