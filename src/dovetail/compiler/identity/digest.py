"""A digest of Python values: data by content, functions and classes by their code.

What cannot be told by its content (a lock, a file, a generator) is an :class:`UnknownError`, and
then there is no digest. Equal digests are meant to mean equal behaviour; equal behaviour may well
have different digests.
"""

from __future__ import annotations

import enum
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from types import CodeType, MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dovetail.compiler.identity.trusted import is_trusted_class

__all__ = ["Digest", "UnknownError", "tensor_facts"]


class UnknownError(Exception):
    """Something that cannot be told by its content: where it stands, and what it is."""


_ATOMS = (type(None), bool, int, str, bytes, complex, type(Ellipsis), type(NotImplemented))
_NAMED = (torch.dtype, torch.device, torch.layout, torch.memory_format)


class Digest:
    """Takes values, one after the other; :attr:`text` is the digest of all of them.

    >>> one, two = Digest(), Digest()
    >>> one.add([1, "a"])
    >>> two.add([1, "b"])
    >>> one.text == two.text
    False
    >>> Digest().add(__import__("threading").Lock(), "guard")
    Traceback (most recent call last):
    dovetail.compiler.identity.digest.UnknownError: guard: a lock
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []
        #: The code that has been read, of functions that no version stands for.
        self.codes: set[CodeType] = set()
        #: The memory of tensors that are inputs, numbered.
        self.storages: dict[int, int] = {}

    @property
    def text(self) -> str:
        """The digest of all that was added."""
        return self._hash.hexdigest()

    def token(self, *words: str) -> None:
        """Add words as they are."""
        for word in words:
            raw = word.encode("utf-8", "surrogatepass")
            self._hash.update(f"{len(raw)}:".encode())
            self._hash.update(raw)

    def bytes(self, raw: Any) -> None:
        """Add a buffer of bytes."""
        self._hash.update(f"{len(raw)};".encode())
        self._hash.update(raw)

    def is_new(self, value: Any) -> bool:
        """Whether ``value`` is met for the first time; otherwise its number is added."""
        number = self._seen.get(id(value))
        if number is not None:
            self.token("again", str(number))
            return False
        self._seen[id(value)] = len(self._seen)
        self._alive.append(value)  # or another object could get its address
        return True

    def add(self, value: Any, where: str = "") -> None:
        """Add ``value``, which stands at ``where``."""
        kind = type(value)
        if kind in _ATOMS:
            self.token(kind.__name__, repr(value))
        elif kind is float:
            self.token("float", value.hex())
        elif kind in _NAMED:
            self.token(kind.__name__, str(value))
        elif (handler := _BY_TYPE.get(kind)) is not None:
            handler(self, value, where)
        elif isinstance(value, enum.Enum):
            self.add(kind, where)
            self.token(value.name)
        elif (added := _meant(value)) is not None:
            added(self, value, where)
        elif self.is_new(value):
            _object(self, value, where)

    def items(self, values: Mapping[Any, Any], where: str) -> None:
        """Add the keys and the values of a mapping, in its order."""
        self.token("items", str(len(values)))
        for key, value in list(values.items()):
            self.add(key, where)
            self.add(value, f"{where}.{key}" if isinstance(key, str) else f"{where}[{key!r}]")


def _sequence(digest: Digest, value: Any, where: str) -> None:
    digest.token(type(value).__name__, str(len(value)))
    for number, item in enumerate(value):
        digest.add(item, f"{where}[{number}]")


def _list(digest: Digest, value: Any, where: str) -> None:
    if digest.is_new(value):
        _sequence(digest, value, where)


def _dict(digest: Digest, value: Any, where: str) -> None:
    if digest.is_new(value):
        digest.token(type(value).__name__)
        digest.items(value, where)


def _set(digest: Digest, value: Any, where: str) -> None:
    texts = []
    for item in value:
        alone = Digest()
        alone.add(item, where)
        digest.codes |= alone.codes
        texts.append(alone.text)
    digest.token(type(value).__name__, *sorted(texts))


def _tensor(digest: Digest, value: Tensor, where: str) -> None:
    if not digest.is_new(value):
        return
    plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
    if not plain or torch._is_functional_tensor(value):
        raise UnknownError(f"{where}: a tensor on {value.device} in {value.layout}")
    tensor_facts(digest, value)
    content = value.detach().resolve_conj().resolve_neg().contiguous().reshape(-1)
    digest.bytes(content.view(torch.uint8).numpy())


def tensor_facts(digest: Digest, value: Tensor) -> None:
    """Add all about a tensor but its elements."""
    words = (value.dtype, tuple(value.shape), value.stride(), value.device, value.requires_grad)
    digest.token(type(value).__name__, *map(str, words), str(value.is_leaf))


def _array(digest: Digest, value: Any, where: str) -> None:
    if value.dtype.hasobject:
        raise UnknownError(f"{where}: an array of objects")
    digest.token("array", str(value.dtype), str(value.shape))
    digest.bytes(np.ascontiguousarray(value).reshape(-1).view(np.uint8))


def _meant(value: Any) -> Callable[[Digest, Any, str], None] | None:
    """How values of whole families are added: code, modules, and what others derive from them."""
    from dovetail.compiler.identity.code import reader

    return reader(value)


def _object(digest: Digest, value: Any, where: str) -> None:
    """Any other object: its class, and what pickling it would take."""
    cls = type(value)
    digest.add(cls, where)
    if is_dataclass(value) and is_trusted_class(cls):
        for one in fields(value):  # not what it has computed meanwhile
            digest.token(one.name)
            digest.add(getattr(value, one.name, None), f"{where}.{one.name}")
        return
    try:
        parts = value.__reduce_ex__(2)
    except Exception as error:
        raise UnknownError(f"{where}: a {cls.__name__}") from error
    if isinstance(parts, str):
        digest.token(parts)
        return
    digest.token("object")
    for part in parts:
        if part is None or isinstance(part, (tuple, dict)):
            _state(digest, part, where)
        elif hasattr(part, "__next__"):
            _sequence(digest, list(part), where)
        else:
            digest.add(part, where)


def _state(digest: Digest, part: Any, where: str) -> None:
    if isinstance(part, dict):
        digest.items(part, where)
    else:
        digest.add(part, where)


_BY_TYPE: dict[type, Callable[[Digest, Any, str], None]] = {
    tuple: _sequence,
    torch.Size: _sequence,
    list: _list,
    dict: _dict,
    MappingProxyType: _dict,
    set: _set,
    frozenset: _set,
    range: lambda digest, value, where: digest.token("range", repr(value)),
    slice: lambda d, value, where: d.add((value.start, value.stop, value.step), where),
    Tensor: _tensor,
    torch.nn.Parameter: _tensor,
    np.ndarray: _array,
}
