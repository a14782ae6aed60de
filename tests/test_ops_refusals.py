"""``dv.ops`` refuses bad operands before it computes."""

from __future__ import annotations

import pytest
import torch

import dovetail as dv
from dovetail.kernels import using
from dovetail.ops import conv_codes, linear_codes

CODES = torch.ones(2, 3, dtype=torch.int8)


IMAGE = torch.ones(1, 2, 5, 5, dtype=torch.int8)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: linear_codes(CODES.float(), CODES, "exact"),
            "a holds integer operand values, not torch.float32",
        ),
        (
            lambda: linear_codes(CODES, CODES.bool(), "exact"),
            "w holds integer operand values, not torch.bool",
        ),
        (
            lambda: linear_codes(CODES.short() * 128, CODES, "mul8s_1KV9"),
            "a holds 128, but mul8s_1KV9@v2022 takes -128..127",
        ),
        (
            lambda: linear_codes(CODES, -CODES, "exact(bits=8, signed=False)"),
            "w holds -1, but exact(bits=8, signed=False) takes 0..255",
        ),
        (
            lambda: linear_codes(CODES, CODES[:, :2], "exact"),
            "linear takes a [..., K] and w [N, K]; got a (2, 3) and w (2, 2)",
        ),
        (
            lambda: linear_codes(CODES, CODES, "exect"),
            "unknown multiplier 'exect'; did you mean 'exact'?",
        ),
        (
            lambda: linear_codes(CODES, CODES, "exact", acc="int65"),
            "accumulator 'int65': 8 to 64 bits; nearest 'int64'",
        ),
        (
            lambda: conv_codes(CODES, CODES, "exact"),
            "conv_codes takes a [B, C, *spatial] with 1 to 3 spatial dimensions, not (2, 3)",
        ),
        (
            lambda: conv_codes(IMAGE, CODES, "exact"),
            "conv2d takes a [B, C, *spatial] and w [O, C/groups, *kernel] of 4 dimensions; "
            "got a (1, 2, 5, 5) and w (2, 3)",
        ),
        (
            lambda: conv_codes(IMAGE, IMAGE[..., :3, :3], "mul8s_1KV9", pad_code=200),
            "pad_code=200 is not an operand value: -128..127",
        ),
        (
            lambda: conv_codes(IMAGE, IMAGE[..., :3, :3], "exact", groups=2),
            "groups=2 does not fit: a has 2 channels, w (1, 2, 3, 3) takes 2 per group and makes 1",
        ),
        (
            lambda: conv_codes(IMAGE, IMAGE, "exact", dilation=2),
            "the kernel spans 9 pixels in dimension 0, more than the padded input has (5 + 0 + 0)",
        ),
        (lambda: conv_codes(IMAGE, IMAGE, "exact", stride=0), "must be >= 1"),
        (lambda: conv_codes(IMAGE, IMAGE, "exact", padding=-1), "must not be negative"),
        (lambda: conv_codes(IMAGE, IMAGE, "exact", groups=0), "groups 0 must be >= 1"),
        (
            lambda: conv_codes(IMAGE, IMAGE, "exact", stride=(1, 2, 3)),
            "stride (1, 2, 3) needs 1 or 2 entries",
        ),
    ],
)
def test_refusals(call, message):
    with pytest.raises(dv.DovetailError) as raised:
        call()
    assert message in str(raised.value)


def test_an_unknown_realisation_is_refused():
    with (
        pytest.raises(dv.DovetailError, match=r"unknown realisation 'torch-facto'; did you mean"),
        using("torch-facto"),
    ):
        pass


def test_codes_that_are_no_tensors_are_refused_by_name():
    codes = torch.ones(1, 1, 3, dtype=torch.int8)
    with pytest.raises(
        dv.DovetailError, match=r"a is a tensor of integer operand values, not \[1\]"
    ):
        dv.ops.linear_codes([1], codes[0], "exact")
    with pytest.raises(dv.DovetailError, match="w is a tensor of integer operand values, not None"):
        dv.ops.conv_codes(codes, None, "exact")
