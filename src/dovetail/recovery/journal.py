"""What a recipe is about to change, kept as it was, so that every bit can be put back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.emulation.mode import ENTRY
from dovetail.emulation.swap import BUFFER_PREFIX

__all__ = ["Journal"]


@dataclass
class _Saved:
    """One module: which tensors and sub-modules it held, what stood in some, its sites' words."""

    entry: Any
    held: dict[str, dict[str, Any]]
    hidden_from_state: set[str]
    values: dict[str, Tensor] = field(default_factory=dict)
    sites: list[tuple[Any, dict[str, Any]]] = field(default_factory=list)


_HELD = ("_parameters", "_buffers", "_modules")
_WORDS = ("transforms", "ranges", "arithmetic", "spelling")


class Journal:
    """Modules as they were before they were changed.

    >>> layer, journal = nn.Linear(2, 2), Journal()
    >>> before = layer.weight.detach().clone()
    >>> journal.save(layer, "weight")
    >>> _ = nn.init.zeros_(layer.weight)
    >>> journal.put_back()
    >>> torch.equal(layer.weight, before)
    True
    """

    def __init__(self) -> None:
        self._saved: dict[nn.Module, _Saved] = {}

    @property
    def modules(self) -> list[nn.Module]:
        """Those that were saved, in that order."""
        return list(self._saved)

    def save(self, module: nn.Module, *names: str) -> None:
        """Keep a module as it is: which parameters, buffers and sub-modules it holds, all that
        emulation put there, and the values of the parameters and buffers named."""
        if module not in self._saved:
            self._saved[module] = _shape(module)
        saved = self._saved[module]
        for name in names:
            if name not in saved.values:
                saved.values[name] = _held(module, name).detach().clone()

    @property
    def is_elsewhere(self) -> bool:
        """Whether a module that was emulated when it was saved is so by another recipe now."""
        entries = ((s.entry, module.__dict__.get(ENTRY)) for module, s in self._saved.items())
        return any(now is not then for then, now in entries if None not in (then, now))

    def put_back(self) -> None:
        """Every module as it was; emulation only where it is still the same one."""
        with torch.no_grad():
            for module, saved in reversed(list(self._saved.items())):
                _restore(module, saved)


def _shape(module: nn.Module) -> _Saved:
    entry = module.__dict__.get(ENTRY)
    held = {name: dict(module.__dict__[name]) for name in _HELD}
    saved = _Saved(entry, held, set(module._non_persistent_buffers_set))
    for name, value in module._buffers.items():
        if name.startswith(BUFFER_PREFIX) and value is not None:
            saved.values[name] = value.detach().clone()
    for by_index in getattr(entry, "sites", {}).values():
        for site in by_index.values():
            saved.sites.append((site, {word: getattr(site, word) for word in _WORDS}))
    return saved


def _restore(module: nn.Module, saved: _Saved) -> None:
    same = module.__dict__.get(ENTRY) is saved.entry

    def ours(name: str) -> bool:
        """Whether it is of an emulation that has come or gone since."""
        return name.startswith(BUFFER_PREFIX) and not same

    for slot, then in saved.held.items():
        now: dict[str, Any] = module.__dict__[slot]
        back = {name: _either(value, now.get(name)) for name, value in then.items()}
        kept = {name: value for name, value in now.items() if ours(name)}
        now.clear()
        now.update({name: value for name, value in back.items() if not ours(name)} | kept)
    hidden = module._non_persistent_buffers_set
    kept_names = {name for name in hidden if ours(name)}
    hidden.clear()
    hidden.update({name for name in saved.hidden_from_state if not ours(name)} | kept_names)
    for name, value in saved.values.items():
        if not ours(name):
            _held(module, name).copy_(value)
    for site, words in saved.sites:
        for word, value in words.items():
            setattr(site, word, value)


def _either(then: Any, now: Any) -> Any:
    """What a name stood for; of a tensor the one that stands there now, which may have moved to
    another device, as its values are put back into it."""
    return now if isinstance(then, Tensor) and isinstance(now, Tensor) else then


def _held(module: nn.Module, name: str) -> Tensor:
    value: Tensor | None = module._parameters.get(name)
    value = module._buffers[name] if value is None else value
    assert value is not None
    return value
