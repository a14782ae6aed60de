"""Modules of torch as a digest takes them: tensors by their shapes, everything else by content."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from dovetail.compiler.identity.digest import Digest, UnknownError, tensor_facts

__all__ = ["arguments", "network", "torch_state"]

_TENSORS = ("_parameters", "_buffers")
#: What a module counts or keeps for itself, and its ``forward`` does not depend on.
_NEITHER = {"_version", "call_super_init", "dump_patches"}


def network(digest: Digest, module: nn.Module, where: str) -> None:
    """Add a module: its class, its attributes, its hooks, and its parts.

    Parameters and buffers are inputs of what is captured: their elements do not matter.
    """
    if not digest.is_new(module):
        return
    digest.add(type(module), where)
    for held in _TENSORS:
        for name, tensor in module.__dict__[held].items():
            digest.token(held, name)
            _given(digest, tensor)
    for name, value in module.__dict__.items():
        if name in _TENSORS or name in _NEITHER:
            continue
        digest.token(name)
        place = f"{where}.{name}" if where else name
        if name == "_modules":
            for part, child in value.items():
                digest.token(part)
                digest.add(child, f"{where}.{part}" if where else part)
        elif name.endswith("_hooks") or name.endswith("_hooks_with_kwargs"):
            digest.add(list(value.values()) if isinstance(value, Mapping) else value, place)
        else:
            digest.add(value, place)


def _given(digest: Digest, tensor: Tensor | None) -> None:
    """A tensor that is an input: what is known of it when compiling, and what it shares."""
    if tensor is None:
        digest.token("none")
    elif digest.is_new(tensor):
        if tensor.layout != torch.strided:
            raise UnknownError(f"a tensor in {tensor.layout}")
        tensor_facts(digest, tensor)
        place = tensor.untyped_storage().data_ptr() or id(tensor)
        number = digest.storages.setdefault(place, len(digest.storages))
        digest.token(str(number), str(tensor.storage_offset()))


def arguments(digest: Digest, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
    """Add an example: its structure, tensors by their shapes, and the values of anything else."""
    leaves, spec = pytree.tree_flatten((tuple(args), dict(kwargs)))
    digest.token(str(spec))
    for number, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor):
            _given(digest, leaf)
        else:
            digest.add(leaf, f"argument {number}")


def torch_state(digest: Digest) -> None:
    """Add what torch was told that captures depend on; what cannot be seen is refused."""
    if torch._C._len_torch_function_stack() or torch._C._len_torch_dispatch_stack():
        raise UnknownError("a mode of torch that is entered")
    hooks = torch.nn.modules.module
    for name in dir(hooks):
        if name.startswith("_global_") and name.endswith("_hooks") and getattr(hooks, name):
            raise UnknownError(f"hooks of all modules ({name})")
    digest.add(
        (
            torch.get_default_dtype(),
            torch.is_inference_mode_enabled(),
            torch.is_autocast_enabled("cpu"),
            torch.get_autocast_dtype("cpu"),
            torch.are_deterministic_algorithms_enabled(),
            torch.get_float32_matmul_precision(),
            torch.backends.mkldnn.enabled,
            torch.backends.cuda.flash_sdp_enabled(),
            torch.backends.cuda.mem_efficient_sdp_enabled(),
            torch.backends.cuda.math_sdp_enabled(),
        )
    )
