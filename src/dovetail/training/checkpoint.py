"""A folder from which an interrupted training goes on: whole, or refused.

    manifest.json       names the files below by their SHA-256, and says what run they belong to
    step-N.rank-R.pt    what process R needs to go on after step N
    best-E.pt           the weights of the best epoch so far

Every file is written under another name, flushed, and renamed; the manifest last. So it always
names files that are whole, and those of the step before stay until it does not name them any more.
"""

from __future__ import annotations

import hashlib
import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from dovetail.errors import DovetailError
from dovetail.training.group import Group

__all__ = ["Checkpoint"]

_KIND, _VERSION, _MANIFEST = "dovetail training checkpoint", 1, "manifest.json"


class Checkpoint:
    """The checkpoint of one run in ``folder``; ``run`` are the settings that make it that run.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> alone = Group(torch.device("cpu"))
    >>> Checkpoint(folder, {"lr": 0.1}, alone).write(3, {"weight": torch.ones(2)}, {})
    >>> Checkpoint(folder, {"lr": 0.1}, alone).read()
    {'weight': tensor([1., 1.])}
    >>> Checkpoint(folder, {"lr": 0.2}, alone).read()
    Traceback (most recent call last):
    dovetail.errors.DovetailError: ...: the checkpoint is of a run with lr 0.1, this one has ...
    """

    def __init__(
        self, folder: str | Path, run: Mapping[str, Any], group: Group, *, sharded: bool = False
    ) -> None:
        if not isinstance(folder, (str, os.PathLike)):
            raise DovetailError(f"checkpoint={folder!r}: give a folder")
        self.folder, self.group = Path(folder), group
        if self.folder.exists() and not self.folder.is_dir():
            raise DovetailError(f"{self.folder}: a file; a checkpoint is a folder of its own")
        self.run: dict[str, Any] = json.loads(json.dumps(dict(run)))
        self.holder = group.rank if sharded else 0  # whose files hold this process's weights
        self.best: dict[str, str] = {}

    def read(self) -> dict[str, Any] | None:
        """What this process goes on with; ``None`` if nothing was saved yet. Refuses the rest."""
        manifest = self._manifest()
        if manifest is None:
            return None
        self._check_run(manifest["run"])
        self.best = manifest["best"]
        ranks = dict.fromkeys((self.holder, self.group.rank))
        parts = [self._load(_part(manifest["step"], rank), manifest["files"]) for rank in ranks]
        return {key: value for part in parts for key, value in part.items()}

    def read_best(self, epoch: int) -> dict[str, Any]:
        """What :meth:`write_best` saved."""
        return self._load(_best(epoch, self.holder), self.best)

    def write(self, step: int, state: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        """Save ``state``, and what each process has of its own; all call this together."""
        rank = self.group.rank
        name = _part(step, rank)
        saved = self._save(name, {**state, **own} if rank == self.holder else own)
        everything = self.group.gather(({name: saved}, self.best))
        if self.group.is_first:
            files = {k: v for part, _ in everything for k, v in part.items()}
            best = {k: v for _, part in everything for k, v in part.items()}
            manifest = {"kind": _KIND, "version": _VERSION, "step": step, "run": self.run}
            manifest |= {"files": files, "best": best}
            _atomically(self.folder / _MANIFEST, json.dumps(manifest, indent=1).encode())
            self._tidy({*files, *best})
        self.group.gather(None)

    def write_best(self, epoch: int, state: Mapping[str, Any]) -> None:
        """Save the best weights so far; the next :meth:`write` makes them count."""
        self.best = {}
        if self.group.rank == self.holder:
            name = _best(epoch, self.holder)
            self.best = {name: self._save(name, state)}

    def _save(self, name: str, state: Mapping[str, Any]) -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        place = self.folder / f".{name}.part"
        torch.save(dict(state), place)
        _flush(place)
        found = _sha256(place)
        place.replace(self.folder / name)
        return found

    def _load(self, name: str, files: Mapping[str, str]) -> dict[str, Any]:
        path = self.folder / name
        if name not in files or not path.exists():
            raise DovetailError(f"{path}: the checkpoint's manifest needs this file; {_AGAIN}")
        if _sha256(path) != files[name]:
            raise DovetailError(f"{path}: half-written or changed since it was saved; {_AGAIN}")
        try:
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
            raise DovetailError(f"{path}: no file of a checkpoint: {error}") from error
        return state

    def _manifest(self) -> dict[str, Any] | None:
        path = self.folder / _MANIFEST
        if not path.exists():
            others = [] if not self.folder.exists() else sorted(p.name for p in self._foreign())
            if others:
                raise DovetailError(
                    f"{self.folder}: holds '{others[0]}' and no checkpoint: give a folder of its "
                    "own"
                )
            return None
        try:
            manifest = json.loads(path.read_bytes())
        except ValueError:
            manifest = None
        if not isinstance(manifest, dict) or manifest.get("kind") != _KIND:
            raise DovetailError(f"{path}: no manifest of a training checkpoint; {_AGAIN}")
        if manifest.get("version") != _VERSION:
            raise DovetailError(
                f"{path}: version {manifest.get('version')}; this dovetail reads {_VERSION}"
            )
        return manifest

    def _foreign(self) -> list[Path]:
        """What no interrupted first save can have left behind."""
        return [path for path in self.folder.iterdir() if not _is_ours(path.name)]

    def _check_run(self, saved: Mapping[str, Any]) -> None:
        for key in dict.fromkeys([*self.run, *saved]):
            before, now = saved.get(key), self.run.get(key)
            if before != now:
                raise DovetailError(
                    f"{self.folder}: the checkpoint is of a run with {key} {before}, this one has "
                    f"{now}; go on with the same, or give another folder"
                )

    def _tidy(self, kept: set[str]) -> None:
        for path in self.folder.iterdir():
            if path.name not in kept and _is_ours(path.name):
                path.unlink()


_AGAIN = "remove the folder to begin again"


def _part(step: int, rank: int) -> str:
    return f"step-{step}.rank-{rank}.pt"


def _best(epoch: int, rank: int) -> str:
    return f"best-{epoch}.rank-{rank}.pt"


def _is_ours(name: str) -> bool:
    inner = name[1:].removesuffix(".part") if name.startswith(".") else name
    part = inner.endswith(".pt") and inner.startswith(("step-", "best-"))
    return part or name == f".{_MANIFEST}.part"


def _atomically(path: Path, content: bytes) -> None:
    place = path.with_name(f".{path.name}.part")
    place.write_bytes(content)
    _flush(place)
    place.replace(path)


def _flush(path: Path) -> None:
    """On the disk before its name says so."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    found = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            found.update(block)
    return found.hexdigest()
