"""The weight files that a d-Matrix configuration names, module by module."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dovetail.errors import DovetailError

__all__ = ["load_weights"]


def load_weights(model: nn.Module, files: Mapping[str, str]) -> None:
    """Load each file into the module at its path; all are checked before any is loaded.

    A file is a local one (a path or ``file://``), of safetensors or a ``state_dict`` that
    ``torch.save`` wrote. Refused: other places, files that are missing or hold code, names and
    shapes that are not the module's.
    """
    found = [(path, _module(model, path), _read(path, url)) for path, url in files.items()]
    for path, module, tensors in found:
        _check(path, module, tensors)
    for _, module, tensors in found:
        module.load_state_dict(tensors)


def _module(model: nn.Module, path: str) -> nn.Module:
    try:
        return model.get_submodule(path)
    except AttributeError:
        raise DovetailError(f"there are weights for '{path}', which the model has not") from None


def _read(path: str, url: str) -> dict[str, Tensor]:
    parts = urlsplit(url)
    if parts.scheme not in ("", "file"):
        raise DovetailError(
            f"'{path}': {url} is not a local file; fetch it, or say weights='ignore'"
        )
    file = Path(unquote(parts.path) if parts.scheme else url)
    if not file.is_file():
        raise DovetailError(f"'{path}': no file {url}; say weights='ignore' to do without it")
    if file.suffix == ".safetensors":
        return load_file(file)
    try:
        tensors: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DovetailError(f"'{path}': {url} holds no weights: {error}") from None
    return tensors


def _check(path: str, module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    own = module.state_dict()
    for name in sorted(own.keys() ^ tensors.keys()):
        holder = "the module" if name in own else "the file"
        raise DovetailError(f"'{path}': only {holder} has '{name}'")
    for name, tensor in own.items():
        if tensors[name].shape != tensor.shape:
            raise DovetailError(
                f"'{path}': {name} is {tuple(tensor.shape)}, in the file "
                f"{tuple(tensors[name].shape)}"
            )
