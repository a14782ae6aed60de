"""The kinds of operation, and what a rule can say of each."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["GROUPS", "KINDS", "Kind", "block_axis", "kinds_of"]

#: What every product can be told.
_PRODUCT = ("input", "sparsity", "weight", "weight_storage", "bias", "output", "mul", "acc", "grad")

#: What can be said of a lookup in a table.
_TABLE = ("sparsity", "weight", "output", "grad")


@dataclass(frozen=True)
class Kind:
    """One kind of operation.

    ``group`` is what ``op=`` may say for several kinds at once; ``fields`` are those that a rule
    can set here; ``activations`` the tensors that are computed anew at every call, whose static
    formats therefore need a calibrated range; ``block_axis`` is where the blocks of a block format
    run in them.

    >>> KINDS["matmul"].activations, KINDS["softmax"].takes("mul")
    (('input', 'weight', 'output'), False)
    """

    name: str
    group: str
    fields: tuple[str, ...]
    activations: tuple[str, ...] = ("input", "output")
    summary: str = ""
    block_axis: int = -1

    def takes(self, field: str) -> bool:
        """Whether a rule's field means anything here."""
        return field in self.fields

    @property
    def is_product(self) -> bool:
        """Whether it multiplies and accumulates."""
        return self.group == "product"


def _product(name: str, summary: str, block_axis: int = -1) -> Kind:
    return Kind(name, "product", _PRODUCT, summary=summary, block_axis=block_axis)


def _activation(name: str, summary: str) -> Kind:
    return Kind(name, "activation", ("input", "output", "grad"), summary=summary)


def _function(name: str, summary: str, group: str = "activation") -> Kind:
    """An activation whose function may be approximated."""
    return Kind(name, group, ("input", "output", "fn", "grad"), summary=summary)


def _binary(name: str, summary: str) -> Kind:
    slots = ("input", "other", "output")
    return Kind(name, "elementwise", (*slots, "grad"), slots, summary)


def _norm(name: str, summary: str) -> Kind:
    fields = ("input", "weight", "bias", "output", "grad")
    return Kind(name, "norm", fields, summary=summary, block_axis=1)


def _moving(name: str, group: str, summary: str, block_axis: int = 1) -> Kind:
    """What only chooses, averages or moves values."""
    return Kind(name, group, ("input", "output", "grad"), summary=summary, block_axis=block_axis)


_ALL = (
    _product("linear", "input [..., K] times a weight [N, K]; addmm, HF Conv1D, recurrent layers"),
    _product("conv", "convolution in one to three dimensions, grouped and depthwise", 1),
    _product("conv_transpose", "transposed convolution", 1),
    Kind(
        "matmul",
        "product",
        tuple(f for f in _PRODUCT if f not in ("sparsity", "weight_storage", "bias")),
        ("input", "weight", "output"),
        "a product of two activations: matmul, bmm, baddbmm, einsum, attention's two",
    ),
    _activation("relu", "max(x, 0)"),
    _activation("relu6", "min(max(x, 0), 6)"),
    _function("gelu", "Gaussian error linear unit, exact or tanh"),
    _function("quick_gelu", "x * sigmoid(1.702 x)"),
    _function("silu", "x * sigmoid(x), also called swish"),
    _activation("elu", "exponential linear unit, celu and selu too"),
    _activation("leaky_relu", "x, or a small multiple of it below 0"),
    Kind("prelu", "activation", ("input", "weight", "output", "grad"), summary="with slopes"),
    _function("mish", "x * tanh(softplus(x))"),
    _function("sigmoid", "1 / (1 + exp(-x))"),
    _function("tanh", "hyperbolic tangent"),
    _function("softplus", "log(1 + exp(x))"),
    _activation("hardtanh", "clipped to an interval"),
    _activation("hardsigmoid", "piecewise linear sigmoid"),
    _activation("hardswish", "x * hardsigmoid(x)"),
    _function("exp", "exponential"),
    _function("reciprocal", "1 / x"),
    _function("rsqrt", "1 / sqrt(x): an RMS normalisation written out"),
    _function("sin", "sine of rotary position embeddings", "rotary"),
    _function("cos", "cosine of rotary position embeddings", "rotary"),
    _function("softmax", "softmax along a dimension"),
    _function("log_softmax", "its logarithm"),
    _binary("add", "sum of two tensors: residual connections, an attention mask"),
    _binary("sub", "difference of two tensors"),
    _binary("mul", "elementwise product of two tensors"),
    _binary("div", "quotient of two tensors"),
    Kind(
        "layer_norm",
        "norm",
        ("input", "weight", "bias", "output", "fn", "grad"),
        summary="over the last dimensions",
    ),
    Kind(
        "rms_norm",
        "norm",
        ("input", "weight", "output", "fn", "grad"),
        summary="without the mean",
    ),
    _norm("batch_norm", "over the batch, or by running statistics"),
    _norm("group_norm", "over groups of channels"),
    _norm("instance_norm", "over each channel of each sample"),
    Kind("embedding", "lookup", _TABLE, ("output",), "rows of a table"),
    Kind("embedding_bag", "lookup", _TABLE, ("output",), "sums of rows"),
    Kind(
        "bilinear",
        "other",
        ("input", "other", "sparsity", "weight", "bias", "output", "grad"),
        ("input", "other", "output"),
        "x1 W x2 + b",
    ),
    Kind(
        "rotate",
        "rotary",
        ("input", "other", "output", "grad"),
        ("input", "other", "output"),
        "x cos + rotate_half(x) sin: a query and a key turned by their positions",
    ),
    _moving("max_pool", "pool", "largest value of each window, adaptive too"),
    _moving("avg_pool", "pool", "mean of each window, adaptive too"),
    _moving("interpolate", "resize", "up- and downsampling"),
    _moving("cat", "join", "tensors joined, each cast as input", -1),
    _moving("dropout", "regularisation", "in training, what random zeros leave", -1),
)

#: Words of ``op=`` that mean several kinds.
GROUPS = tuple(dict.fromkeys(kind.group for kind in _ALL))

#: Every kind of operation that a rule can address, by name.
KINDS: dict[str, Kind] = {kind.name: kind for kind in _ALL}


def kinds_of(word: str) -> frozenset[str]:
    """The kinds that one word of ``op=`` means: a kind, a group of kinds, or ``*`` for all.

    >>> sorted(kinds_of("elementwise"))
    ['add', 'div', 'mul', 'sub']
    """
    if word in KINDS:
        return frozenset({word})
    return frozenset(kind.name for kind in _ALL if word in ("*", kind.group))


def block_axis(kind: str, slot: str) -> int:
    """Where the blocks of a block format run: along the products that are summed.

    That is the last axis of a linear layer's operands, the channels of a convolution's, and for a
    matmul the last axis of the first and the last but one of the second operand. Results run along
    the axis on which a following layer of the same kind sums.

    >>> block_axis("conv", "weight"), block_axis("matmul", "weight"), block_axis("linear", "input")
    (1, -2, -1)
    >>> block_axis("batch_norm", "input"), block_axis("batch_norm", "weight")
    (1, -1)
    """
    if kind == "matmul" and slot == "weight":
        return -2
    facts = KINDS[kind]
    summed = slot in facts.activations or (facts.is_product and slot != "bias")
    return facts.block_axis if summed else -1
