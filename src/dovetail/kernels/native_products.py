"""Multiply-accumulate ops of any 8-bit multiplier in the native core, over packed weights."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from dovetail.errors import DovetailError
from dovetail.kernels import native
from dovetail.kernels.geometry import LINEAR, Geometry
from dovetail.kernels.native_shape import address, packing_shape, running_shape
from dovetail.kernels.native_structs import Input, Output, Products, Role
from dovetail.multipliers.classes import Lookups
from dovetail.multipliers.operands import IntArray

__all__ = ["NativeMac", "Packed"]

_KEPT = 64  # input shapes whose sizes are remembered per weight


@dataclass(frozen=True, eq=False)
class Packed:
    """Weight codes in the kernels' order, for one multiplier and one geometry.

    >>> Packed.__name__
    'Packed'
    """

    mac: NativeMac
    geometry: Geometry
    shape: tuple[int, ...]  # of the weight codes
    data: Tensor  # uint8
    sizes: dict[torch.Size, tuple[native.Shape, tuple[int, ...]]] = field(default_factory=dict)

    @property
    def depth(self) -> int:
        """Products per output."""
        return self.geometry.reduction(self.shape)

    @property
    def wsum(self) -> Tensor:
        """int32 [N]: the sum of each output's weight codes."""
        return self.data[: 4 * self.shape[0]].view(torch.int32)


