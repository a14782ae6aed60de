"""Multipliers from files of plain numbers: arrays, memory images, delimited text."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import dovetail.multipliers as dm
from dovetail.errors import DovetailError


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return path


@pytest.fixture(scope="module")
def random_products():
    """A signed 8 x 8 table whose products use all of 16 bits."""
    return np.random.default_rng(0).integers(-(1 << 15), 1 << 15, (256, 256))


def test_npy(tmp_path):
    table = np.random.default_rng(0).integers(-9, 9, (16, 16))
    np.save(tmp_path / "mine.npy", table)
    m = dm.multiplier(tmp_path / "mine.npy")
    assert m == dm.multiplier(str(tmp_path / "mine.npy")) == dm.multiplier(table)
    assert m.name == "mine"
    with pytest.raises(DovetailError, match="expected 256x256 for bits=8"):
        dm.multiplier(tmp_path / "mine.npy", bits=8)


def test_npz(tmp_path, random_products):
    np.savez(tmp_path / "one.npz", lut=random_products)
    m = dm.multiplier(tmp_path / "one.npz")
    assert np.array_equal(m.table(), random_products)
    np.savez_compressed(tmp_path / "two.npz", lut=random_products, other=random_products.T)
    with pytest.raises(DovetailError, match=r"several arrays; .*function='lut' or 'other'"):
        dm.multiplier(tmp_path / "two.npz")
    with pytest.raises(DovetailError, match=r"unknown array of .* 'luts'; did you mean 'lut'"):
        dm.multiplier(tmp_path / "two.npz", function="luts")
    assert dm.multiplier(tmp_path / "two.npz", function="other")(3, 5) == random_products[5, 3]


def dump(words, digits):
    """As $writememh writes them."""
    lines = (f"{word:0{digits}x}\n" for word in words)
    return "// memory data file\n" + "".join(lines)


@pytest.mark.parametrize(("width", "digits"), [(16, 4), (20, 5), (32, 8)])
@pytest.mark.parametrize("suffix", [".hex", ".mem"])
def test_writememh_of_signed_products(tmp_path, random_products, width, digits, suffix):
    words = (random_products & (1 << width) - 1).ravel().tolist()
    m = dm.multiplier(write(tmp_path, "mul8s_OWN" + suffix, dump(words, digits)))
    assert (m.bits, m.signed, m.name) == ((8, 8), True, "mul8s_OWN")
    assert np.array_equal(m.table(), random_products)


def test_memory_images_of_unsigned_and_unequal_operands(tmp_path):
    products = dm.multiplier("exact(bits=(4, 2), signed=False)").table().numpy()
    path = write(tmp_path, "mul4x2u_OWN.hex", dump(products.ravel().tolist(), 2))
    assert dm.multiplier(path).bits == (4, 2)
    other = path.rename(tmp_path / "other.hex")
    with pytest.raises(DovetailError, match="does not say whether its operands are signed"):
        dm.multiplier(other)
    assert dm.multiplier(other, signed=False).bits == (3, 3)
    assert dm.multiplier(other, signed=False, bits=(4, 2))(15, 3) == 45
    m = dm.multiplier(str(other), check="exact(bits=(4, 2), signed=False)")
    assert (m.bits, m.signed) == ((4, 2), False)
    with pytest.raises(DovetailError, match=r"differs from .* in 24 of 64 products"):
        dm.multiplier(
            other, check="truncate(bits=(4, 2), drop_first=1, signed=False)", signed=False
        )


def test_addresses_comments_and_underscores(tmp_path):
    text = """/* two
    lines */ @8 8 9 a b  @C c d // last
    e F
    @0 0 01 2 3 // 4
    @4
    4 5 0_6 7"""
    m = dm.multiplier(write(tmp_path, "x.mem", text), signed=False)
    assert m.table().ravel().tolist() == list(range(16))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0 1\n2 3x", r"x.hex:2: '3x' holds unknown digits"),
        ("0 1 2\nzzzz", r"x.hex:2: 'zzzz' holds unknown digits"),
        ("0 1\n2 hello", r"x.hex:2: 'hello' is no hexadecimal word"),
        ("0 1 2 3\n@2 5", r"x.hex:2: the address 2 is given twice"),
        ("0 1\n@3 3", r"the address 2 is missing \(1 of 4 are\)"),
        ("@fffffff 3", r"x.hex:1: the address fffffff is beyond a table"),
        ("0 1 2", "holds 3 products; expected 65536"),
        ("0 1 2 3 4 5 6 7", r"holds 8 products; .* or give bits="),
        ("// nothing", "holds 0 products"),
        ("0 1 2 /* 3", "does not end"),
        ("0 1 2 1_0000_0000", "more than 32 bits"),
        ("@ 0 1 2 3", "'' is no hexadecimal word"),
    ],
)
def test_wrong_memory_images_teach(tmp_path, text, message):
    with pytest.raises(DovetailError, match=message):
        dm.multiplier(write(tmp_path, "x.hex", text), signed=True)


def test_no_table_is_as_wide_as_that(tmp_path):
    path = write(tmp_path, "x.hex", "0 1 2 3")
    with pytest.raises(DovetailError, match=r"holds 4 products; expected 65536 for bits=\(8, 8\)"):
        dm.multiplier(path, signed=True, bits=8)
    with pytest.raises(DovetailError, match="max_abs= is for wide"):
        dm.multiplier(path, signed=True, max_abs=3)
    with pytest.raises(DovetailError, match="function= picks from"):
        dm.multiplier(path, signed=True, function="f")


@pytest.mark.parametrize(
    ("dtype", "signed"), [("<i2", True), ("<u2", False), ("<i4", True), ("<u4", False)]
)
def test_raw_words(tmp_path, random_products, dtype, signed):
    products = random_products if signed else random_products + (1 << 15)
    path = tmp_path / "lut.bin"
    products.astype(dtype).tofile(path)
    m = dm.multiplier(path, signed=signed)
    assert (m.bits, m.signed) == ((8, 8), signed)
    assert np.array_equal(m.table(), products)
    products[:, :128].astype(dtype).tofile(path)
    assert dm.multiplier(path, signed=signed, bits=(8, 7)).bits == (8, 7)
    path.write_bytes(b"12345")
    with pytest.raises(DovetailError, match=r"holds 5 bytes; expected 131072 \(words of 16"):
        dm.multiplier(path, signed=signed)


def pairs(table, values, separator=",", heading="a,w,product\n", seed=0):
    """Rows a, w, product in any order."""
    sides = [values(size) for size in table.shape]
    rows = [
        separator.join(map(str, (a, w, table[i, j])))
        for (i, a), (j, w) in itertools.product(*map(enumerate, sides))
    ]
    np.random.default_rng(seed).shuffle(rows)
    return heading + "\n".join(rows) + "\n"


def codes(size):
    return range(size)


def signed_values(size):
    return [code - size * (code >= size // 2) for code in range(size)]


@pytest.mark.parametrize("separator", [",", ", ", "; ", "\t", " "])
@pytest.mark.parametrize("heading", ["", "a,w,product\n", "# of my own\n\n// two\nin1 in2 out\n"])
def test_pairs(tmp_path, separator, heading):
    table = np.random.default_rng(1).integers(-60, 60, (16, 8))
    path = write(tmp_path, "t.csv", pairs(table, signed_values, separator, heading))
    m = dm.multiplier(path)
    assert (m.bits, m.signed) == ((4, 3), True)
    assert np.array_equal(m.table(), table)


def test_pairs_of_codes(tmp_path):
    """Two's complement on both sides of the row; products in 7 bits, and sign-extended to 12."""
    table = np.random.default_rng(1).integers(-60, 60, (16, 8))
    for width in (7, 12):
        text = pairs(table & (1 << width) - 1, codes)
        assert np.array_equal(
            dm.multiplier(write(tmp_path, "t.csv", text), signed=True).table(), table
        )
    shown = write(tmp_path, "shown.txt", pairs(table, codes))
    assert np.array_equal(dm.multiplier(shown).table(), table)  # a negative product tells
    table &= 127
    unsigned = dm.multiplier(write(tmp_path, "mul4x3u.txt", pairs(table, codes)))
    assert not unsigned.signed
    assert np.array_equal(unsigned.table(), table)


