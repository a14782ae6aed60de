"""Numbers in tables are whole or left out, at any width; words fold."""

from __future__ import annotations

import pytest

from dovetail._text_table import Column, text_table


@pytest.mark.parametrize("width", range(1, 60))
def test_no_number_is_ever_cut(width: int) -> None:
    names = ["encoder.layers.0.attention", "a", ""]
    numbers = {"macs": ["1,099,431,936", "3", "–"], "energy\npJ": ["0.25", "1", "12,345"]}
    columns = [Column("operation", 10, names), *(Column(n, None, c) for n, c in numbers.items())]
    text = text_table(columns, width, ["macs"])
    lines = text.splitlines()
    left_out = "(without macs, for want of width)" in text
    assert left_out == (width < 10 + 2 + 13 + 2 + 6)
    table = lines[: len(lines) - left_out]
    assert all(len(line) <= max(width, 18) for line in table)
    words = {word for line in table for word in line.split()}
    shown = [cell for name in numbers if name != "macs" or not left_out for cell in numbers[name]]
    assert words.issuperset(shown)


def test_words_have_the_room_that_is_left() -> None:
    words = Column("op", 4, ["abcdefgh"]), Column("value", 4, ["ijklmnop"])
    columns = [*words, Column("n", None, ["1"])]
    whole = ["op        value     n", "abcdefgh  ijklmnop  1"]
    assert text_table(columns, 23).splitlines() == whole
    folded = ["op    value  n", "abcd  ijklm  1", "efgh  nop"]
    assert text_table(columns, 14).splitlines() == folded
