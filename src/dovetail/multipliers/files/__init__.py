"""Multipliers from files, each kind in a file of its own, and the check against their source."""

from __future__ import annotations

from dovetail.multipliers.files.reader import SUFFIXES, from_file

__all__ = ["SUFFIXES", "from_file"]
