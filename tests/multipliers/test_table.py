"""Multipliers given as tables."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

import dovetail.multipliers as dm
from dovetail.errors import DovetailError


@pytest.fixture
def random_table():
    return np.random.default_rng(3).integers(-40_000, 40_000, (256, 256))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint8, np.int8, np.uint64, np.int16])
def test_any_integer_dtype(dtype):
    table = np.random.default_rng(0).integers(0, 100, (256, 256)).astype(dtype)
    for given in (table, torch.from_numpy(table)):
        m = dm.multiplier(given)
        assert m.bits == (8, 8)
        assert m.signed
        assert m.table().dtype == torch.int32
        assert np.array_equal(m.table().numpy(), table.astype(np.int64))


def test_rows_are_the_first_operands_codes(random_table):
    m = dm.multiplier(random_table)
    assert m(-1, 2) == random_table[255, 2]
    assert m(2, -1) == random_table[2, 255]
    unsigned = dm.multiplier(random_table, signed=False)
    assert unsigned(255, 2) == random_table[255, 2]


def test_the_given_array_stays_the_users(random_table):
    m = dm.multiplier(random_table)
    before = m.table()
    random_table[:] = 0
    m.table()[:] = 1
    assert torch.equal(m.table(), before)


def test_asymmetric_widths():
    table = np.outer(np.arange(256), [0, 1, 2, 3, -4, -3, -2, -1])
    m = dm.multiplier(table, signed=True, bits=(8, 3))
    assert m.bits == (8, 3)
    assert dm.multiplier(repr(m)) is not None
    with pytest.raises(DovetailError, match=r"256x8; expected 8x256 for bits=\(3, 8\)"):
        dm.multiplier(table, bits=(3, 8))


def test_equality_is_by_content(random_table):
    m = dm.multiplier(random_table)
    assert m == dm.multiplier(random_table.astype(np.int32))
    assert hash(m) == hash(dm.multiplier(torch.from_numpy(random_table)))
    assert m != dm.multiplier(random_table, signed=False)
    changed = random_table.copy()
    changed[3, 4] += 1
    assert m != dm.multiplier(changed)
    assert m != "table"


def test_repr_reads_back_in_this_process(random_table):
    m = dm.multiplier(random_table)
    assert repr(m).startswith("table(sha256:")
    assert repr(m).endswith(", bits=8, signed=True)")
    assert dm.multiplier(repr(m)) == m
    with pytest.raises(DovetailError, match="another kind of operand"):
        dm.multiplier(repr(m).replace("signed=True", "signed=False"))


def test_repr_in_another_process_says_what_to_do(random_table, tmp_path):
    m = dm.multiplier(random_table)
    (tmp_path / "m.pickle").write_bytes(pickle.dumps(m))
    script = (
        "import pickle, sys, dovetail.multipliers as dm\n"
        "text = sys.argv[1]\n"
        "try: dm.multiplier(text)\n"
        "except dm.registry.DovetailError as error: print(error)\n"
        "m = pickle.load(open(sys.argv[2], 'rb'))\n"
        "print(repr(m) == text and dm.multiplier(text) == m)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, repr(m), str(tmp_path / "m.pickle")],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "names a table that this process has not made" in done.stdout
    assert done.stdout.endswith("True\n")


@pytest.mark.parametrize("made", ["drum(k=4)", "exact", "mul8s_1KVA", "table", "mitchell(bits=12)"])
def test_pickle_and_copy(made, random_table):
    m = dm.multiplier(random_table if made == "table" else made)
    m.errors(), m.factors()
    again = pickle.loads(pickle.dumps(m))
    assert again == m
    assert again is not m
    assert again(3, -2) == m(3, -2)
    assert copy.deepcopy(m) is m
    assert len(pickle.dumps(m)) < 300_000


def test_frozen():
    with pytest.raises(AttributeError):
        dm.multiplier("drum").k = 3
    with pytest.raises(ValueError, match="read-only"):
        dm.multiplier("mul8s_1KVA").factors().first[0, 0] = 1


@pytest.mark.parametrize(
    ("table", "kwargs", "message"),
    [
        (np.zeros((256, 255), int), {}, "the table is 256x255; expected 2[*][*]a rows"),
        (np.zeros((256,), int), {}, "the table is 256; expected"),
        (np.zeros((256, 256), int), {"bits": 7}, "256x256; expected 128x128 for bits=7"),
        (np.zeros((256, 256)), {}, "the table holds float64; a multiplier's products are integers"),
        (np.full((4, 4), 2**31), {}, "the table holds 2147483648; products must fit int32"),
        (np.full((4, 4), 2**63, np.uint64), {}, "the table holds 9223372036854775808; products"),
        (np.zeros((4, 4), int), {"function": "f"}, "a table: got an unexpected keyword"),
        (np.zeros((4, 4), int), {"signed": 3}, "signed=3; give True"),
        (np.broadcast_to(np.int8(0), (1 << 13, 1 << 12)), {}, "tables stop at 12 [+] 12 bits"),
    ],
)
def test_wrong_tables_teach(table, kwargs, message):
    with pytest.raises(DovetailError, match=message):
        dm.multiplier(table, **kwargs)


def test_f_of_zero_may_be_nonzero():
    table = np.full((16, 16), 5)
    m = dm.multiplier(table)
    assert m(0, 0) == 5
    assert m.factors().rank == 1
    assert m.errors().bias == pytest.approx(5 - 0.25)
