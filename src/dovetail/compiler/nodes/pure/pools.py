"""Pooling of images, written out: the pixels of a window one by one, those outside left out.

``iy`` and ``ix`` below are where a pixel of the window lies in the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dovetail.compiler.engine import load_dace
from dovetail.compiler.nodes.aten.schema import arguments
from dovetail.compiler.nodes.base import Call
from dovetail.compiler.nodes.pure.body import Body, Tensor

__all__ = ["average", "average_backward", "largest", "largest_backward"]

dace = load_dace()
_PLACES = ("b", "c", "oy", "ox")
_NONE = 2**62


@dataclass(frozen=True)
class _Window:
    """How windows lie over an image of ``size`` pixels, in both dimensions."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    size: tuple[Any, Any]
    count: tuple[Any, Any]

    @staticmethod
    def of(call: Call, image: Tensor, windows: Tensor) -> _Window:
        """That of a call of one of the operators of this file."""
        lists = [value for kind, value in arguments(call) if kind == "List[int]"]
        kernel, stride, padding, *rest = [_pair(value) for value in lists]
        dilation = rest[0] if rest else (1, 1)
        size, count = image.shape[-2:], windows.shape[-2:]
        return _Window(kernel, stride or kernel, padding, dilation, size, count)

    def pixel(self, axis: int) -> str:
        """Where the pixel ``k`` of window ``o`` lies along an axis; it may be outside."""
        name = "yx"[axis]
        stride, dilation, padding = self.stride[axis], self.dilation[axis], self.padding[axis]
        return f"({stride} * o{name} + {dilation} * k{name} - {padding})"

    def held(self) -> list[str]:
        """Those places, moved into the image, so that an element can be read."""
        return [f"min(max({self.pixel(d)}, 0), {self.size[d]} - 1)" for d in (0, 1)]

    def inside(self) -> list[str]:
        """Statements that say where the pixel lies, and whether it is one of the image."""
        tests = [f"i{n} >= 0 and i{n} < {self.size[d]}" for d, n in enumerate("yx")]
        places = [f"i{n} = {self.pixel(d)}" for d, n in enumerate("yx")]
        return [*places, f"inside = ({' and '.join(tests)})"]

    def windows(self) -> tuple[list[str], list[str]]:
        """For a pixel ``iy, ix`` of the image and a place ``ky, kx`` in a window: the window of
        which it is that place, held inside; and statements that say whether there is one."""
        places, tests, steps = [], [], []
        for d, n in enumerate("yx"):
            first = f"(i{n} + {self.padding[d]} - {self.dilation[d]} * k{n})"
            last = self.count[d] - 1
            places.append(f"min(max(int_floor({first}, {self.stride[d]}), 0), {last})")
            steps += [f"f{n} = {first}", f"o{n} = f{n} // {self.stride[d]}"]
            tests.append(f"f{n} >= 0 and o{n} * {self.stride[d]} == f{n} and o{n} <= {last}")
        return places, [*steps, f"inside = ({' and '.join(tests)})"]


def _pair(value: Any) -> Any:
    return tuple(value) * 2 if len(value) == 1 else tuple(value)


def _ranges(tensor: Tensor, *last: str) -> dict[str, Any]:
    """A map over the elements of a batch of images, or of one."""
    names = ("b", "c", *last)[-len(tensor.shape) :]
    return dict(zip(names, tensor.shape, strict=True))


def _over(window: _Window) -> dict[str, Any]:
    return {"ky": window.kernel[0], "kx": window.kernel[1]}