@pytest.mark.parametrize("separator", [",", " ", ";"])
def test_matrices(tmp_path, random_products, separator):
    rows = "\n".join(separator.join(map(str, row)) for row in random_products.tolist())
    m = dm.multiplier(write(tmp_path, "lut.csv", rows))
    assert np.array_equal(m.table(), random_products)
    rows = "\n".join(separator.join(map(hex, row)) for row in (random_products & 0xFFFF).tolist())
    m = dm.multiplier(write(tmp_path, "lut.txt", rows), signed=True, bits=8)
    assert np.array_equal(m.table(), random_products)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0,0,0\n0,1,0\n1,0,0\n", r"the pair 1, 1 is missing \(1 of 4 are\)"),
        ("0,0,0\n0,-1,0\n-1,0,0\n", r"the pair -1, -1 is missing"),
        ("0,0,0\n0,1,0\n1,0,0\n1,1,1\n\n0,1,0", r"x.csv:6: the pair 0, 1 is given twice"),
        ("a,w,p\n0,0,0\nx,1,0", r"x.csv:3: 'x' is no whole number"),
        ("a\nb\n0,0,0", r"x.csv:2: 'b' is no whole number"),
        ("0,0,0\n0,1,0.5", "'0.5' is no whole number"),
        ("0,1\n2", r"x.csv:2: 1 numbers, where the first row has 2"),
        ("0,1\n2,3\n4,5", "the table is 3x2"),
        ("", "holds no numbers"),
        ("0,0,99999999999999999999", "beyond 64 bits"),
        ("0,0,0\n0,4096,1", "is not an operand width"),
        ("-1,-2\n1,2", "negative numbers, which no unsigned multiplier has"),
    ],
)
def test_wrong_texts_teach(tmp_path, text, message):
    signed = False if text.startswith("-1") else None if "-" in text else True
    with pytest.raises(DovetailError, match=message):
        dm.multiplier(write(tmp_path, "x.csv", text), signed=signed)


