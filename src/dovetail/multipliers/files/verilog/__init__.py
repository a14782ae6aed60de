"""Multipliers from combinational Verilog: read, elaborated into gates, evaluated bit-parallel."""

from __future__ import annotations

from dovetail.multipliers.files.verilog.circuit import Circuit, load_circuit

__all__ = ["Circuit", "load_circuit"]