class NativeMac:
    """One multiplier, ready for the native kernels; make it with :meth:`table` or :meth:`factored`.

    >>> mac = NativeMac.table(np.outer(np.arange(256), np.arange(256)), signed=False)
    >>> mac.max_abs
    65025
    """

    def __init__(
        self,
        table: npt.NDArray[np.int32],
        signed: bool | tuple[bool, bool],
        products: Products | None = None,
        lookups: tuple[Lookups | None, Lookups | None] = (None, None),
    ) -> None:
        core = native._loaded()
        self.signed = signed if isinstance(signed, tuple) else (signed, signed)
        self.dtypes = tuple(torch.int8 if s else torch.uint8 for s in self.signed)
        self.max_abs = int(np.abs(table.astype(np.int64)).max())
        self.rank = 0 if products is None else len(products.first)
        # The prepared table is aligned by hand: its rows are whole cache lines.
        size = core.dv_table_bytes()
        buffer = torch.empty(size + 64, dtype=torch.uint8)
        start = -buffer.data_ptr() % 64
        self._table = buffer[start : start + size]
        self.products = np.ascontiguousarray(table)
        core.dv_prepare_table(ctypes.c_void_p(self.products.ctypes.data), address(self._table))
        # Linear layers have the weights as lanes, convolutions the activations. A role that lacks
        # the lookups which the other one has is served by the table.
        self._roles = tuple(
            Role(products if side or not any(lookups) else None, side, self._table.data_ptr())
            for side in lookups
        )

    @classmethod
    def table(cls, table: npt.ArrayLike | Tensor, signed: bool | tuple[bool, bool]) -> NativeMac:
        """From products ``[256, 256]``, indexed by the operands' bytes; values fit int32.

        >>> NativeMac.table(torch.zeros(256, 256), signed=True).max_abs
        0
        """
        values = np.asarray(table)
        if values.shape != (256, 256):
            raise DovetailError(f"a native table is 256 x 256, not {values.shape}")
        products = values.astype(np.int32)
        if not np.array_equal(products, values):
            raise DovetailError("a native table holds integers of at most 32 bits")
        return cls(products, signed)

    @classmethod
    def factored(
        cls,
        first: IntArray,
        second: IntArray,
        signed: bool | tuple[bool, bool],
        constant: IntArray | None = None,
        lookups: tuple[Lookups | None, Lookups | None] = (None, None),
    ) -> NativeMac:
        """From exact factors ``[rank, 256]``: ``f(a, w) = sum_r first[r, a] * second[r, w]``.

        Each first factor takes at most 256 consecutive values; the second ones all fit int8, or
        all uint8. ``constant`` ``[256]`` is added for every weight code. ``lookups`` are the
        `ClassForm.sides`, indexed by bytes; their constants are added, too.

        >>> one = np.ones((1, 256), dtype=np.int64)
        >>> NativeMac.factored(one, one, signed=True).rank
        1
        """
        for name, factor in (("first", first), ("second", second)):
            if factor.ndim != 2 or factor.shape[1] != 256 or not 1 <= len(factor) <= 64:
                raise DovetailError(f"{name} factors are [rank, 256], not {factor.shape}")
        if len(first) != len(second):
            raise DovetailError(f"{len(first)} first and {len(second)} second factors")
        whole = first.T @ second
        if constant is not None:
            whole = whole + constant
        by_second, by_first = lookups
        if by_second is not None:
            whole = whole + by_second.table() + by_second.constant
        elif by_first is not None:
            whole = whole + by_first.table().T + by_first.constant
        return cls(whole.astype(np.int32), signed, Products.of(first, second, constant), lookups)

    def fits(self, depth: int, zero_point: int = 0) -> bool:
        """Whether every sum of ``depth`` products provably fits the kernels' 32 bits.

        >>> NativeMac.table(np.full((256, 256), 2**20), signed=True).fits(2048)
        False
        """
        return depth * (self.max_abs + abs(zero_point) * 255) < 2**31

    def pack(self, w_codes: Tensor, geometry: Geometry = LINEAR) -> Packed:
        """Weight codes ``[N, K]`` or ``[O, C / groups, *kernel]`` in the kernels' order.

        >>> mac = NativeMac.table(np.ones((256, 256)), signed=True)
        >>> mac.pack(torch.ones(4, 10, dtype=torch.int8)).wsum.tolist()
        [10, 10, 10, 10]
        """
        core = native._loaded()
        w = native._need("weight codes", w_codes, self.dtypes[1:])
        if w.dim() != max(2, geometry.spatial + 2) or 0 in w.shape:
            raise DovetailError(f"weight codes {tuple(w.shape)} do not fit {geometry}")
        if not self.fits(geometry.reduction(w.shape)):
            raise DovetailError(
                f"{geometry.reduction(w.shape)} products of up to {self.max_abs} overflow 32 bits"
            )
        role = self.role(geometry)
        shape = packing_shape(tuple(w.shape), geometry, role.rank, role.lookups)
        size = core.dv_packed_bytes(ctypes.byref(shape))
        if size < 0:
            raise DovetailError(f"weight codes {tuple(w.shape)} do not fit {geometry}")
        data = torch.empty(size, dtype=torch.uint8)
        native._check(
            core.dv_pack(
                ctypes.byref(shape),
                role.reference,
                address(w),
                int(self.signed[1]),
                address(data),
            )
        )
        return Packed(self, geometry, tuple(w.shape), data)

    def codes(self, a_codes: Tensor, packed: Packed, pad_code: int = 0) -> Tensor:
        """Exact int32 sums of products of ready codes.

        ``a_codes`` is ``[..., K]`` or ``[B, C, *spatial]``; padding cells hold ``pad_code`` and
        pass the multiplier like any other.

        >>> mac = NativeMac.table(np.ones((256, 256)), signed=True)
        >>> mac.codes(torch.zeros(2, 10, dtype=torch.int8),
        ...           mac.pack(torch.ones(1, 10, dtype=torch.int8))).tolist()
        [[10], [10]]
        """
        a = native._need("input codes", a_codes, self.dtypes[:1])
        info = torch.iinfo(self.dtypes[0])
        if not info.min <= pad_code <= info.max:
            raise DovetailError(f"pad_code {pad_code} is not an {self.dtypes[0]} code")
        source = Input(a.data_ptr(), 1, 1.0, 0, 0, 0, pad_code & 0xFF)
        shape, out_shape = self._sizes(a, packed)
        out = torch.empty(out_shape, dtype=torch.int32)
        self._run(a, packed, shape, source, Output(out.data_ptr(), 0, 0, None, None))
        return out

    def quantized(
        self,
        x: Tensor,
        packed: Packed,
        *,
        scale: float,
        zero_point: int,
        qmin: int,
        qmax: int,
        out_scale: Tensor,
        bias: Tensor | None = None,
    ) -> Tensor:
        """The whole op on float32: quantise, multiply, dequantise.

        ``y[n] = float32(sum - zero_point * wsum[n]) * out_scale[n] + bias[n]``, the integer part
        exact, the three float steps rounded separately. ``out_scale`` is float32 ``[N]``.

        >>> mac = NativeMac.table(np.ones((256, 256)), signed=True)
        >>> mac.quantized(torch.zeros(1, 10), mac.pack(torch.ones(2, 10, dtype=torch.int8)),
        ...               scale=1.0, zero_point=0, qmin=-127, qmax=127,
        ...               out_scale=torch.tensor([1.0, 0.5])).tolist()
        [[10.0, 5.0]]
        """
        x = native._need("x", x, (torch.float32,))
        native._need_grid(scale, zero_point, qmin, qmax)
        info = torch.iinfo(self.dtypes[0])
        if qmin < info.min or qmax > info.max:
            raise DovetailError(f"codes {qmin}..{qmax} do not fit {self.dtypes[0]}")
        if not self.fits(packed.depth, zero_point):
            raise DovetailError(
                f"{packed.depth} products of up to {self.max_abs} and zero point {zero_point} "
                "overflow 32 bits"
            )
        outputs = packed.shape[0]
        out_scale = native._need("out_scale", out_scale, (torch.float32,))
        if bias is not None:
            bias = native._need("bias", bias, (torch.float32,))
        for name, vector in (("out_scale", out_scale), ("bias", bias)):
            if vector is not None and vector.shape != (outputs,):
                raise DovetailError(f"{name} needs {outputs} entries, not {tuple(vector.shape)}")
        source = Input(x.data_ptr(), 0, scale, zero_point, qmin, qmax, 0)
        shape, out_shape = self._sizes(x, packed)
        out = torch.empty(out_shape, dtype=torch.float32)
        target = Output(
            out.data_ptr(),
            1,
            zero_point,
            out_scale.data_ptr(),
            None if bias is None else bias.data_ptr(),
        )
        self._run(x, packed, shape, source, target)
        return out

    def _sizes(self, a: Tensor, packed: Packed) -> tuple[native.Shape, tuple[int, ...]]:
        """The call's sizes, and its result's shape; those of the latest shapes are kept."""
        if packed.mac is not self:
            raise DovetailError("these weights were packed for another multiplier")
        found = packed.sizes.get(a.shape)
        if found is None:
            geometry, role = packed.geometry, self.role(packed.geometry)
            out_shape = geometry.out_shape(a.shape, packed.shape)
            shape = running_shape(a, packed.shape, geometry, role.rank, role.lookups)
            if len(packed.sizes) >= _KEPT:
                packed.sizes.clear()
            found = packed.sizes[a.shape] = shape, out_shape
        return found

    def _run(
        self, a: Tensor, packed: Packed, shape: native.Shape, source: Input, target: Output
    ) -> None:
        if a.numel() == 0:
            return
        native._check(
            native._loaded().dv_run(
                ctypes.byref(shape),
                self.role(packed.geometry).reference,
                address(packed.data),
                ctypes.byref(source),
                ctypes.byref(target),
            )
        )

    def role(self, geometry: Geometry) -> Role:
        """The multiplier as layers of this geometry take it.

        >>> NativeMac.table(np.ones((256, 256)), signed=True).role(LINEAR).rank
        0
        """
        return self._roles[int(geometry.spatial > 0)]
