"""What several tests of kernels run on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dovetail.kernels import native
from dovetail.kernels.realisation import using


@pytest.fixture(params=["torch", *native.levels()])
def realisation(request: pytest.FixtureRequest) -> Iterator[None]:
    """Products of block formats by torch, and by the core at every level."""
    if request.param == "torch":
        with using("torch-products"):
            yield
    else:
        native.set_isa(request.param)
        yield
        native.set_isa(None)
