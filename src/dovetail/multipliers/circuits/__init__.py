"""Circuits of multipliers: gates, arrays of partial products built of them, and what they cost."""
