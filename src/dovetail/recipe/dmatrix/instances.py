"""What the module classes of a d-Matrix configuration are here."""

from __future__ import annotations

from dataclasses import dataclass

from dovetail.errors import DovetailError, unknown

__all__ = ["INSTANCES", "Instance", "instance"]


@dataclass(frozen=True)
class Instance:
    """One class: the kind of operation it is there for, and the torch class that alone is meant.

    ``slots`` are the fields that its input casts set, in order. Without a ``type`` a functional
    call of the same kind is meant as well: d-Matrix's tracing turned those into modules.
    """

    op: str
    type: str | None = None
    slots: tuple[str, ...] = ("input",)


_CONV = {f"{name}{d}d": ("conv", f"{name}{d}d") for name in ("Conv",) for d in (1, 2, 3)}
_TRANSPOSED = {f"ConvTranspose{d}d": ("conv_transpose", f"ConvTranspose{d}d") for d in (1, 2, 3)}
_BATCH = {f"BatchNorm{d}d": ("batch_norm", f"BatchNorm{d}d") for d in (1, 2, 3)}
_POOLS = {
    f"{prefix}{name}Pool{d}d": (f"{name.lower()}_pool", f"{prefix}{name}Pool{d}d")
    for prefix in ("", "Adaptive")
    for name in ("Max", "Avg")
    for d in (1, 2, 3)
}
_RMS = ("RMSNorm", "LlamaRMSNorm", "GemmaRMSNorm", "MistralRMSNorm", "Qwen3RMSNorm", "T5LayerNorm")
_GELU = ("GELU", "NewGELU", "FastGELU", "ClippedGELU", "BloomGELU")

#: Every class that a configuration may name.
INSTANCES: dict[str, Instance] = {
    "Linear": Instance("linear"),
    "Embedding": Instance("embedding", slots=()),
    "EmbeddingBag": Instance("embedding_bag", slots=()),
    "Bilinear": Instance("bilinear", slots=("input", "other")),
    **{name: Instance(*pair) for name, pair in (_CONV | _TRANSPOSED | _BATCH | _POOLS).items()},
    "LayerNorm": Instance("layer_norm"),
    "GroupNorm": Instance("group_norm"),
    **{name: Instance("rms_norm") for name in _RMS},
    **{name: Instance("gelu") for name in _GELU},
    "QuickGELU": Instance("quick_gelu"),
    "Softmax": Instance("softmax"),
    "Dropout": Instance("dropout"),
    "ReLU": Instance("relu"),
    "ReLU6": Instance("relu6"),
    "SiLU": Instance("silu"),
    "Tanh": Instance("tanh"),
    "Sigmoid": Instance("sigmoid"),
    "Exp": Instance("exp"),
    "ResAdd": Instance("add", slots=("input", "other")),
    "Mul": Instance("mul", slots=("input", "other")),
    "ActActMatMul": Instance("matmul", slots=("input", "weight")),
    "ApplyRotaryPosEmb": Instance("rotate", slots=("input", "input", "other", "other")),
    "BAddBMM": Instance("matmul", slots=("output", "input", "weight")),
}

_TAKEN_APART = {
    "ScaledDotProductAttention": "matmul, mul, add, softmax and dropout",
    "RotaryEmbedding": "mul",
}


def instance(name: str) -> Instance:
    """The class that a configuration calls ``name``; a prefix such as ``torch.nn.`` is dropped.

    >>> instance("dmx.nn.Conv2d").type, instance("ResAdd").slots
    ('Conv2d', ('input', 'other'))
    """
    short = name.rsplit(".", 1)[-1]
    if short in _TAKEN_APART:
        raise DovetailError(
            f"{short} is no single operation here: address its parts, {_TAKEN_APART[short]}, one "
            f"by one"
        )
    if short not in INSTANCES:
        raise unknown("module class", short, INSTANCES)
    return INSTANCES[short]
