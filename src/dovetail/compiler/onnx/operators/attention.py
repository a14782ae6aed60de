"""Attention, and the recurrences that stand in for it."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.compiler.onnx.registry import operator
from dovetail.compiler.onnx.types import dtype_of
from dovetail.errors import DovetailError, unknown


def _split(x: Tensor, heads: int | None) -> Tensor:
    """``[batch, length, heads * size]`` to ``[batch, heads, length, size]``."""
    if heads is None:
        raise DovetailError("inputs of three axes need q_num_heads and kv_num_heads")
    return x.reshape(*x.shape[:2], heads, x.shape[2] // heads).transpose(1, 2)


def _joined(x: Tensor) -> Tensor:
    return x.transpose(1, 2).flatten(2)


@operator("Attention", 23)
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    past_key: Tensor | None = None,
    past_value: Tensor | None = None,
    lengths: Tensor | None = None,
    *,
    is_causal: int = 0,
    kv_num_heads: int | None = None,
    left_window_size: int = -1,
    q_num_heads: int | None = None,
    qk_matmul_output_mode: int = 0,
    right_window_size: int = -1,
    scale: float | None = None,
    softcap: float = 0.0,
    softmax_precision: int | None = None,
    node: Any,
) -> tuple[Tensor, ...]:
    """Queries and keys may have fewer heads than queries; keys and values go on from the past."""
    packed = q.dim() == 3
    if packed:
        q, k, v = _split(q, q_num_heads), _split(k, kv_num_heads), _split(v, kv_num_heads)
    before: Any = 0
    if past_key is not None and past_value is not None:
        before = past_key.shape[2]
        k, v = torch.cat((past_key, k), 2), torch.cat((past_value, v), 2)
    elif lengths is not None:
        before = (lengths.reshape(-1, 1, 1, 1) - q.shape[2]).to(torch.long)
    present = (k, v)
    plain = node.outputs < 4 and not softcap and softmax_precision is None
    windows = (left_window_size, right_window_size)
    top_left = is_causal and mask is None and lengths is None and past_key is None
    if plain and windows == (-1, -1) and (top_left or not is_causal) and lengths is None:
        bias = _padded(mask, k.shape[2])
        y = F.scaled_dot_product_attention(
            q, k, v, bias, is_causal=bool(is_causal), scale=scale,
            enable_gqa=q.shape[1] != k.shape[1],
        )  # fmt: skip
        return (_joined(y) if packed else y, *present)
    bias = _bias(q, k, _padded(mask, k.shape[2]), before, is_causal, windows, lengths)
    y, scores = _written_out(
        q, k, v, bias, softmax_precision, scale=scale, softcap=softcap, mode=qk_matmul_output_mode
    )
    return (_joined(y) if packed else y, *present, scores)


def _padded(mask: Tensor | None, keys: int) -> Tensor | None:
    """A mask that ends early lets nothing pass beyond its end."""
    if mask is None or mask.shape[-1] == keys:
        return mask
    return F.pad(
        mask, (0, keys - mask.shape[-1]), value=0 if mask.dtype == torch.bool else -torch.inf
    )


def _bias(
    q: Tensor,
    k: Tensor,
    mask: Tensor | None,
    before: Any,
    is_causal: int,
    windows: tuple[int, int],
    lengths: Tensor | None,
) -> Tensor:
    """0 where a query sees a key, minus infinity where it does not, or what the mask adds."""
    rows = torch.arange(q.shape[2], device=q.device).unsqueeze(1) + before
    keys = torch.arange(k.shape[2], device=q.device)
    ahead = keys - rows
    seen = torch.ones_like(ahead, dtype=torch.bool)
    if is_causal:
        seen = seen & (ahead <= 0)
    if windows[0] >= 0:
        seen = seen & (-ahead <= windows[0])
    if windows[1] >= 0:
        seen = seen & (ahead <= windows[1])
    if lengths is not None:
        seen = seen & (keys < lengths.reshape(-1, 1, 1, 1))
    if mask is not None and mask.dtype == torch.bool:
        seen, mask = seen & mask, None
    bias = torch.zeros_like(seen, dtype=q.dtype).masked_fill(~seen, -torch.inf)
    return bias if mask is None else bias + mask


def _written_out(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    bias: Tensor,
    precision: int | None,
    *,
    scale: float | None,
    softcap: float,
    mode: int,
) -> tuple[Tensor, Tensor]:
    """Attention and the scores at one of four stages; a query that sees no key gives 0."""
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    root = math.sqrt(scale if scale is not None else 1 / math.sqrt(q.shape[-1]))
    raw = torch.matmul(q * root, (k * root).transpose(-1, -2))
    capped = torch.tanh(raw / softcap) * softcap if softcap else raw
    biased = capped + bias
    wide = biased if precision is None else biased.to(dtype_of(precision))
    weights = F.softmax(wide, -1)
    blind = torch.isneginf(bias.amax(-1, keepdim=True))
    weights = torch.where(blind, torch.zeros_like(weights), weights).to(q.dtype)
    stages = (raw, capped, biased, weights)
    return torch.matmul(weights, v), stages[mode].to(q.dtype)


@operator("LinearAttention", 27)
def linear_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    state: Tensor | None = None,
    decay: Tensor | None = None,
    beta: Tensor | None = None,
    *,
    chunk_size: int = 64,
    kv_num_heads: int,
    q_num_heads: int,
    scale: float = 0.0,
    update_rule: str = "gated_delta",
) -> tuple[Tensor, Tensor]:
    """A matrix that every key and value changes, and every query reads; in float32."""
    if update_rule not in ("linear", "gated", "delta", "gated_delta"):
        raise unknown("update_rule", update_rule, ["linear", "gated", "delta", "gated_delta"])
    q, k = _split(query, q_num_heads).float(), _split(key, kv_num_heads).float()
    v = _split(value, kv_num_heads).float()
    batch, heads, length, size = k.shape
    matrix = k.new_zeros(batch, heads, size, v.shape[-1]) if state is None else state.float()
    forget = None if decay is None else torch.exp(_split(decay, heads).float())
    rate = None if beta is None else beta.float().transpose(1, 2)
    groups, factor = q_num_heads // kv_num_heads, scale or 1 / math.sqrt(size)
    rows: list[Tensor] = []
    for time in range(length):
        if forget is not None:
            matrix = matrix * forget[:, :, time].unsqueeze(-1)
        new, at = v[:, :, time], k[:, :, time].unsqueeze(-1)
        if rate is not None:
            new = rate[:, :, time].unsqueeze(-1) * (new - (matrix * at).sum(2))
        matrix = matrix + at * new.unsqueeze(2)
        read = matrix.repeat_interleave(groups, 1) if groups > 1 else matrix
        rows.append(factor * torch.matmul(q[:, :, time].unsqueeze(2), read).squeeze(2))
    out = torch.stack(rows, 1).flatten(2).to(query.dtype)
    return out, matrix.to(query.dtype if state is None else state.dtype)


@operator("CausalConvWithState", 27, weights=(1, 2))
def causal_conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    state: Tensor | None = None,
    *,
    activation: str = "none",
) -> tuple[Tensor, Tensor]:
    """Each channel with what came before it, and the end of that for the next call."""
    if activation not in ("none", "silu", "swish"):
        raise unknown("activation", activation, ["none", "silu", "swish"])
    reach = weight.shape[2] - 1
    before = x.new_zeros(*x.shape[:2], reach) if state is None else state
    whole = torch.cat((before, x), 2)
    y = F.conv1d(whole, weight, bias, groups=x.shape[1])
    y = y if activation == "none" else F.silu(y)
    return y, whole.narrow(2, whole.shape[2] - reach, reach)
