"""Captures kept on disk: found again by all that they were made of, or made anew.

A capture that was kept for another model would be a wrong result. So everything that a model's
``forward`` can see is part of the key: the code that can be reached from its classes, attributes,
hooks, globals and closures, the shapes of its tensors, the example, what torch was told, and every
version. What cannot be told by its content is not kept, and neither is a capture whose model ran
code that the key has not seen.
"""

from __future__ import annotations

import hashlib
import pickle
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import numpy as np
import torch
from torch import nn

from dovetail.compiler.build.cache import cache_folder, key_of, write
from dovetail.compiler.build.compile import versions
from dovetail.compiler.identity import Digest, UnknownError
from dovetail.compiler.identity.network import arguments, torch_state
from dovetail.compiler.identity.trusted import is_trusted_code, is_trusted_module
from dovetail.compiler.nodes.users import implementations
from dovetail.compiler.passes.pipeline import Pipeline
from dovetail.compiler.record import Record

__all__ = ["Shelf", "shelf_of", "watched"]


@dataclass
class Shelf:
    """Where a capture is kept, or why it is not."""

    key: str | None
    #: What the report says: kept, found, or not kept and why.
    says: str = ""
    codes: set[CodeType] = field(default_factory=set)

    @property
    def file(self) -> Path:
        """The file of the capture."""
        return cache_folder() / "captures" / f"{self.key}.pickle"

    def found(self) -> Record | None:
        """The capture that is kept there, if one is."""
        if self.key is None:
            return None
        try:
            raw = self.file.read_bytes()
        except OSError:
            return None
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's own, about its tree specifications
                read = pickle.loads(raw)
        except Exception:  # cut off, or of classes that are no longer there
            return None
        assert isinstance(read, Record)
        self.says = "found in the cache"
        return read

    def keep(self, record: Record, ran: set[CodeType] | None) -> None:
        """Keep ``record``, whose model ran the code ``ran``; None: nobody has watched."""
        if self.key is None:
            return
        if ran is None:
            self.says = "not kept: nobody watched which code the model runs"
            return
        unseen = sorted(f"{c.co_name} ({c.co_filename})" for c in ran - self.codes)
        if unseen:
            self.says = f"not kept: the model runs {unseen[0]} by a way that was not seen"
            return
        try:
            raw = pickle.dumps(record)
        except Exception as error:
            self.says = f"not kept: {error}"
            return
        write(self.file, raw)
        self.says = "kept in the cache"

    def forget(self) -> None:
        """Remove what is kept there."""
        self.file.unlink(missing_ok=True)
        self.says = ""


def shelf_of(
    source: nn.Module,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    gradients: bool,
    pipeline: Pipeline,
    options: Mapping[str, Any],
) -> Shelf:
    """Where the capture of ``source`` at an example is kept."""
    if options["freeze"]:
        return Shelf(None, "not kept: its parameters are constants")
    if options["target"] == "cuda":
        return Shelf(None, "not kept: it is compiled for a GPU")
    digest = Digest()
    try:
        torch_state(digest)
        digest.token("gradients" if gradients else "", *sorted(f"{o}={options[o]}" for o in _PLAIN))
        for one in pipeline.passes:
            digest.token(one.stage, one.name)
            digest.add(one.run, one.name)
        digest.add(implementations, "implementations")
        digest.add(source)
        arguments(digest, args, kwargs)
    except UnknownError as reason:
        return Shelf(None, f"not kept: it depends on {reason}")
    return Shelf(key_of(digest.text, *versions(), np.__version__, _package()), codes=digest.codes)


#: The options of ``dv.compile`` that a capture depends on, all of them plain values.
_PLAIN = ("dynamic", "fallback", "debug_transients")


@lru_cache(maxsize=1)
def _package() -> str:
    """What identifies dovetail: every file of Python that it consists of, and its library."""
    made = hashlib.sha256()
    folder = Path(__file__).parents[1]
    for path in sorted(folder.rglob("*.py")):
        made.update(str(path.relative_to(folder)).encode())
        made.update(path.read_bytes())
    for path in sorted(folder.glob("_core*")):
        made.update(f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}".encode())
    return made.hexdigest() + str(torch.version.git_version)


@contextmanager
def watched() -> Iterator[set[CodeType] | None]:
    """The code that runs meanwhile and that no version stands for; None where one is profiling."""
    if sys.getprofile() is not None:
        yield None
        return
    ran: set[CodeType] = set()
    trusted: set[CodeType] = {_stop.__code__}

    def see(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or code in trusted or code in ran:
            return
        module = sys.modules.get(frame.f_globals.get("__name__", ""))
        generated = code.co_filename == "<string>" and module is not None
        if is_trusted_code(code) or (generated and is_trusted_module(module)):  # type: ignore[arg-type]
            trusted.add(code)
        else:
            ran.add(code)

    sys.setprofile(see)
    try:
        yield ran
    finally:
        _stop()


def _stop() -> None:
    sys.setprofile(None)
