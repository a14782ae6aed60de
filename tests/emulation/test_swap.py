"""The derived class: equal to the user's in all but ``forward``, and unseen by registries."""

from __future__ import annotations

import inspect

import torch
from torch import nn

import dovetail as dv
from dovetail.emulation.swap import is_emulated
from helpers import INT8, build, randn

RECIPE = dv.Recipe(dv.rule("*", **INT8))


class Registered(nn.Module):
    """A base class that registers its subclasses, as many frameworks do."""

    seen: list[str] = []  # noqa: RUF012

    def __init_subclass__(cls, **kwargs) -> None:
        super().__init_subclass__(**kwargs)
        Registered.seen.append(cls.__name__)


class Layer(Registered):
    """A layer's own documentation."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2, 3))

    def forward(self, x, *, scale: float = 1.0):
        """What forward does."""
        return nn.functional.linear(x, self.weight) * scale


def test_names_documentation_and_signature():
    layer = Layer()
    dv.apply_(layer, RECIPE, torch.ones(1, 3))
    assert is_emulated(layer)
    cls = type(layer)
    assert cls is not Layer
    assert issubclass(cls, Layer)
    assert (cls.__name__, cls.__qualname__, cls.__module__) == ("Layer", "Layer", Layer.__module__)
    assert cls.__doc__ == Layer.__doc__
    assert layer.forward.__doc__ == "What forward does."
    assert inspect.signature(layer.forward) == inspect.signature(Layer().forward)
    assert repr(layer) == repr(Layer())
    dv.remove_(layer)
    assert type(layer) is Layer
    assert not is_emulated(layer)


def test_registries_see_no_second_class():
    before = list(Registered.seen)
    layer = Layer()
    dv.apply_(layer, RECIPE, torch.ones(1, 3))
    assert Registered.seen == before


def test_equal_modules_share_one_derived_class():
    layers = [Layer(), Layer()]
    for layer in layers:
        dv.apply_(layer, RECIPE, torch.ones(1, 3))
    assert type(layers[0]) is type(layers[1])


def test_keyword_arguments_pass_through():
    layer = Layer()
    dv.apply_(layer, RECIPE, {"x": torch.ones(1, 3), "scale": 2.0})
    x = torch.ones(1, 3)
    assert torch.equal(layer(x, scale=2.0), 2 * layer(x))


def test_super_calls_and_subclasses_of_modules():
    class Wide(nn.Linear):
        def forward(self, x):
            return super().forward(x) + 1

    layer = build(0, lambda: Wide(3, 2))
    plain = build(0, lambda: nn.Linear(3, 2))
    x = randn(2, 3)
    for model in (layer, plain):
        dv.apply_(model, RECIPE, x)
    assert torch.equal(layer(x), plain(x) + 1)


def test_a_class_derived_after_emulation_stays_and_is_inert_after_remove():
    """What ``fully_shard`` and ``parametrize`` do: derive once more, from the class they find."""
    layer, x = Layer(), randn(2, 3)
    plain = layer(x)
    dv.apply_(layer, RECIPE, x)
    layer.__class__ = type("Sharded", (type(layer),), {})
    emulated = layer(x)
    assert not torch.equal(emulated, plain)
    dv.remove_(layer)
    assert type(layer).__name__ == "Sharded"
    assert torch.equal(layer(x), plain)


def test_hooks_of_the_user_still_run():
    layer, seen = build(0, lambda: nn.Linear(3, 2)), []
    model = nn.Sequential(layer)
    layer.register_forward_pre_hook(lambda *_: seen.append("before"))
    dv.apply_(model, RECIPE, torch.ones(1, 3))
    seen.clear()
    handle = layer.register_forward_hook(lambda *_: seen.append("after"))
    model(torch.ones(1, 3))
    assert seen == ["before", "after"]
    handle.remove()
    dv.remove_(model)
    model(torch.ones(1, 3))
    assert seen == ["before", "after", "before"]


def test_slots_of_arguments_named_like_ours():
    """A user's forward may have arguments named ``module`` or ``forward``."""

    class Odd(nn.Module):
        def forward(self, module, forward):
            return module @ forward

    model = Odd()
    dv.apply_(model, RECIPE, {"module": randn(2, 3), "forward": randn(3, 2)})
    assert model(module=randn(2, 3), forward=randn(3, 2)).shape == (2, 2)