def test_pairs_outside_the_width_that_was_given(tmp_path):
    path = write(tmp_path, "x.csv", "0,0,0\n0,1,0\n1,0,0\n1,2,1\n")
    with pytest.raises(DovetailError, match=r"x.csv:4: the operand 2 is outside 0..1 of 1 bits"):
        dm.multiplier(path, signed=False, bits=1)
    with pytest.raises(DovetailError, match=r"the pair 0, 2 is missing \(4 of 8 are\)"):
        dm.multiplier(path, signed=False)


def test_the_source_tells_what_numbers_leave_open(tmp_path):
    """A table and the Verilog it was dumped from: one call, every pair checked."""
    source = """module m(input [3:0] a, input [2:0] b, output [6:0] y);
      assign y = a * b - (&a & b[0]);
    endmodule"""
    verilog = write(tmp_path, "m.v", source)
    made = dm.multiplier(verilog)
    text = dump(made.table().ravel().tolist(), 2)
    m = dm.multiplier(write(tmp_path, "m.hex", text), check=verilog)
    assert m == made
    wrong = write(tmp_path, "wrong.hex", text.replace("68\n", "67\n", 1))
    with pytest.raises(DovetailError, match=r"differs from .* in 1 of 128 products, first for"):
        dm.multiplier(wrong, check=str(verilog))
    with pytest.raises(DovetailError, match=r"multiplies signed .* unsigned"):
        dm.multiplier(wrong, signed=True, check=verilog)


def test_the_name_tells_the_sign_of_an_array(tmp_path):
    table = np.ones((16, 16), dtype=np.int64)
    for name, signed in (("mul4u_X", False), ("mul4s_X", True), ("other", True)):
        np.save(tmp_path / f"{name}.npy", table)
        assert dm.multiplier(tmp_path / f"{name}.npy").signed == signed


def test_wrong_files_teach(tmp_path):
    with pytest.raises(DovetailError, match="no such file"):
        dm.multiplier("nowhere.npy")
    with pytest.raises(DovetailError, match=r"ends in .npy, .npz, .*.c, .v"):
        dm.multiplier(tmp_path / "table.xls")
    with pytest.raises(DovetailError, match="not a NumPy array file"):
        dm.multiplier(write(tmp_path, "bad.npy", "not numpy"))
    np.save(tmp_path / "o.npy", np.array([[None]]), allow_pickle=True)
    with pytest.raises(DovetailError, match="not a NumPy array file"):
        dm.multiplier(tmp_path / "o.npy")
