"""The exporter `golden`: a folder of vectors, each found again from what was written."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dovetail._numbers import is_whole
from dovetail.arithmetic import Arithmetic
from dovetail.emulation.example import arguments_of
from dovetail.errors import DovetailError
from dovetail.interchange.golden.memory import read_image, write_image
from dovetail.interchange.golden.record import Vector, array_of, vectors_of
from dovetail.interchange.golden.sums import code_sums, rescaled
from dovetail.interchange.onnx.check import compared
from dovetail.interchange.registry import register_exporter
from dovetail.interchange.result import Compared, Exported
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.library import conv_geometry

__all__ = ["MANIFEST", "golden"]

MANIFEST = "manifest.json"


@register_exporter("golden")
def golden(
    model: nn.Module,
    path: Path,
    example: Any,
    *,
    verify: bool = True,
    vectors: int | None = None,
    hexadecimal: bool = True,
) -> Exported:
    """A folder of golden vectors: codes, sums and outputs of every emulated operation.

    Of the first ``vectors`` samples of the example (None: all). ``manifest.json`` names the files:
    one ``.npz`` for each call of an operation, one for the network's inputs and outputs, and with
    ``hexadecimal`` memory images of codes and sums. Verified, sums are computed again from the
    codes that were written, and the operation's output from those.
    """
    args, kwargs = _first(example, vectors)
    _check_free(path)
    found, output = vectors_of(model, args, kwargs)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".export") as temporary:
        folder = Path(temporary) / path.name
        folder.mkdir()
        network = _save(folder / "network.npz", _network(args, kwargs, output))
        entries = [_write(folder, vector, hexadecimal) for vector in found]
        manifest = {"dovetail": 1, "network": network, "operations": entries}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        rows = [row for entry in entries for row in _checked(folder, entry)] if verify else []
        for row in rows:
            if not row.is_equal:
                raise DovetailError(f"nothing was written: the vectors do not agree. {row}")
        if path.is_dir():
            shutil.rmtree(path)
        folder.replace(path)
    files = tuple(sorted(each for each in path.rglob("*") if each.is_file()))
    count = next(t.shape[0] for t in _tensors((args, kwargs)))
    return Exported("golden", path, files, tuple(rows), {"vectors": count, "calls": len(found)})


def _tensors(values: Any) -> list[Tensor]:
    return [each for each in pytree.tree_leaves(values) if isinstance(each, Tensor) and each.dim()]


def _first(example: Any, vectors: int | None) -> tuple[tuple[Any, ...], Mapping[str, Any]]:
    """The arguments with their first samples alone."""
    args, kwargs = arguments_of(example)
    tensors = _tensors((args, dict(kwargs)))
    if not tensors:
        raise DovetailError("the example has no tensor with samples along its first axis")
    size = tensors[0].shape[0]
    if vectors is None:
        return args, kwargs
    if not is_whole(vectors) or vectors < 1:
        raise DovetailError(f"vectors={vectors!r} is a whole number from 1 on")
    if vectors > size:
        raise DovetailError(
            f"vectors={vectors}, but the example has {size} samples: give vectors={size} or a "
            "larger example"
        )

    def cut(tensor: Tensor) -> Tensor:
        return tensor[:vectors] if tensor.dim() and tensor.shape[0] == size else tensor

    found: tuple[tuple[Any, ...], Mapping[str, Any]] = pytree.tree_map_only(
        Tensor, cut, (args, dict(kwargs))
    )
    return found


def _check_free(path: Path) -> None:
    if path.is_file():
        raise DovetailError(f"{path} is a file; golden vectors fill a folder")
    if path.is_dir() and any(path.iterdir()) and not (path / MANIFEST).is_file():
        raise DovetailError(
            f"{path} is a folder with other files than golden vectors; name another"
        )


def _network(args: Any, kwargs: Any, output: Any) -> dict[str, Tensor]:
    inputs, outputs = _tensors((args, dict(kwargs))), _tensors(output)
    named = {f"input_{i}": tensor for i, tensor in enumerate(inputs)}
    return {**named, **{f"output_{i}": tensor for i, tensor in enumerate(outputs)}}


def _save(path: Path, arrays: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the manifest tells of a file of arrays."""
    held: dict[str, Any] = {key: array_of(tensor) for key, tensor in arrays.items()}
    np.savez_compressed(path, **held)
    told = {
        key: {"dtype": str(array.dtype), "shape": list(array.shape)} for key, array in held.items()
    }
    return {"file": path.name, "arrays": told}


def _write(folder: Path, vector: Vector, hexadecimal: bool) -> dict[str, Any]:
    entry = {**vector.entry, **_save(folder / f"{vector.name}.npz", vector.arrays)}
    if not hexadecimal or not vector.images:
        return entry
    entry["images"] = {}
    for key, (bits, signed) in vector.images.items():
        array = array_of(vector.arrays[key])
        file = f"{vector.name}.{key}.hex"
        what = f"{vector.entry['operation']}: {key} {list(array.shape)}, row-major, {bits} bits"
        write_image(folder / file, array, bits, what)
        entry["images"][key] = {"file": file, "bits": bits, "signed": signed}
    return entry


def _checked(folder: Path, entry: Mapping[str, Any]) -> list[Compared]:
    """The vector read back, and found again from its own codes."""
    if "sums" not in entry["arrays"]:
        return []
    name, kind = entry["operation"], entry["kind"]
    with np.load(folder / entry["file"], allow_pickle=False) as held:
        arrays = {key: torch.from_numpy(held[key]) for key in held.files}
    rows = []
    for key, image in entry.get("images", {}).items():
        codes = torch.from_numpy(read_image(folder / image["file"], image["bits"], image["signed"]))
        rows.append(compared(name, f"{key} image", codes, arrays[key].long().flatten()))
    rule, geometry, pad_code = _described(entry)
    a, w = arrays["input_codes"], arrays["weight_codes"]
    sums = code_sums(kind, a, w, rule, geometry, pad_code)
    rows.append(compared(name, "sums", sums, arrays["sums"]))
    result = rescaled(kind, arrays, geometry, getattr(torch, entry["computed_in"]))
    rows.append(compared(name, "output", result.to(arrays["raw"].dtype), arrays["raw"]))
    return rows


def _described(entry: Mapping[str, Any]) -> tuple[Arithmetic, Geometry, int]:
    """An operation as the manifest describes it."""
    rule = Arithmetic.parse(json.dumps(entry["arithmetic"]))
    window = entry.get("window")
    if window is None:
        return rule, LINEAR, 0
    words = ("stride", "padding", "dilation", "groups")
    return rule, conv_geometry(*(window[word] for word in words)), window["pad_code"]
