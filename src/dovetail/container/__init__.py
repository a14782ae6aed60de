"""The d-Matrix way: a model that is told its configuration, and takes it on when it first runs."""

from dovetail.container.aware import aware, unaware
from dovetail.container.model import Model
from dovetail.container.monitor import Monitor, monitoring
from dovetail.container.pending import transform

__all__ = ["Model", "Monitor", "aware", "monitoring", "transform", "unaware"]
