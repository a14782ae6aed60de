"""A whole experiment, from its file to its report: `run(path)` is what `dovetail run` does."""

from typing import TYPE_CHECKING

from dovetail._lazy import lazy

if TYPE_CHECKING:
    from dovetail.experiment._public import *  # noqa: F403
    from dovetail.experiment._public import __all__ as __all__

lazy(__name__)
