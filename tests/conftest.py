"""Settings for every test. What tests share is in ``helpers.py``."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

# Before NumPy is imported: several of its threads on a busy machine are far slower than one.
os.environ["OPENBLAS_NUM_THREADS"] = "1"

import pytest
import torch
from hypothesis import settings

# Machines differ and are shared: how long an example takes says nothing.
settings.register_profile("dovetail", deadline=None)
settings.load_profile("dovetail")

# Tables are as wide as in a file, whatever terminal the tests run in; pytest-xdist makes one up.
os.environ.pop("COLUMNS", None)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest file comes first: a worker that began with it last would end long after others.

    `make test` keeps this order; the last files are those of doctests, which are short.
    """
    items.sort(key=lambda item: item.path.name != "test_sanitizers.py")


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tests' tensors are too small for two threads, and a busy machine makes two far slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", autouse=True)
def _dynamo_begins_anew() -> None:
    """What torch has compiled for one file of tests, and how often, does not decide on the next."""
    if "torch._dynamo" in sys.modules:
        torch._dynamo.reset()
