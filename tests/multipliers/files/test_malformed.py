"""Files that are almost right: refused with their place, never read as something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dovetail.errors import DovetailError
from dovetail.multipliers.files import from_file

UNSIGNED = {"signed": False}
PORTS = "module m(input [3:0] a, b, output [7:0] y); "


def read(folder: Path, name: str, content: str | bytes, **options: Any) -> Any:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return from_file(path, **options)


MALFORMED: list[tuple[str, str | bytes, dict[str, Any], str]] = [
    ("empty.bin", b"", UNSIGNED, "holds 0 bytes; expected 131072"),
    ("gap.csv", "0,0\n0,,1\n", UNSIGNED, ":2: '' is no whole number"),
    ("gap_first.csv", "0,,0\n0,1\n", UNSIGNED, ":1: '' is no whole number"),
    ("half_heading.csv", "0,1.5\n0,0\n0,1\n", UNSIGNED, r":1: '1\.5' is no whole number"),
    ("octal.h", "int t[2][2] = {0, 0, 0, 09};", {}, "t holds 09, which is octal in C"),
    ("wide.h", "int8_t t[2][2] = {0, 0, 0, 300};", {}, "t holds 300, which no int8_t does"),
    ("sign.h", "uint8_t t[2][2] = {0, 0, 0, -1};", {}, "t holds -1, which no uint8_t does"),
    ("huge.h", f"long t[2][2] = {{0, 0, 0, {10**30}}};", {}, f"t holds {10**30}"),
    ("wide.v", "module m(input [99999999:0] a, b, output y); endmodule", {}, "100000000 bits"),
    ("wide_result.v", PORTS.replace("7:0", "63:0") + "assign y = a; endmodule", {}, "than 63 bits"),
    ("repeated.v", PORTS + "assign y = {99999999{a}}; endmodule", {}, "1 to 4096"),
    ("literal.v", PORTS + "assign y = 9999999'd1; endmodule", {}, "9999999 bits; at most 4096"),
    ("digits.v", PORTS + f"assign y = {'9' * 5000}; endmodule", {}, "5000 digits; at most 4096"),
    ("deep.v", PORTS + f"assign y = {'(' * 9000}a{')' * 9000}; endmodule", {}, "nested too deeply"),
]


@pytest.mark.parametrize(
    ("name", "content", "options", "message"), MALFORMED, ids=[case[0] for case in MALFORMED]
)
def test_what_is_malformed_is_refused(
    tmp_path: Path, name: str, content: str | bytes, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DovetailError, match=message):
        read(tmp_path, name, content, **options)


def test_an_archive_without_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "none.npz")
    with pytest.raises(DovetailError, match="holds no array"):
        from_file(tmp_path / "none.npz")


def test_numbers_of_headers_are_those_of_c(tmp_path: Path) -> None:
    table = read(tmp_path, "t.h", "int t[2][2] = {0, 0x1F, -017, 10u};").table()
    assert table[[0, 0, -1, -1], [0, -1, 0, -1]].tolist() == [0, 31, -15, 10]


@pytest.mark.parametrize("name", ["t.hex", "t.mem", "t.csv", "t.txt"])
def test_a_byte_order_mark_passes(tmp_path: Path, name: str) -> None:
    table = read(tmp_path, name, b"\xef\xbb\xbf0 0\r\n0 1\r\n", **UNSIGNED).table()
    assert table.tolist() == [[0, 0], [0, 1]]


def test_separators_at_the_end_of_rows_pass(tmp_path: Path) -> None:
    table = read(tmp_path, "t.csv", "a, b,\n0, 0,\n0 ; 1 ,\n,\n", **UNSIGNED).table()
    assert table.tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize(("compiler", "message"), [("/", "'/' is none"), ("'", "is no command")])
def test_what_is_no_compiler_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str, message: str
) -> None:
    monkeypatch.setenv("CC", compiler)
    with pytest.raises(DovetailError, match=f"{message}.*set CC=<compiler>"):
        read(tmp_path, "f.c", "int f(int8_t a, int8_t b) { return a * b; }")


def test_code_that_does_not_compile_is_named_by_its_function(tmp_path: Path) -> None:
    with pytest.raises(DovetailError, match=r"^f does not compile"):
        read(tmp_path, "f.c", "int f(int8_t a, int8_t b) { return a * }").table()
