"""Measurements: ratios to plain torch float32 of the same shape, taken in the same run."""
