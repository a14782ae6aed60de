"""The letters, elements and named aliases of the d-Matrix shorthand."""

from __future__ import annotations

from dovetail.formats.rounding import Rounding

__all__ = ["OCP", "ROUNDING", "aliases"]

#: The rounding letters.
ROUNDING = {
    "N": Rounding("NearestTiesToEven"),
    "U": Rounding("TowardPositive"),
    "D": Rounding("TowardNegative"),
    "S": Rounding("Stochastic", 24),
}
#: Exponent and mantissa bits of the elements that OCP MX defines, and their special values.
OCP = {(4, 3): "fn", (5, 2): "ieee", (2, 3): "finite", (3, 2): "finite", (2, 1): "finite"}

_NAMED = {
    "FLOAT32": "FP[1|8|23,127](_N)",
    "FLOAT16": "FP[1|5|10,15](FN)",
    "BFLOAT16": "FP[1|8|7,127](FN)",
    "AFLOAT8": "FP[1|4|3,7](_N)",
    "BFLOAT8": "FP[1|5|2,15](_N)",
    "INT8": "XP[8,0](CSN)",
    "INT4": "XP[4,0](CSN)",
}
_AXES = {"_LD": ",-1", "_FD": ",1"}


def aliases() -> dict[str, str]:
    """The named aliases and what each stands for.

    >>> aliases()["BFP16A_64_LD"], aliases()["SBFP12_16_4"]
    ('BFP[8|8]{64,-1}(AN)', 'SBFP<XP[4,0](CSN)><FP[0|4|4,4](FN)>{16}')
    """
    names = dict(_NAMED)
    blocks = {32: (1,), 24: (64, 32, 16), **dict.fromkeys((16, 14, 12), (128, 64, 32, 16))}
    for total, sizes in blocks.items():
        for size in sizes:
            for suffix, axis in {"": "", **_AXES}.items():
                body = f"[{total - 8}|8]{{{size}{axis}}}"
                names[f"BFP{total}_{size}{suffix}"] = f"BFP{body}(SN)"
                if total <= 16:
                    names[f"BFP{total}A_{size}{suffix}"] = f"BFP{body}(AN)"
    for suffix, axis in {"": "", **_AXES}.items():
        names[f"SBFP12_16{suffix}"] = f"SBFP<XP[4,0](CSN)><FP[0|4|4,7](FN)>{{16{axis}}}"
    for bias in range(4, 19):
        names[f"SBFP12_16_{bias}"] = f"SBFP<XP[4,0](CSN)><FP[0|4|4,{bias}](FN)>{{16}}"
    elements = {f"MXFP{1 + e + m}_E{e}M{m}": f"MXFP{1 + e + m}[E{e}M{m}]" for e, m in OCP}
    elements |= {f"MXINT{n}": f"MXINT{n}" for n in (8, 6, 4)}
    for name, head in elements.items():
        names[name] = f"{head}{{32}}"
        for size in (128, 64, 32):
            names[f"{name}K{size}"] = names[f"{name}_K{size}"] = f"{head}{{{size}}}"
    return names