def largest(body: Body) -> None:
    """``aten::max_pool2d_with_indices``: of several NaN the last is the largest."""
    x, (y, places) = body.input(0), body.outputs
    window = _Window.of(body.call, x, y or places)
    kind = body.dtype(x)
    found = y or body.transient("largest", places.shape, kind)
    points = _ranges(found, "oy", "ox")
    front = [name for name in points if name in ("b", "c")]
    read = x.at(*front, *window.held())
    code = [*window.inside(), "__v = (__x if inside else -1e999)"]
    body.sums(
        "largest", points, _over(window), {"__x": read}, "\n".join(code), found.at(*points),
        dtype=kind, start="-1e999", combine="(b if b > a or b != b else a)",
    )  # fmt: skip
    if places is None:
        return
    body.sums(
        "place",
        points,
        _over(window),
        {"__x": x.at(*front, *window.held()), "__m": found.at(*points)},
        "\n".join(
            [
                *window.inside(),
                f"place = dace.int64(iy * {window.size[1]} + ix)",
                "other = (-1 - place if __x != __x else place)",
                f"__v = (other if inside and (__x == __m or __x != __x) else dace.int64({_NONE}))",
            ]
        ),
        places.at(*points),
        dtype=dace.int64,
        start=str(_NONE),
        combine="min(a, b)",
        finish="__y = (-1 - __sum if __sum < 0 else __sum)",
    )


def largest_backward(body: Body) -> None:
    """Its gradient: every pixel gathers from the windows whose largest it is."""
    grad, x, places = body.inputs
    _gathered(body, grad, x, places)


def average(body: Body) -> None:
    """``aten::avg_pool2d``."""
    x, y = body.input(0), body.outputs[0]
    window = _Window.of(body.call, x, y)
    points = _ranges(y, "oy", "ox")
    front = [name for name in points if name in ("b", "c")]
    code = [*window.inside(), f"__v = (__x if inside else {_zero(body, x)})"]
    divided = [*_divisor(body, window), f"__y = __sum / {_typed(body, x, 'divisor')}"]
    body.sums(
        "average", points, _over(window), {"__x": x.at(*front, *window.held())},
        "\n".join(code), y.at(*points), dtype=body.dtype(x), finish="\n".join(divided),
    )  # fmt: skip


def average_backward(body: Body) -> None:
    """Its gradient."""
    grad, x = body.inputs
    _gathered(body, grad, x, None)


def _gathered(body: Body, grad: Tensor, x: Tensor, places: Tensor | None) -> None:
    result = body.outputs[0]
    window = _Window.of(body.call, x, grad)
    points = _ranges(result, "iy", "ix")
    front = [name for name in points if name in ("b", "c")]
    at, steps = window.windows()
    reads = {"__g": grad.at(*front, *at)}
    share = "__g"
    if places is not None:
        reads["__p"] = places.at(*front, *at)
        steps.append(f"inside = inside and __p == iy * {window.size[1]} + ix")
    else:
        steps += _divisor(body, window)
        share = f"__g / {_typed(body, grad, 'divisor')}"
    steps.append(f"__v = ({share} if inside else {_zero(body, grad)})")
    body.sums(
        "gathered", points, _over(window), reads, "\n".join(steps), result.at(*points),
        dtype=body.dtype(result),
    )  # fmt: skip


def _typed(body: Body, like: Tensor, value: str) -> str:
    return f"dace.{body.dtype(like).to_string()}({value})"


def _zero(body: Body, like: Tensor) -> str:
    return _typed(body, like, "0")


def _divisor(body: Body, window: _Window) -> list[str]:
    """What the sum of the window ``oy, ox`` is divided by."""
    given = {
        name: body.call.attributes.get(name, default)
        for name, default in (("count_include_pad", True), ("divisor_override", None))
    }
    if given["divisor_override"] is not None:
        return [f"divisor = {given['divisor_override']}"]
    steps = []
    for d, n in enumerate("yx"):
        pad, size = window.padding[d], window.size[d]
        steps.append(f"s{n} = o{n} * {window.stride[d]} - {pad}")
        steps.append(f"e{n} = min(s{n} + {window.kernel[d]}, {size} + {pad})")
        if not given["count_include_pad"]:
            steps += [f"e{n} = min(e{n}, {size})", f"s{n} = max(s{n}, 0)"]
    return [*steps, "divisor = (ey - sy) * (ex - sx)"]
