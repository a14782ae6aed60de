"""Experiment files that tests begin with."""

#: The built-in digits network in eight bits, its convolutions by one circuit.
DIGITS = """\
dovetail: 1
model: {builtin: digits-cnn}
data: {builtin: digits}
rules:
  - {match: "*", input: int8, weight: int8, acc: int32}
  - {match: "conv*", mul: mul8s_1L2N}
"""
