"""DaCe, the compiler's engine: imported here once, after torch, and nowhere else first.

Torch comes first so that the process has one OpenMP runtime: libraries that DaCe builds then
resolve to the one that torch has loaded.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from dovetail._optional import optional
from dovetail.compiler.build.cache import cache_folder
from dovetail.errors import DovetailError

__all__ = ["contained", "engine_version", "load_dace", "quiet"]


def load_dace() -> ModuleType:
    """DaCe, or the error that says which extra of dovetail brings it.

    >>> load_dace().__name__
    'dace'
    """
    assert torch.__version__  # loaded before DaCe, on purpose
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optional("dace.library", extra="compiler")  # DaCe itself leaves it out
        return optional("dace", extra="compiler")


@lru_cache(maxsize=1)
def engine_version() -> str:
    """DaCe's, without importing it."""
    return version("dace")


@contextmanager
def quiet() -> Iterator[None]:
    """While SDFGs are made and written out: no warnings, no progress, no Python lines in nodes.

    Which lines made a node DaCe finds by reading the stack, for each of thousands; here they would
    all be of the same few functions.
    """
    config = load_dace().config
    with (
        warnings.catch_warnings(),
        config.set_temporary("progress", value=False),
        config.set_temporary("compiler", "lineinfo", value="none"),
    ):
        warnings.simplefilter("ignore")
        yield


@contextmanager
def contained(sdfg: Any) -> Iterator[None]:
    """DaCe's refusal of an SDFG as dovetail's own.

    The copy of it that DaCe saves to be looked at lies in the cache, not in the working folder.
    """
    own = list(sdfg.all_sdfgs_recursive())
    for one in own:
        one.save = partial(_save, one)
    try:
        yield
    except load_dace().sdfg.InvalidSDFGError as error:
        error.path = str(_place(error.path)) if error.path else None
        raise DovetailError(f"the SDFG is not valid: {error}") from error
    finally:
        for one in own:
            vars(one).pop("save", None)


def _save(sdfg: Any, filename: str, *args: Any, **kwargs: Any) -> Any:
    """What ``sdfg.save`` does, but for DaCe's own folder of failures."""
    if Path(filename).parts[0] == "_dacegraphs":
        filename = str(_place(filename))
    return type(sdfg).save(sdfg, filename, *args, **kwargs)


def _place(filename: str) -> Path:
    folder = cache_folder() / "invalid"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / Path(filename).name
