"""What a table is: every family is found again, and what is none is not taken for one."""

from __future__ import annotations

import numpy as np
import pytest

import dovetail as dv
from dovetail.multipliers import Multiplier
from dovetail.multipliers.fitting import fit

SIGNED = [
    "exact(bits=5)",
    "truncate(bits=5, drop_first=2, drop_second=1)",
    "broken_array(bits=5, drop_columns=3, drop_rows=1)",
    "truncated(bits=5, drop_columns=3, compensation=variable)",
    "array(mask=0x1f0ffe, bits=5, constant=3)",
    "array(mask=0x7bd2, bits=4, constant=-3)",
    "drum(bits=5, k=3)",
    "ssm(bits=5, m=3)",
    "essm(bits=5, m=3)",
    "dsm(bits=5, m=3)",
    "mitchell(bits=5)",
    "mbm(bits=5)",
    "alm(bits=5, adder=loa, m=2)",
    "alm(bits=5, adder=soa, m=3)",
    "roba(bits=5)",
    "kulkarni(bits=4)",
    "etm(bits=5, split=3)",
    "iterative_log(bits=5, iterations=1)",
    "sign_magnitude(broken_array(bits=5, drop_columns=4, signed=False))",
    "sign_magnitude(truncated(bits=5, drop_columns=3, signed=False))",
]
UNSIGNED = [
    "truncate(bits=5, drop_first=2, drop_second=1, signed=False)",
    "alm(bits=5, adder=loa, m=3, signed=False)",
    "etm(bits=5, split=1, signed=False)",
    "array(mask=0x1f0ffe, bits=5, constant=3, signed=False)",
    "array(mask=0xfefefcf8f0e0, bits=(6, 8), constant=5, signed=False)",
]


def as_table(m: Multiplier) -> Multiplier:
    """The same without its name."""
    return dv.multiplier(m.table().numpy(), signed=m.signed, bits=m.bits)


@pytest.mark.parametrize("spelling", [*SIGNED, *UNSIGNED])
def test_every_family_is_found_again(spelling: str) -> None:
    m = dv.multiplier(spelling)
    best = fit(as_table(m))[0]
    assert best.exact
    assert best.equal == 1
    assert np.array_equal(dv.multiplier(best.spelling).table(), m.table())


def test_what_is_no_family_is_not_taken_for_one() -> None:
    products = dv.multiplier("drum(bits=5, k=3)").table().numpy().copy()
    products[3, 7] += 1
    found = fit(dv.multiplier(products, signed=True, bits=5))
    assert not any(one.exact for one in found)
    assert found[0].spelling == "drum(k=3, bits=5, signed=True)"
    assert (found[0].equal, found[0].worst) == (1023 / 1024, 1)
    assert found[0].rms == pytest.approx(1 / 32)
