"""From a module to functional graphs of ATen and dovetail operators."""

from __future__ import annotations

from dovetail.compiler.capture.cut import cut
from dovetail.compiler.capture.decompositions import decompositions
from dovetail.compiler.capture.joint import Capture, capture

__all__ = ["Capture", "capture", "cut", "decompositions"]
