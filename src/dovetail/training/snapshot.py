"""Everything that the next training step depends on, taken out of its places and put back."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from dovetail import _digest
from dovetail.errors import DovetailError
from dovetail.training.group import is_sharded, unwrapped

__all__ = [
    "copy_of",
    "digest",
    "draws",
    "optimizer_state",
    "put_back",
    "restore_draws",
    "restore_optimizer",
    "tensors",
]


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """Every parameter and buffer by name, also those that ``state_dict()`` leaves out: ranges,
    masks, learned steps. Of a sharded one this process's part. No copies.

    >>> list(tensors(nn.BatchNorm1d(2)))
    ['weight', 'bias', 'running_mean', 'running_var', 'num_batches_tracked']
    """
    inner = unwrapped(model)
    found = {**dict(inner.named_parameters()), **dict(inner.named_buffers())}
    return {name: _local(value.detach()) for name, value in found.items()}


def copy_of(model: nn.Module) -> dict[str, Tensor]:
    """The same as copies on the CPU."""
    return {name: value.to("cpu", copy=True) for name, value in tensors(model).items()}


def put_back(model: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Write what :func:`copy_of` gave into a model with the same tensors.

    >>> net = nn.Linear(2, 1)
    >>> put_back(net, {"weight": torch.ones(1, 2), "bias": torch.zeros(1)})
    >>> net.weight.tolist()
    [[1.0, 1.0]]
    """
    own = tensors(model)
    for name in own.keys() ^ saved.keys():
        where = "the saved one" if name in saved else "this one"
        raise DovetailError(f"the saved model is another: only {where} has '{name}'")
    for name, value in own.items():
        if (value.shape, value.dtype) != (saved[name].shape, saved[name].dtype):
            raise DovetailError(
                f"the saved model is another: its '{name}' is {saved[name].dtype} of shape "
                f"{tuple(saved[name].shape)}, not {value.dtype} of {tuple(value.shape)}"
            )
    with torch.no_grad():
        for name, value in own.items():
            value.copy_(saved[name])


def digest(model: nn.Module) -> str:
    """A name for the values that the model has now.

    >>> len(digest(nn.Linear(2, 2)))
    64
    """
    return _digest.digest(tensors(model).items())


def draws(device: torch.device, loader: object) -> dict[str, Any]:
    """The states of all random generators: torch's (dropout and stochastic rounding draw from it),
    the device's, Python's, NumPy's, and the loader's own."""
    version, words, gauss = random.getstate()
    numpy: Any = np.random.get_state(legacy=True)
    kind, keys, position, has_gauss, cached = numpy
    own = getattr(loader, "generator", None)
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
        "python": (version, words, gauss),
        "numpy": (kind, keys.tolist(), int(position), int(has_gauss), float(cached)),
        "loader": own.get_state() if isinstance(own, torch.Generator) else None,
    }


def restore_draws(saved: Mapping[str, Any], device: torch.device, loader: object) -> None:
    """Set the generators to what :func:`draws` saw."""
    torch.set_rng_state(saved["torch"])
    if saved["cuda"] is not None:
        torch.cuda.set_rng_state(saved["cuda"], device)
    version, words, gauss = saved["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, position, has_gauss, cached = saved["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    if saved["loader"] is not None:
        getattr(loader, "generator").set_state(saved["loader"])  # noqa: B009


def optimizer_state(optimizer: Optimizer) -> dict[str, Any]:
    """The optimizer's state, of sharded tensors this process's part."""
    state: dict[str, Any] = _each(optimizer.state_dict(), _local)
    return state


def restore_optimizer(optimizer: Optimizer, saved: Mapping[str, Any]) -> None:
    """Give an optimizer of the same parameters what :func:`optimizer_state` took."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state = {
        index: {name: _shared_out(value, parameters[index]) for name, value in of.items()}
        for index, of in saved["state"].items()
    }
    try:
        optimizer.load_state_dict({**saved, "state": state})
    except (ValueError, KeyError) as error:
        raise DovetailError(f"the saved optimizer is another: {error}") from error


def _local(value: Tensor) -> Tensor:
    whole: Any = value
    part: Tensor = whole.to_local() if is_sharded(value) else value
    return part


def _shared_out(value: Any, parameter: Tensor) -> Any:
    """A part of a state that lies as its parameter does."""
    if not is_sharded(parameter) or not isinstance(value, Tensor) or value.dim() == 0:
        return value
    from torch.distributed.tensor import DTensor

    assert isinstance(parameter, DTensor)
    local = value.to(parameter.device)
    mesh, places = parameter.device_mesh, parameter.placements
    return DTensor.from_local(local, mesh, places, shape=parameter.shape, stride=parameter.stride())


def _each(value: Any, change: Any) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, dict):
        return {key: _each(item, change) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_each(item, change) for item in value)
    return value
