"""Multipliers from combinational Verilog: read and elaborated into gates."""

from __future__ import annotations

from dovetail.multipliers.files.verilog.circuit import load_circuit

__all__ = ["load_circuit"]
