"""The public names of `dovetail.interchange`."""

from dovetail.interchange.export import export
from dovetail.interchange.registry import Exporter, exporters_known, register_exporter
from dovetail.interchange.result import Compared, Exported

__all__ = [
    "Compared",
    "Exported",
    "Exporter",
    "export",
    "exporters_known",
    "register_exporter",
]
