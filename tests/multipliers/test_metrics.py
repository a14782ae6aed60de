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


def test_a_joint_distribution():
    m = dm.multiplier("mul8s_1KVM")
    rng = np.random.default_rng(0)
    joint = rng.integers(0, 5, (256, 256))
    a = np.where(np.arange(256) > 127, np.arange(256) - 256, np.arange(256))
    error = m.table().numpy() - np.outer(a, a)
    found, share = m.errors(joint=joint), joint / joint.sum()
    assert found.bias == pytest.approx((error * share).sum())
    assert found.mae == pytest.approx((np.abs(error) * share).sum())
    p, q = rng.random((2, 256))
    independent = m.errors(first_pdf=p, second_pdf=q)
    assert m.errors(joint=np.outer(p, q)).variance == pytest.approx(independent.variance)
    with pytest.raises(DovetailError, match=r"expected \[256, 256\]"):
        m.errors(joint=p)
    with pytest.raises(DovetailError, match="joint= holds both"):
        m.errors(joint=joint, first_pdf=p)


def test_errors_of_sums_against_sampling():
    m = dm.multiplier("mitchell")
    rng = np.random.default_rng(1)
    values = np.where(np.arange(256) > 127, np.arange(256) - 256, np.arange(256))
    pdf = np.exp(-np.abs(values) / 20)
    weights = rng.integers(-128, 128, (3, 32))
    a = rng.choice(values, (20000, 1, 32), p=pdf / pdf.sum())
    error = (m(a, weights) - a * weights).sum(axis=-1)
    found = m.sum_errors(weights, first_pdf=pdf)
    assert found.variance == pytest.approx(error.var(axis=0), rel=0.05)
    assert np.abs(found.mean - error.mean(axis=0)).max() < 4 * np.sqrt(found.variance.max() / 2e4)
    assert found.rms == pytest.approx(np.sqrt(found.mean**2 + found.variance))


def test_errors_of_sums_add_up():
    m = dm.multiplier("drum(k=3)")
    one = m.errors()
    summed = one.summed(128)
    assert (summed.mean, summed.variance) == (128 * one.bias, 128 * one.variance)
    # Every weight value once: the mean over weights of what each gives is that of uniform weights.
    values = np.arange(-128, 128)[:, None]
    assert m.sum_errors(values).mean.mean() == pytest.approx(one.bias)
    assert m.sum_errors(np.zeros((4, 0), int)).mean.tolist() == [0, 0, 0, 0]
    with pytest.raises(DovetailError, match="terms=-1"):
        one.summed(-1)
    with pytest.raises(DovetailError, match="weights is one number"):
        m.sum_errors(3)
