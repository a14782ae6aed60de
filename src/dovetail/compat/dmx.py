"""``from mltools import dmx``, here ``from dovetail.compat import dmx``.

``dmx.aware()``, ``dmx.Model(net)``, ``model.transform("config.yaml", *rules)``; and of its later
form ``DmxModel.from_torch(net)``, ``model.configure(...)``, ``model.to_basic_mode()``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

from torch import nn

from dovetail.container import Model as _Model
from dovetail.container import aware, transform, unaware
from dovetail.container.pending import Source
from dovetail.errors import DovetailError
from dovetail.recipe import Recipe, Rule
from dovetail.recipe.dmatrix import BASELINE, BASIC, FP8, SBFP_WEIGHT_STORAGE, rules_of
from dovetail.recipe.dmatrix.instances import Instance, instance

__all__ = [
    "DmxConfigRule",
    "DmxModel",
    "DmxTransformation",
    "Model",
    "aware",
    "config_rules",
    "transform",
    "unaware",
]

config_rules = SimpleNamespace(
    BASELINE=BASELINE, BASIC=BASIC, FP8=FP8, SBFP_WEIGHT_STORAGE=SBFP_WEIGHT_STORAGE
)


class Model(_Model):
    """``dovetail.Model`` with the methods of ``dmx.Model`` and ``DmxModel``.

    >>> import torch
    >>> model = DmxModel.from_torch(nn.Linear(64, 8)).to_basic_mode()
    >>> y = model(torch.ones(1, 64))
    >>> model.dmx_config["."]["input"]
    'bfp(m=8, block=64)'
    """

    @classmethod
    def from_torch(cls, model: nn.Module) -> Model:
        """The container of ``model``."""
        return cls(model)

    def configure(self, config: Source = None, *rules: Source) -> Model:
        """Another name of ``transform``."""
        self.transform(config, *rules)
        return self

    @property
    def dmx_config(self) -> dict[str, dict[str, str]]:
        """Another name of ``config``."""
        return self.config

    def to_baseline_mode(self) -> Model:
        """Everything as torch has it."""
        self.transform("BASELINE", reset=True)
        return self

    def to_basic_mode(self, sbfp_weight_storage: bool = False) -> Model:
        """``BASIC``, the weights stored in scaled blocks if asked."""
        self.transform("BASIC", *([SBFP_WEIGHT_STORAGE] if sbfp_weight_storage else ()), reset=True)
        return self

    def to_fp8_mode(self) -> Model:
        """``FP8``."""
        self.transform("FP8", reset=True)
        return self


DmxModel = Model


def DmxConfigRule(  # noqa: N802 - their class
    module_types: Iterable[type[nn.Module] | str] = (),
    name_re: str = "",
    module_config: Mapping[str, Any] | None = None,
) -> Recipe:
    """The rules for modules of one of the types whose name begins as ``name_re`` says.

    >>> DmxConfigRule((nn.Linear,), "fc", dict(weight_format="BFP16_64")).rules[0].selector
    Selector(match='re:(?:fc).*', op='linear', type=None)
    """
    kinds: list[Instance | None] = [
        instance(t if isinstance(t, str) else t.__name__) for t in module_types
    ]
    match = f"re:(?:{_checked(name_re)}).*" if name_re else "*"
    rules: list[Rule] = []
    for kind in kinds or [None]:
        rules += rules_of(module_config or {}, match, kind, optional=True)
    return Recipe(*rules)


DmxTransformation = DmxConfigRule


def _checked(name_re: str) -> str:
    try:
        re.compile(name_re)
    except re.error as error:
        raise DovetailError(f"name_re='{name_re}' is no regular expression: {error}") from None
    return name_re.removeprefix(r"_gm\.")
