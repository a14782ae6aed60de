"""What an emulation costs and where: accuracy, per-layer noise and energy, and the report."""

from dovetail.analysis.metrics import Interval, accuracy, sqnr_db, wilson

__all__ = ["Interval", "accuracy", "sqnr_db", "wilson"]
