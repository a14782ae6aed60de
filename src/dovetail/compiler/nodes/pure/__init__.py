"""The ``pure`` implementation: maps and tasklets down to the scalar, open to every pass."""
