"""The d-Matrix shorthand of formats: its names, how it is read and how it is written."""

from dovetail.formats.shorthand.aliases import aliases
from dovetail.formats.shorthand.read import is_shorthand, parse_shorthand
from dovetail.formats.shorthand.write import to_shorthand

__all__ = ["aliases", "is_shorthand", "parse_shorthand", "to_shorthand"]
