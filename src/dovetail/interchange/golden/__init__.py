"""Golden vectors: what every emulated operation multiplied and gave, for testbenches."""
