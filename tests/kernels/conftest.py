"""What several tests of kernels run on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

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


@pytest.fixture(params=native.levels())
def level(request: pytest.FixtureRequest) -> Iterator[str]:
    """The core's instruction-set level."""
    native.set_isa(request.param)
    yield request.param
    native.set_isa(None)


@pytest.fixture
def as_many_threads_afterwards() -> Iterator[None]:
    """A test may set the number of threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
