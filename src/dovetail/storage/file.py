"""One safetensors file with the weights of a model in the bits of their formats.

An encoded tensor ``name`` stands as ``name::codes``, ``name::scales``, ``name::zero_points`` and
``name::tensor_scale``, as far as its format has them; everything else stands under its own name.
The metadata entry ``dovetail.encoded`` is JSON: for each encoded tensor its format's spelling,
shape, dtype and axis, and which names are one tensor.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from dovetail._files import target
from dovetail.errors import DovetailError
from dovetail.formats import Format
from dovetail.formats.codes import Codes, decode
from dovetail.formats.codes.value import TENSORS
from dovetail.recipe import Recipe
from dovetail.storage.choice import Choice, by_name, by_recipe, place
from dovetail.storage.report import SizeReport, StoredTensor

__all__ = ["load_codes", "load_encoded", "save_encoded"]

_KEY = "dovetail.encoded"
_VERSION = 1

Formats = str | Format | Recipe | Mapping[str, "str | Format"]


def save_encoded(
    model: nn.Module | Mapping[str, Tensor],
    path: str | Path,
    formats: Formats | None = None,
    example: Any = None,
    *,
    nan: str = "refuse",
) -> SizeReport:
    """Write the weights of ``model`` (or of a state dict), encoded, and say what they take.

    ``formats`` is a recipe (its ``weight_storage`` or ``weight``, and ``bias``, of each linear and
    conv operation; ``example`` as for :func:`dovetail.plan`, needed for operations called as
    functions), one format for all floating tensors, or a mapping from globs on tensor names to
    formats, of which the last match wins. None takes the recipe that is applied to the model.
    With a recipe, sparse weights are stored with zeros where their masks keep nothing, also without
    a format. Tensors without a format are stored as they are; so are integers. Nothing is pickled,
    and the file appears under its name only when it is complete.

    :func:`load_encoded` returns exactly the weights that the formats' casts give. NaN without a
    code is refused unless ``nan="zero"``.

    >>> import tempfile
    >>> from dovetail.storage import load_encoded
    >>> path = Path(tempfile.mkdtemp()) / "net.safetensors"
    >>> net = nn.Linear(64, 32)
    >>> report = save_encoded(net, path, {"weight": "mxfp4"})
    >>> [(t.name, t.nbytes, t.float32_bytes) for t in report]
    [('weight', 1088, 8192), ('bias', 128, 128)]
    >>> list(load_encoded(path))
    ['weight', 'bias']
    """
    place = target(path)
    tensors = dict(model.state_dict() if isinstance(model, nn.Module) else model)
    if isinstance(formats, Recipe) or formats is None:
        if not isinstance(model, nn.Module):
            raise DovetailError(
                "a recipe speaks of a model's operations: give save_encoded the model, or a format "
                "such as 'int8' for its state dict"
            )
        chosen, tensors = by_recipe(model, formats, example, tensors)
    else:
        given = formats if isinstance(formats, Mapping) else {"*": formats}
        chosen = by_name(tensors, given) if tensors else {}
    contents = _Contents(tensors, nan)
    for name in tensors:
        contents.add(name, chosen.get(name))
    unfinished = place.with_name(place.name + ".part")
    try:
        save_file(contents.parts, unfinished, {_KEY: json.dumps(contents.index)})
        unfinished.replace(place)
    finally:
        unfinished.unlink(missing_ok=True)
    return SizeReport(tuple(contents.rows), place.stat().st_size)


class _Contents:
    """What goes into a file, tensor by tensor."""

    def __init__(self, tensors: Mapping[str, Tensor], nan: str) -> None:
        self.tensors, self.nan = tensors, nan
        self.index: dict[str, Any] = {"version": _VERSION, "names": [], "encoded": {}, "same": {}}
        self.parts: dict[str, Tensor] = {}
        self.rows: list[StoredTensor] = []
        self.first: dict[Any, str] = {}

    def add(self, name: str, choice: Choice | None) -> None:
        x = self.tensors[name]
        self.index["names"].append(name)
        first = self.first.setdefault((place(x), choice), name)
        spelling, size = None if choice is None else str(choice.format), 0
        if first != name:
            self.index["same"][name] = first
        elif choice is None:
            size = self._write(name, {name: x.detach().cpu().contiguous().clone()})
        else:
            try:
                codes = choice.encode(x, self.nan)
            except DovetailError as error:
                raise DovetailError(f"tensor '{name}': {error}") from None
            size = self._write(name, {f"{name}::{p}": t.cpu() for p, t in codes.tensors().items()})
            self.index["encoded"][name] = codes.metadata()
        full = x.numel() * (4 if x.is_floating_point() else x.element_size())
        same = None if first == name else first
        self.rows.append(StoredTensor(name, spelling, tuple(x.shape), size, full, same))

    def _write(self, name: str, parts: dict[str, Tensor]) -> int:
        for part in parts:
            if part in self.parts or (part != name and part in self.tensors):
                raise DovetailError(f"tensor '{part}': the name is taken by a part of '{name}'")
        self.parts |= parts
        return sum(t.numel() * t.element_size() for t in parts.values())


def load_encoded(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a file of :func:`save_encoded`, decoded, in its dtypes, on the CPU.

    Names that were one tensor are one tensor again. ``model.load_state_dict`` takes it.

    >>> import tempfile, torch
    >>> path = Path(tempfile.mkdtemp()) / "weights.safetensors"
    >>> _ = save_encoded({"w": torch.tensor([0.3, 9.0])}, path, "fp4_e2m1fn")
    >>> load_encoded(path)
    {'w': tensor([0.5000, 6.0000])}
    """
    decoded: dict[int, Tensor] = {}
    state = {}
    for name, value in load_codes(path).items():
        if id(value) not in decoded:
            try:
                decoded[id(value)] = decode(value) if isinstance(value, Codes) else value
            except DovetailError as error:
                raise DovetailError(f"'{path}', tensor '{name}': {error}") from None
        state[name] = decoded[id(value)]
    return state


