"""Handing a network on: `dv.export` writes it in another form, and compares before it returns."""

from typing import TYPE_CHECKING

from dovetail._lazy import lazy

if TYPE_CHECKING:
    from dovetail.interchange._public import *  # noqa: F403
    from dovetail.interchange._public import __all__ as __all__

lazy(__name__)
