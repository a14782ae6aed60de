"""Error metrics against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import dovetail.multipliers as dm
from dovetail.errors import DovetailError


def test_metrics_by_definition():
    table = np.random.default_rng(0).integers(-300, 300, (32, 8))
    m = dm.multiplier(table)
    a = np.r_[0:16, -16:0][:, None]
    w = np.r_[0:4, -4:0][None]
    error = table - a * w
    found = m.errors()
    assert found.mae == np.abs(error).mean()
    assert found.wce == np.abs(error).max()
    assert found.ep == (error != 0).mean()
    assert found.bias == pytest.approx(error.mean())
    assert found.variance == pytest.approx(error.var())
    assert found.nmed == found.mae / 64
    exact = a * w
    relative = np.abs(error)[exact != 0] / np.abs(exact)[exact != 0]
    assert found.mred == pytest.approx(relative.mean())


def test_operand_weights():
    m = dm.multiplier("mul8s_1KVM")  # the first operand's lowest bit reads as zero
    even = np.zeros(256)
    even[::2] = 3
    assert m.errors(first_pdf=even).wce == 0
    odd = torch.zeros(256)
    odd[1] = 1
    found = m.errors(first_pdf=odd, second_pdf=odd)
    assert (found.mae, found.ep, found.bias, found.variance, found.nmed) == (1, 1, -1, 0, 1)
    for bad, message in [
        (np.ones(255), r"has shape \[255\]; expected \[256\]"),
        (-np.ones(256), "finite, non-negative"),
        (np.zeros(256), "not all zero"),
    ]:
        with pytest.raises(DovetailError, match=message):
            m.errors(second_pdf=bad)


def test_sampled_metrics_are_repeatable_and_say_so():
    first, second = (dm.multiplier("mitchell(bits=16)").errors() for _ in range(2))
    assert first == second
    assert first.method == "1048576 sampled operand pairs, seed 0"
    assert first.mred == pytest.approx(0.0385, abs=0.001)  # the paper's 3.8 % on average


def test_a_readable_line():
    line = repr(dm.multiplier("mul8s_1KV9").errors())
    assert line.startswith("MAE 4.25, WCE 17, EP 68.75%, MRED 0.902%, bias ")
    assert "all 65536 operand pairs" in line
    assert set(dm.multiplier("exact").errors().to_dict()) >= {"mae", "wce", "ep", "mred", "bias"}
