"""Settings for every test. What tests share is in ``helpers.py``."""

from __future__ import annotations

from hypothesis import settings

# Machines differ and are shared: how long an example takes says nothing.
settings.register_profile("dovetail", deadline=None)
settings.load_profile("dovetail")
