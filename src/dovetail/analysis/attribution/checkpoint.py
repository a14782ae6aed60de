"""Attributions that go on where they were interrupted: what was measured so far, in one file.

It is written after a batch, unless writing would take more than a twentieth of the time. The file
holds arrays alone (NumPy's ``.npz``, nothing pickled), and all that the measurement depends on by
name: the model's tensors, what its operations compute, what was asked for, threads and version; of
the batches that it covers a digest, which those of the loader must have, too.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from dovetail import _files
from dovetail._digest import digest
from dovetail.analysis.attribution.exact import Exact
from dovetail.analysis.attribution.scores import Scores
from dovetail.emulation.state import state
from dovetail.errors import DovetailError

__all__ = ["Checkpoint"]

#: Of the time between two writings, how much the second may take.
_SHARE = 20


class Checkpoint:
    """``found`` as it was after the batches so far, at ``path``.

    A file that is there already is of the same attribution, or refused; ``found`` then begins as
    it was, and :meth:`has` says which batches it has.
    """

    def __init__(self, path: str | Path, found: Exact) -> None:
        if found.metric.function is not None:
            raise DovetailError(
                f"checkpoint keeps what accuracy, loss and perplexity are made of, not the outputs "
                f"that {found.metric.name} is called with: leave one of the two out"
            )
        self.path, self.found = _files.target(path), found
        self.about = _about(found)
        self.seen = 0
        self._batches = hashlib.sha256()
        self._covered, self._covers = 0, ""
        self._written, self._took = time.monotonic(), 0.0
        if self.path.exists():
            self._read()

    def has(self, inputs: Sequence[Any], target: Tensor) -> bool:
        """Whether the next batch of the loader was measured before."""
        leaves = [leaf for leaf in tree_leaves(list(inputs)) if isinstance(leaf, Tensor)]
        named = [("", leaf) for leaf in (*leaves, target, torch.get_rng_state())]
        self._batches.update(digest(named).encode())
        self.seen += 1
        if self.seen == self._covered and self._digest != self._covers:
            raise self._other("batches")
        return self.seen <= self._covered

    def write(self) -> None:
        """All batches so far are measured."""
        now = time.monotonic()
        if now - self._written < _SHARE * self._took:
            return
        facts = {"about": self.about, "batches": self.seen, "digest": self._digest}
        facts |= {"order": self.found.order, "samples": self.found.samples}
        raw = io.BytesIO()
        np.savez(raw, facts=np.array(json.dumps(facts)), **_arrays(self.found))
        _files.write({self.path: raw.getvalue()})
        self._written = time.monotonic()
        self._took = self._written - now

    @property
    def _digest(self) -> str:
        return self._batches.copy().hexdigest()

    def _read(self) -> None:
        try:
            with np.load(io.BytesIO(self.path.read_bytes()), allow_pickle=False) as arrays:
                facts = json.loads(str(arrays["facts"]))
                known: dict[str, str] = facts["about"]
                if other := [name for name in self.about if known.get(name) != self.about[name]]:
                    raise self._other(*other)
                _restore(self.found, arrays)
                self.found.order = list(facts["order"])
                self.found.samples = int(facts["samples"])
                self._covered, self._covers = int(facts["batches"]), str(facts["digest"])
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile) as error:
            if isinstance(error, DovetailError):
                raise
            raise DovetailError(
                f"{self.path} is no checkpoint of an attribution, or damaged: delete it"
            ) from None

    def _other(self, *names: str) -> DovetailError:
        return DovetailError(
            f"{self.path} is of an attribution with another {', another '.join(names)}: delete it, "
            "or name another file"
        )


def _about(found: Exact) -> dict[str, str]:
    from dovetail import __version__

    items = [(i.site.op.key, i.site.spelling, i.source, i.value) for i in found.everything]
    return {
        "version": __version__,
        "model": _values(found.model),
        "recipe": hashlib.sha256(json.dumps(items).encode()).hexdigest(),
        "metric": found.metric.name,
        "choice of sources": f"{len(items)} disabled: {found.disable}",
        "number of threads": str(torch.get_num_threads()),
    }


def _values(model: nn.Module) -> str:
    own = (*model.named_parameters(), *model.named_buffers())
    return digest([*own, *state(model).items()])


def _scores(found: Exact) -> list[Scores]:
    own = [(item.enabled, item.disabled) for item in found.everything]
    return [found.exact, found.emulated, *(scores for pair in own for scores in pair)]


def _arrays(found: Exact) -> dict[str, Any]:
    sums = [
        (
            *(item.isolated.signal, item.isolated.cross, item.isolated.noise),
            *(item.output.signal, item.output.cross, item.output.noise),
            *(item.divergence.total, item.divergence.count),
        )
        for item in found.everything
    ]
    arrays: dict[str, Any] = {"sums": np.array(sums, np.float64).reshape(-1, 8)}
    for number, scores in enumerate(_scores(found)):
        if scores.parts:
            arrays[f"scores{number}"] = scores.samples
    return arrays


def _restore(found: Exact, arrays: Any) -> None:
    for item, sums in zip(found.everything, arrays["sums"].tolist(), strict=True):
        item.isolated.signal, item.isolated.cross, item.isolated.noise = sums[:3]
        item.output.signal, item.output.cross, item.output.noise = sums[3:6]
        item.divergence.total, item.divergence.count = sums[6], int(sums[7])
    for number, scores in enumerate(_scores(found)):
        scores.parts = [arrays[f"scores{number}"]] if f"scores{number}" in arrays else []
