"""Packing: against Python's big integers, and the published layouts by hand."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dovetail.formats.codes.packing import code_dtype, pack, packed_size, unpack


@given(st.integers(1, 64), st.data())
def test_codes_are_one_stream_of_bits_lowest_first(width: int, data: st.DataObject) -> None:
    codes = data.draw(st.lists(st.integers(0, 2**width - 1), max_size=40))
    stream = sum(code << (i * width) for i, code in enumerate(codes))
    signed = [c - 2**64 if c >= 2**63 else c for c in codes]
    tensor = torch.tensor(signed, dtype=torch.int64).to(code_dtype(width))
    packed = pack(tensor, width)
    assert packed.dtype == torch.uint8
    assert bytes(packed.tolist()) == stream.to_bytes(packed_size(len(codes), width), "little")
    assert torch.equal(unpack(packed, width, len(codes)), tensor)


def test_two_4_bit_codes_in_a_byte_the_earlier_low() -> None:
    assert pack(torch.tensor([0xA, 0x3, 0xF]), 4).tolist() == [0x3A, 0x0F]


def test_four_6_bit_codes_in_three_bytes() -> None:
    codes = torch.tensor([0b000001, 0b000010, 0b000100, 0b100000])
    assert pack(codes, 6).tolist() == [0b10_000001, 0b0100_0000, 0b100000_00]


def test_16_bit_codes_are_little_endian_and_bytes_are_bytes() -> None:
    assert pack(torch.tensor([0x1234]), 16).tolist() == [0x34, 0x12]
    assert pack(torch.tensor([7, 255], dtype=torch.uint8), 8).tolist() == [7, 255]


@pytest.mark.parametrize("width", [3, 4, 6, 8, 12, 19])
def test_more_codes_than_are_worked_on_at_a_time(width: int) -> None:
    codes = torch.randint(0, 2**width, (600_001,)).to(code_dtype(width))
    packed = pack(codes, width)
    assert packed.numel() == packed_size(600_001, width)
    assert torch.equal(unpack(packed, width, 600_001), codes)


def test_packing_a_byte_wide_tensor_does_not_alias_it() -> None:
    codes = torch.tensor([1, 2], dtype=torch.uint8)
    pack(codes, 8)[0] = 9
    unpack(codes, 8, 2)[0] = 9
    assert codes.tolist() == [1, 2]
