"""Number formats: values, spellings, and the reference casts."""

from dovetail.formats.base import BlockFormat, ElementFormat, Format, Same
from dovetail.formats.block import BlockFloat, MXFormat
from dovetail.formats.cast import cast
from dovetail.formats.fixed import FixedFormat
from dovetail.formats.floating import FloatFormat
from dovetail.formats.integer import IntFormat
from dovetail.formats.logarithmic import LogFormat
from dovetail.formats.posit import PositFormat
from dovetail.formats.registry import format, format_examples, format_names, register_format
from dovetail.formats.rounding import Rounding
from dovetail.formats.scaled import NVFP4, ScaledBlock
from dovetail.formats.shaped import Shaped
from dovetail.formats.shorthand import to_shorthand
from dovetail.formats.tables import TableFormat

__all__ = [
    "NVFP4",
    "BlockFloat",
    "BlockFormat",
    "ElementFormat",
    "FixedFormat",
    "FloatFormat",
    "Format",
    "IntFormat",
    "LogFormat",
    "MXFormat",
    "PositFormat",
    "Rounding",
    "Same",
    "ScaledBlock",
    "Shaped",
    "TableFormat",
    "cast",
    "format",
    "format_examples",
    "format_names",
    "register_format",
    "to_shorthand",
]
