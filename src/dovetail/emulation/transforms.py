"""What recovery recipes put between an operation's operands and their casts.

    sparse weight -> transforms -> (casts, product)

A transform leaves the function as it is, in exact arithmetic, and gives the casts easier numbers:
``smooth`` divides the input and multiplies the weight by a number per channel, ``rotation`` turns
both by one orthogonal matrix, ``norm`` scales what a normalisation sums. Some change the function:
``shift`` adds to the bias, ``clip`` bounds the weights, ``weight`` puts others in their place, and
``variate`` is subtracted from the product (:mod:`dovetail.emulation.variate`), whose operands it
leaves as they are. ``remapped`` changes nothing: it notes of which weight, by a fingerprint, the
codes were chosen, for recipes that may not follow. ``function`` is the approximation, spelt in
UTF-8, that takes the place of the rule's. The parameters stay as the user's; the tensors of a
transform are buffers of the module, and a site lists the kinds of its transforms in the order of
their use.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.emulation.calls import Call
from dovetail.emulation.operators import OpCall
from dovetail.emulation.site import Site
from dovetail.kernels.weight_cache import cached

__all__ = [
    "PARTS",
    "add_transform",
    "clipped",
    "divided",
    "largest_inputs",
    "largest_weights",
    "multiplied",
    "prepared_norm",
    "rotated",
    "smoothing",
    "tensors",
    "transformed",
]

#: The kinds of transform, and the tensors that each of them is made of.
PARTS: dict[str, tuple[str, ...]] = {
    "smooth": ("scale",),
    "smooth_dynamic": ("alpha",),
    "rotation": ("left", "right"),
    "shift": ("shift",),
    "clip": ("bound",),
    "weight": ("value",),
    "remapped": ("of",),
    "norm": ("factor",),
    "variate": ("term", "slope", "level"),
    "function": ("spelling",),
}


def add_transform(site: Site, module: nn.Module, kind: str, parts: Mapping[str, Tensor]) -> None:
    """One more transform, used after those that the site has."""
    place = len(site.transforms)
    device = next((p.device for p in module.parameters()), None)
    for part in PARTS[kind]:
        name = site.transform_buffer(place, part)
        module.register_buffer(name, parts[part].detach().to(device).clone(), persistent=False)
    site.transforms = (*site.transforms, kind)
    if kind == "function":
        site.set_function(bytes(parts["spelling"].tolist()).decode())


def tensors(site: Site, module: nn.Module) -> Iterator[tuple[int, str, dict[str, Tensor]]]:
    """The site's transforms: place, kind, tensors by part."""
    for place, kind in enumerate(site.transforms):
        found = {p: getattr(module, site.transform_buffer(place, p)) for p in PARTS[kind]}
        yield place, kind, found


def transformed(site: Site, module: nn.Module, call: Call) -> Call:
    """The call on operands as its transforms make them."""
    for place, kind, parts in tensors(site, module):
        if kind in _PRODUCTS:
            call = _PRODUCTS[kind](call, parts, place)
    return call


def prepared_norm(site: Site, module: nn.Module, call: OpCall) -> OpCall:
    """A normalisation whose input is scaled, and ``eps`` by the square, so that nothing else
    changes."""
    for _, kind, parts in tensors(site, module):
        if kind != "norm":
            continue
        factor = parts["factor"]
        x = call.operands["input"]
        eps = call.attributes.get("eps")
        if eps is None:
            eps = 1e-5 if call.kind == "layer_norm" else torch.finfo(x.dtype).eps
        scaled = {**call.operands, "input": x * factor.to(x.dtype)}
        attributes = {**call.attributes, "eps": eps * float(factor) ** 2}
        call = replace(call, operands=scaled, attributes=attributes)
    return call


def _smooth(call: Call, parts: Mapping[str, Tensor], place: int) -> Call:
    scale, groups = parts["scale"], call.geometry.groups
    weight = _kept(call, (scale,), place, lambda w: multiplied(w, scale, call.kind, groups))
    return call.with_operands(divided(call.x, scale, call.geometry.spatial), weight, call.bias)


def _smooth_dynamic(call: Call, parts: Mapping[str, Tensor], _place: int) -> Call:
    groups, spatial = call.geometry.groups, call.geometry.spatial
    x, weight = largest_inputs(call.x, spatial), largest_weights(call.weight, call.kind, groups)
    scale = smoothing(x, weight, float(parts["alpha"]))
    weight = multiplied(call.weight, scale, call.kind, groups)
    return call.with_operands(divided(call.x, scale, spatial), weight, call.bias)


def _rotation(call: Call, parts: Mapping[str, Tensor], place: int) -> Call:
    left, right = parts["left"], parts["right"]
    weight_axis = {"linear": -1, "matmul": -2}.get(call.kind, 1)
    weight = _kept(call, (left, right), place, lambda w: rotated(w, weight_axis, left, right))
    x = rotated(call.x, -1 if call.geometry.spatial == 0 else 1, left, right)
    return call.with_operands(x, weight, call.bias)