def load_codes(path: str | Path) -> dict[str, Codes | Tensor]:
    """The same without decoding: ``Codes`` for what is encoded, tensors for the rest.

    >>> import tempfile, torch
    >>> path = Path(tempfile.mkdtemp()) / "weights.safetensors"
    >>> _ = save_encoded({"w": torch.tensor([0.5, 6.0])}, path, "fp4_e2m1fn")
    >>> load_codes(path)
    {'w': Codes(fp4_e2m1fn, shape=(2,), float32: 1 bytes, 4 bits per element)}
    """
    if not Path(path).is_file():
        raise DovetailError(f"'{path}' is no file")
    try:
        with safe_open(str(path), framework="pt") as opened:
            metadata = opened.metadata() or {}
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise DovetailError(
            f"'{path}' is no complete safetensors file ({error}): damaged, truncated, or of "
            "another kind; dv.save_encoded writes such files"
        ) from None
    if _KEY not in metadata:
        raise DovetailError(
            f"'{path}' holds plain tensors, which safetensors.torch.load_file reads: it was not "
            "written by dv.save_encoded"
        )
    index = json.loads(metadata[_KEY])
    if index.get("version") != _VERSION:
        raise DovetailError(
            f"'{path}' is of version {index.get('version')}, and this dovetail reads {_VERSION}"
        )
    found: dict[str, Codes | Tensor] = {}
    for name in index["names"]:
        source = index["same"].get(name)
        found[name] = found[source] if source else _read(path, name, index["encoded"], tensors)
    return found


def _read(
    path: str | Path, name: str, encoded: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> Codes | Tensor:
    if name not in encoded:
        if name not in tensors:
            raise DovetailError(f"'{path}': tensor '{name}' is missing")
        return tensors[name]
    parts = {part: tensors[key] for part in TENSORS if (key := f"{name}::{part}") in tensors}
    try:
        return Codes.from_dict({**encoded[name], **parts})
    except DovetailError as error:
        raise DovetailError(f"'{path}', tensor '{name}': {error}") from None
