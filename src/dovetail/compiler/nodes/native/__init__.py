"""The ``native`` implementation: dovetail's own kernels, called from generated code as they are."""