def _shift(call: Call, parts: Mapping[str, Tensor], _place: int) -> Call:
    shift = parts["shift"].to(call.x.dtype)
    bias = shift if call.bias is None else call.bias + shift
    return call.with_operands(call.x, call.weight, bias)


def _clip(call: Call, parts: Mapping[str, Tensor], place: int) -> Call:
    bound = parts["bound"]
    weight = _kept(call, (bound,), place, lambda w: clipped(w, bound))
    return call.with_operands(call.x, weight, call.bias)


def _weight(call: Call, parts: Mapping[str, Tensor], _place: int) -> Call:
    return call.with_operands(call.x, parts["value"], call.bias)


_PRODUCTS: dict[str, Callable[[Call, Mapping[str, Tensor], int], Call]] = {
    "smooth": _smooth,
    "smooth_dynamic": _smooth_dynamic,
    "rotation": _rotation,
    "shift": _shift,
    "clip": _clip,
    "weight": _weight,
}


def divided(x: Tensor, scale: Tensor, spatial: int) -> Tensor:
    """``x`` divided by one number per channel: of its last axis, or of a convolution's input."""
    return x / scale.to(x.dtype).view(-1, *[1] * spatial)


def multiplied(weight: Tensor, scale: Tensor, kind: str, groups: int = 1) -> Tensor:
    """The weight of a product times one number per input channel.

    >>> multiplied(torch.ones(1, 2), torch.tensor([1.0, 2.0]), "linear")
    tensor([[1., 2.]])
    """
    scale = scale.to(weight.dtype)
    if kind == "matmul":
        return weight * scale[:, None]
    if kind == "linear":
        return weight * scale
    parts: Tensor = weight.unflatten(0, (groups, -1))
    return (parts * scale.view(groups, 1, -1, *[1] * (weight.dim() - 2))).flatten(0, 1)


def clipped(weight: Tensor, bound: Tensor) -> Tensor:
    """The weight within plus and minus one bound per output channel, or one for all."""
    bound = bound.to(weight.dtype)
    bound = bound.view(-1, *[1] * (weight.dim() - 1)) if bound.dim() else bound
    return torch.minimum(torch.maximum(weight, -bound), bound)


def largest_inputs(x: Tensor, spatial: int) -> Tensor:
    """The largest magnitude of each channel of an input; 0 where it is empty."""
    channels = x.detach().abs().movedim(1 if spatial else -1, 0)
    if not x.numel():
        return channels.new_zeros(len(channels))
    return channels.flatten(1).amax(1)


def largest_weights(weight: Tensor, kind: str, groups: int = 1) -> Tensor:
    """The largest magnitude of what each input channel is multiplied by."""
    w = weight.detach().abs()
    if kind == "matmul":
        return w.movedim(-2, 0).flatten(1).amax(1)
    if kind == "linear":
        return w.amax(0)
    parts: Tensor = w.unflatten(0, (groups, -1))
    return parts.amax(1).flatten(2).amax(2).flatten()


def smoothing(x: Tensor, weight: Tensor, alpha: float) -> Tensor:
    """``max|x|^alpha / max|w|^(1 - alpha)``; 1 where either is zero."""
    scale = x.double() ** alpha / weight.double() ** (1 - alpha)
    return torch.where((x > 0) & (weight > 0), scale, torch.ones_like(scale))


def rotated(t: Tensor, axis: int, left: Tensor, right: Tensor) -> Tensor:
    """``t`` times the Kronecker product of two orthogonal matrices ``[P, P]`` and ``[Q, Q]`` along
    ``axis``, in blocks of ``P * Q``.

    >>> swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    >>> rotated(torch.tensor([[1.0, 2.0, 3.0, 4.0]]), -1, torch.eye(1), swap)
    tensor([[2., 1., 4., 3.]])
    """
    left, right = left.to(t.dtype), right.to(t.dtype)
    axis %= t.dim()
    size = len(left) * len(right)
    blocks = (t.shape[axis] // size, len(left), len(right))
    if axis == t.dim() - 1:
        turned: Tensor = left.mT @ (t.unflatten(-1, blocks) @ right)
    else:  # from the other side, so that nothing is moved
        behind = prod(t.shape[axis + 1 :])
        rows = right.mT @ t.reshape(*t.shape[:axis], *blocks, behind)
        turned = left.mT @ rows.flatten(-2)
    return turned.reshape(t.shape)


def _kept(
    call: Call, by: tuple[Tensor, ...], place: int, make: Callable[[Tensor], Tensor]
) -> Tensor:
    """``make(weight)``: while nothing records, the same tensor as long as the weight and what it
    was made by are, so that what the kernels make of it in turn is kept as well."""
    weight = call.weight
    recorded = torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()
    if call.kind == "matmul" or recorded or weight.is_meta or torch.is_grad_enabled():
        return make(weight)
    kept: list[Any] = cached(weight, ("transformed", call.geometry.groups, place), list)
    now = [(t, t._version) for t in by]
    if not kept or any(a is not b or v != u for (a, v), (b, u) in zip(kept[0], now, strict=True)):
        kept[:] = [now, make(weight)]
    made: Tensor = kept[1]
    return made
