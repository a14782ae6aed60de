"""What tells two models, or two passes, apart: digests of values, of code and of modules."""

from __future__ import annotations

import uuid
from typing import Any

from dovetail.compiler.identity.digest import Digest, UnknownError

__all__ = ["Digest", "UnknownError", "identity_of"]


def identity_of(value: Any) -> str:
    """A text that equal values have in every process; one of its own where none can be given.

    >>> identity_of(lambda x: x + 1) == identity_of(lambda x: x + 1)
    True
    >>> identity_of(lambda x: x + 1) == identity_of(lambda x: x + 2)
    False
    >>> lock = __import__("threading").Lock()
    >>> identity_of(lock) == identity_of(lock)
    False
    """
    digest = Digest()
    try:
        digest.add(value)
    except UnknownError:
        return uuid.uuid4().hex
    return digest.text
