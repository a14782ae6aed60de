"""The compiler's own level: buffers, and groups in the order they run."""

from __future__ import annotations

from dovetail.compiler.groups.form import Former
from dovetail.compiler.groups.layout import Dim, Layout
from dovetail.compiler.groups.model import (
    Access,
    Buffer,
    Call,
    Constant,
    Group,
    Index,
    Loops,
    Program,
    Reduction,
    Ref,
    Statement,
    View,
)

__all__ = [
    "Access",
    "Buffer",
    "Call",
    "Constant",
    "Dim",
    "Former",
    "Group",
    "Index",
    "Layout",
    "Loops",
    "Program",
    "Reduction",
    "Ref",
    "Statement",
    "View",
]
