from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dovetail as dv
from dovetail.recipe import OpAddress, Selector

FC = OpAddress("layers.0.fc", "linear", None, ("Linear", "Module"), bare=True)
CONV = OpAddress("conv1", "conv", None, ("Conv2d", "_ConvNd", "Module"), bare=True)
SECOND = OpAddress("encoder.0.attn", "matmul", 1, ("Attention", "Module"))
ROOT = OpAddress("", "matmul", None, ("Net", "Module"))


@pytest.mark.parametrize(
    ("match", "address", "wanted"),
    [
        ("*", FC, True),
        ("*", ROOT, True),
        ("layers.*", FC, True),  # * crosses dots
        ("layers.?.fc", FC, True),
        ("layers.[12].fc", FC, False),
        ("layers.0", FC, False),  # the whole path, not its beginning
        ("fc", FC, False),
        ("*fc", FC, True),
        ("layers.0.fc:linear", FC, True),
        ("conv*", CONV, True),
        ("CONV1", CONV, False),
        ("encoder.0.attn", SECOND, True),
        ("encoder.0.attn:matmul", SECOND, True),
        ("encoder.0.attn:matmul_1", SECOND, True),
        ("encoder.0.attn:matmul_0", SECOND, False),
        ("encoder.0.attn:matmul_11", SECOND, False),
        (".:matmul", ROOT, True),
        (".", ROOT, True),
        (".:linear", ROOT, False),
        ("re:layers\\.\\d+\\.fc", FC, True),
        ("re:layers", FC, False),  # the whole path here too
        ("re:conv[0-9]", CONV, True),
        ("re:.*matmul_1", SECOND, True),
    ],
)
def test_paths(match, address, wanted):
    assert Selector(match).matches(address) is wanted


def test_op_and_type_narrow_the_path():
    assert Selector("*", op="conv").matches(CONV)
    assert not Selector("*", op="conv").matches(FC)
    assert Selector("*", op="conv linear").matches(FC)
    assert Selector("*", type="Linear").matches(FC)
    assert Selector("*", type="_ConvNd").matches(CONV)  # a base class
    assert not Selector("*", type="Conv1d").matches(CONV)
    assert not Selector("conv1", op="linear").matches(CONV)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Selector(op="convolution"), "unknown op 'convolution'; did you mean 'conv'?"),
        (
            lambda: Selector(op=""),
            "op is a kind of operation such as 'conv', not an empty text",
        ),
        (lambda: Selector(op=["linear"]), "op=['linear'] is not a text such as 'linear matmul'"),
        (lambda: Selector("re:("), "match 're:(' is no regular expression: "),
    ],
)
def test_refusals(make, message):
    with pytest.raises(dv.DovetailError) as raised:
        make()
    assert message in str(raised.value)


def test_how_addresses_print():
    assert [str(a) for a in (FC, CONV, SECOND, ROOT)] == [
        "layers.0.fc",
        "conv1",
        "encoder.0.attn:matmul_1",
        ".:matmul",
    ]


names = st.from_regex(r"[a-z]{1,3}[0-9]?(\.[a-z0-9]{1,3}){0,2}", fullmatch=True)


@given(
    names,
    st.sampled_from(["linear", "conv", "conv_transpose", "matmul"]),
    st.none() | st.integers(0, 20),
)
def test_every_address_is_matched_by_its_own_key(path, kind, index):
    address = OpAddress(path, kind, index)
    assert Selector(address.key).matches(address)
    assert Selector("*").matches(address)
    if index is not None:
        assert not Selector(address.key).matches(OpAddress(path, kind, index + 1))
