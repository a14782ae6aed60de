"""Post-training recipes: accuracy won back without training, each of them undoable."""

from dovetail.recovery.handle import Change, Recovery
from dovetail.recovery.smoothquant import smoothquant

__all__ = ["Change", "Recovery", "smoothquant"]
