"""The ``aten`` implementation: torch's own kernels, through the C functions that it exports."""
