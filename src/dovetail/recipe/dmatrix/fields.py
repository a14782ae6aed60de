"""One module's settings in a d-Matrix configuration, as the fields of rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dovetail.accumulators import Accumulator, accumulator
from dovetail.errors import DovetailError, unknown
from dovetail.formats import FloatFormat, Format, Same, Shaped
from dovetail.formats import format as to_format
from dovetail.recipe.dmatrix.functions import approximation
from dovetail.recipe.dmatrix.instances import Instance
from dovetail.recipe.rule import Rule, rule

__all__ = ["KEYS", "WEIGHTS", "rules_of"]

#: Names of input casts that say which operand they are.
_CASTS = {
    "input_cast": 0,
    "residual_cast": 1,
    "multiplier_cast": 1,
    "batch1_cast": 1,
    "batch2_cast": 2,
}
#: The field of each key that holds one format.
_FORMATS = {
    "output_format": "output",
    "output_formats": "output",
    "weight_format": "weight",
    "weight_storage_format": "weight_storage",
    "bias_format": "bias",
}
_SHAPED = {
    "pre_input_transform": "input",
    "pre_output_transform": "output",
    "pre_weight_transform": "weight",
}
#: The key that names a file of weights, which is no arithmetic.
WEIGHTS = "state_dict_url"

#: Every key of a module's settings.
KEYS = (
    "instance",
    "input_format",
    "input_formats",
    *_FORMATS,
    "accum_format",
    "weight_sparseness",
    "approximation_function",
    "smoothquant_scale_format",
    *_SHAPED,
    WEIGHTS,
)


def rules_of(
    settings: Mapping[str, Any],
    match: str = "*",
    what: Instance | None = None,
    *,
    optional: bool = False,
    source: str = "",
) -> list[Rule]:
    """The rules, none or one, that say what one module's ``settings`` say.

    ``what`` is the class of the module; without it the settings are those of a product. ``SAME``,
    ``NONE`` and ``DENSE`` undo what earlier rules set. Refused with the key's name: unknown keys,
    accumulators that are blocks, and SmoothQuant's scale formats.

    >>> rules_of({"input_formats": ["BFP16_64"], "accum_format": "FLOAT32"}, "fc1")[0].fields
    {'input': bfp(m=8, block=64), 'acc': fp32(end)}
    """
    fields: dict[str, Any] = {}
    for key, value in settings.items():
        if key not in KEYS:
            raise unknown("key", key, KEYS)
        try:
            fields |= _fields(key, value, what)
        except DovetailError as error:
            raise DovetailError(f"{key}: {error}") from None
    for key, slot in _SHAPED.items():
        if settings.get(key):
            fields[slot] = _shaped(key, fields.get(slot), settings[key])
    if not fields:
        return []
    op, cls = (what.op, what.type) if what else (None, None)
    return [rule(match, op=op, type=cls, optional=optional, source=source, **fields)]


def _fields(key: str, value: Any, what: Instance | None) -> dict[str, Any]:
    if value is None or key in _SHAPED or key in ("instance", WEIGHTS):
        return {}
    if key in ("input_format", "input_formats"):
        return _inputs(value, what.slots if what else ("input",))
    if key in _FORMATS:
        return {_FORMATS[key]: _format(_only(value, "output_cast"))}
    if key == "accum_format":
        return {"acc": _accumulator(value)}
    if key == "weight_sparseness":
        return {"sparsity": value}
    if key == "approximation_function":
        return {"fn": approximation(value)}
    if _format(value) is not None:
        raise DovetailError("scaling by SmoothQuant is not said in a rule; the nearest is SAME")
    return {}


def _inputs(value: Any, slots: Sequence[str]) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return {_slot(name, slots): _format(text) for name, text in value.items()}
    values = value if isinstance(value, (list, tuple)) else [value]
    for text in values[len(slots) :]:
        if _format(text) is not None:
            raise DovetailError(
                f"{len(values)} formats, but the operation casts {', '.join(slots) or 'no input'}"
            )
    found: dict[str, Format | None] = {}
    for slot, text in zip(slots, values, strict=False):
        if found.setdefault(slot, _format(text)) != _format(text):
            raise DovetailError(f"one rule has one format for {slot}, not {found[slot]} and {text}")
    return found


def _slot(name: str, slots: Sequence[str]) -> str:
    if name not in _CASTS:
        raise unknown("cast", name, _CASTS)
    if _CASTS[name] >= len(slots):
        raise DovetailError(f"'{name}', but the operation has only {', '.join(slots)}")
    return slots[_CASTS[name]]


def _only(value: Any, name: str) -> Any:
    """The one format of a list or mapping of them."""
    if isinstance(value, Mapping) and set(value) == {name}:
        return value[name]
    if isinstance(value, (list, tuple)) and len(value) == 1:
        return value[0]
    if isinstance(value, (Mapping, list, tuple)):
        raise DovetailError(f"one format is expected, such as {{{name}: SAME}}, not {value!r}")
    return value


def _format(value: Any) -> Format | None:
    fmt = to_format(value)
    return None if isinstance(fmt, Same) else fmt


def _accumulator(value: Any) -> Accumulator | None:
    """d-Matrix casts the finished sum, before the bias is added."""
    fmt = _format(value)
    if fmt is None:
        return None
    if not isinstance(fmt, FloatFormat):
        raise DovetailError(f"a sum is kept in a floating format; the nearest to {value} is fp32")
    return accumulator(str(fmt), when="end")


def _shaped(key: str, fmt: Any, settings: Any) -> Shaped:
    known = ("format", "shaping", "noquant_shortcut")
    if not isinstance(settings, Mapping):
        raise DovetailError(f"{key}: a mapping with the keys {', '.join(known)}, not {settings!r}")
    for name in settings:
        if name not in known:
            raise unknown(f"key of {key}", name, known)
    if fmt is None:
        raise DovetailError(f"{key}: there is no format that it could come before")
    before, keep = settings.get("format"), settings.get("noquant_shortcut")
    return Shaped(
        to_format(fmt),
        tuple(_steps(key, settings.get("shaping") or ())),
        None if keep is None else _three(key, keep),
        None if before is None else _format(before),
    )


def _steps(key: str, shaping: Any) -> list[tuple[str, tuple[int, ...]]]:
    """``{permute: [1, 0]}``, or a list of ``[permute, [1, 0]]`` or of such mappings."""
    if isinstance(shaping, Mapping):
        return [(name, tuple(numbers)) for name, numbers in shaping.items()]
    steps = []
    for item in shaping:
        pairs = item.items() if isinstance(item, Mapping) else [(item[0], _flat(item[1:]))]
        steps += [(name, tuple(numbers)) for name, numbers in pairs]
    for name, _ in steps:
        if name not in ("view", "permute", "flatten"):
            raise unknown(f"shaping of {key}", str(name), ("view", "permute", "flatten"))
    return steps


def _flat(numbers: Sequence[Any]) -> Sequence[Any]:
    return numbers[0] if len(numbers) == 1 and isinstance(numbers[0], (list, tuple)) else numbers


def _three(key: str, keep: Any) -> tuple[int, int, int]:
    if not isinstance(keep, (list, tuple)) or len(keep) != 3:
        raise DovetailError(f"{key}: noquant_shortcut is an axis, a start and a stop, not {keep!r}")
    return int(keep[0]), int(keep[1]), int(keep[2])
