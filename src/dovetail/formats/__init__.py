"""Number formats: values, spellings, and the reference casts."""

from dovetail.formats.base import Format
from dovetail.formats.cast import cast
from dovetail.formats.integer import IntFormat
from dovetail.formats.registry import format, format_names, register_format

__all__ = ["Format", "IntFormat", "cast", "format", "format_names", "register_format"]
