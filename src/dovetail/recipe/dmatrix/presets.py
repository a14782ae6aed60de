"""The named configurations of the d-Matrix tools, as recipes."""

from __future__ import annotations

from dovetail.kinds import GROUPS
from dovetail.recipe.recipe import Recipe
from dovetail.recipe.rule import FIELDS, rule

__all__ = ["BASELINE", "BASIC", "FP8", "PRESETS", "SBFP_WEIGHT_STORAGE"]

_OTHERS = " ".join(group for group in GROUPS if group != "product")
_ALWAYS = ("mul", "grad")  # no field of a d-Matrix configuration

#: Every operation as torch has it: what came before is undone.
BASELINE = Recipe(
    rule(
        op="*",
        source="BASELINE",
        optional=True,
        **{name: "exact" for name in FIELDS if name not in _ALWAYS},
    )
)

#: Products of 8-bit blocks of 64, everything else in half precision; no function is approximated,
#: as those of d-Matrix are not public.
BASIC = Recipe(
    rule(
        op="product",
        input="BFP16_64",
        weight="BFP16_64",
        bias="BFP32_1",
        output="FLOAT16",
        source="BASIC",
        optional=True,
    ),
    rule(
        op=_OTHERS,
        input="FLOAT16",
        output="FLOAT16",
        source="BASIC",
        optional=True,
    ),
    rule(op="elementwise bilinear rotary", other="FLOAT16", source="BASIC", optional=True),
)

#: Products of 8-bit floats, summed and passed on in wider ones.
FP8 = Recipe(
    rule(
        op="product",
        input="AFLOAT8",
        weight="AFLOAT8",
        bias="FLOAT32",
        output="FLOAT16",
        source="FP8",
        optional=True,
    )
)

#: Weights stored in scaled blocks of 4-bit integers; to be followed by the format they are
#: multiplied in.
SBFP_WEIGHT_STORAGE = Recipe(
    rule(
        op="linear conv conv_transpose",
        weight_storage="SBFP12_16",
        source="SBFP_WEIGHT_STORAGE",
        optional=True,
    )
)

#: By name.
PRESETS = {
    "BASELINE": BASELINE,
    "BASIC": BASIC,
    "FP8": FP8,
    "SBFP_WEIGHT_STORAGE": SBFP_WEIGHT_STORAGE,
}
