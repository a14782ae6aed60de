"""Whole networks to approximate layers, in place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from torch import nn

from dovetail.compat.torchapprox.layers import (
    ApproxLayer,
    ApproxWrapper,
    InferenceMode,
    layer_mapping_dict,
)

__all__ = ["get_approx_modules", "inplace_conversion", "wrap_quantizable"]


def inplace_conversion(
    net: nn.Module,
    layer_mappings: Mapping[type[nn.Module], type[ApproxLayer]] | None = None,
) -> nn.Module:
    """``net`` with its ``nn.Linear`` and ``nn.Conv2d`` replaced, in ``BASELINE`` mode.

    Sub-classes of these stay as they are: other modules read their weights. Parameters, and their
    names in ``state_dict()``, stay; a layer used twice stays one.

    >>> net = inplace_conversion(nn.Sequential(nn.Linear(4, 2)))
    >>> get_approx_modules(net)[0][1].inference_mode
    <InferenceMode.BASELINE: 'Baseline Mode'>
    """
    mapping = layer_mapping_dict() if layer_mappings is None else layer_mappings

    def approximate(layer: nn.Module) -> nn.Module:
        made: ApproxLayer = mapping[type(layer)].from_super(layer)
        made.inference_mode = InferenceMode.BASELINE
        return made

    return _replace(net, mapping, approximate)


def wrap_quantizable(
    net: nn.Module,
    wrappable_layers: Collection[type[nn.Module]] | None = None,
    qconfig: object = None,
) -> nn.Module:
    """``net`` with its layers in an `ApproxWrapper` each, ready for ``prepare_qat``; twice is as
    once.

    >>> wrap_quantizable(nn.Sequential(nn.Linear(4, 2)))
    Sequential(
      (0): ApproxWrapper(
        (wrapped): Linear(in_features=4, out_features=2, bias=True)
      )
    )
    """
    kinds = layer_mapping_dict() if wrappable_layers is None else wrappable_layers
    return _replace(net, kinds, lambda layer: ApproxWrapper(layer, qconfig))


def get_approx_modules(net: nn.Module) -> list[tuple[str, ApproxLayer]]:
    """Name and layer of every approximate layer.

    >>> get_approx_modules(nn.Linear(2, 2))
    []
    """
    return [(name, m) for name, m in net.named_modules() if isinstance(m, ApproxLayer)]


def _replace(
    net: nn.Module,
    kinds: Collection[type[nn.Module]],
    replacement: Callable[[nn.Module], nn.Module],
) -> nn.Module:
    """Children of those classes replaced; everything is made before anything is changed."""
    made: dict[nn.Module, nn.Module] = {}
    places = [
        (parent, name, child)
        for parent in net.modules()
        if not isinstance(parent, ApproxWrapper)
        for name, child in parent._modules.items()
        if child is not None and type(child) in kinds
    ]
    for _, _, child in places:
        made[child] = made.get(child) or replacement(child)
    for parent, name, child in places:
        setattr(parent, name, made[child])
    return net
