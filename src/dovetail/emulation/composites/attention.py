"""Attention taken apart: projections (``linear``), its two products (``matmul``) and what is
between them.

``scores = (q @ k^T) * scale + mask``, ``out = dropout(softmax(scores)) @ v``. Scaling is ``mul``, a
mask of numbers ``add``; it is added to the scaled scores, never scaled itself. Scores that a mask
hides are exact whatever the formats: no cast sees them, so that no block takes their size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dovetail.emulation.calls import kept
from dovetail.emulation.composites.base import Products, Unfused
from dovetail.emulation.composites.scores import Mask, attend, counts, drop

__all__ = ["multi_head", "scaled_dot_product"]


def scaled_dot_product(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Unfused | None:
    """``F.scaled_dot_product_attention``: ``matmul_0`` is query and key, ``matmul_1`` the value."""
    operands = (query, key, value)
    if any(t.is_nested or not t.is_floating_point() or t.dim() < 2 for t in operands):
        return None
    if is_causal and attn_mask is not None:
        return None  # torch refuses it

    mask = None if attn_mask is None else Mask.of(attn_mask, query.dtype)

    def run(products: Products) -> Tensor:
        k, v = key, value
        if enable_gqa:
            k, v = (t.repeat_interleave(query.shape[-3] // t.shape[-3], -3) for t in (k, v))
        seen = Mask(None, ~_causal(query, k)) if is_causal else mask
        factor = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        weights = attend(products, query, k, seen, factor, safe=True)
        return products.matmul(1, drop(products, weights, dropout_p), v)

    return Unfused(counts(mask, dropout_p), run)


def multi_head(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    embed_dim_to_check: int,
    num_heads: int,
    in_proj_weight: Tensor | None,
    in_proj_bias: Tensor | None,
    bias_k: Tensor | None,
    bias_v: Tensor | None,
    add_zero_attn: bool,
    dropout_p: float,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    training: bool = True,
    key_padding_mask: Tensor | None = None,
    need_weights: bool = True,
    attn_mask: Tensor | None = None,
    use_separate_proj_weight: bool = False,
    q_proj_weight: Tensor | None = None,
    k_proj_weight: Tensor | None = None,
    v_proj_weight: Tensor | None = None,
    static_k: Tensor | None = None,
    static_v: Tensor | None = None,
    average_attn_weights: bool = True,
    is_causal: bool = False,
) -> Unfused | None:
    """``F.multi_head_attention_forward``: ``linear_0`` to ``linear_3`` project query, key, value
    and the result; ``matmul_0`` is query and key, ``matmul_1`` the value."""
    given: tuple[Tensor | None, ...] = (q_proj_weight, k_proj_weight, v_proj_weight)
    if not use_separate_proj_weight:
        given = () if in_proj_weight is None else _thirds(in_proj_weight)
    weights = [w for w in given if w is not None]
    if len(weights) < 3 or static_k is not None or static_v is not None:
        return None
    if (bias_k is None) != (bias_v is None) or not query.is_floating_point():
        return None
    if query.dim() not in (2, 3) or query.shape[-1] != embed_dim_to_check:
        return None
    if query.shape[-1] % num_heads or (is_causal and attn_mask is None):
        return None  # torch refuses both
    hint = is_causal and key_padding_mask is None and not need_weights
    biases = (None, None, None) if in_proj_bias is None else in_proj_bias.chunk(3)
    dropout = dropout_p if training else 0.0

    def run(products: Products) -> tuple[Tensor, Tensor | None]:
        batched = query.dim() == 3
        sources = [t if batched else t.unsqueeze(1) for t in (query, key, value)]
        projected = zip(sources, weights, biases, strict=True)
        q, k, v = (products.linear(i, x, w, b) for i, (x, w, b) in enumerate(projected))
        length, batch, width = q.shape
        zeros: list[Any] = []
        if bias_k is not None and bias_v is not None:
            k, v = (torch.cat([t, b.expand(1, batch, -1)]) for t, b in ((k, bias_k), (v, bias_v)))
            zeros.append(1)
        if add_zero_attn:
            k, v = (torch.cat([t, t.new_zeros(1, batch, width)]) for t in (k, v))
            zeros.append(1)
        q, k, v = (
            t.reshape(t.shape[0], batch, num_heads, width // num_heads).permute(1, 2, 0, 3)
            for t in (q, k, v)
        )
        if hint:
            mask: Mask | None = Mask(None, ~_causal(q, k))
        else:
            mask = _merged(attn_mask, key_padding_mask, batch, num_heads, q.dtype, len(zeros))
        scale = 1 / math.sqrt(width // num_heads)
        attended = attend(products, q, k, mask, scale, safe=not need_weights)
        attended = drop(products, attended, dropout)
        y = products.matmul(1, attended, v).permute(2, 0, 1, 3).reshape(length, batch, width)
        y = products.linear(3, y, out_proj_weight, out_proj_bias)
        y = y if batched else y.squeeze(1)
        if not need_weights:
            return y, None
        attended = attended.mean(1) if average_attn_weights else attended
        return y, attended if batched else attended.squeeze(0)

    masks = [m for m in (attn_mask, key_padding_mask) if m is not None and not hint]
    merged = Mask(next((m for m in masks if m.dtype != torch.bool), None))
    return Unfused({"linear": 4, **counts(merged, dropout)}, run)


def _thirds(weight: Tensor) -> tuple[Tensor, ...]:
    """The packed weight's three parts: the same tensors at every call, so that what is made of
    them is kept, as long as the weight does not change."""
    return kept(weight, "thirds", lambda: weight.chunk(3))


def _merged(
    mask: Tensor | None,
    padding: Tensor | None,
    batch: int,
    heads: int,
    dtype: torch.dtype,
    more: int,
) -> Mask | None:
    """Both masks as one; ``more`` keys at the end are open to all.

    Here, unlike in ``scaled_dot_product_attention``, a boolean mask is True where it *hides*.
    """
    parts = []
    if mask is not None:
        mask = mask if mask.dim() == 2 else mask.reshape(batch, heads, *mask.shape[1:])
        parts.append(mask)
    if padding is not None:
        padding = padding if padding.dim() == 2 else padding.unsqueeze(0)
        parts.append(padding[:, None, None, :])
    merged = None
    for part in parts:
        part = F.pad(part, (0, more)) if more else part
        one = Mask.of(~part if part.dtype == torch.bool else part, dtype)
        merged = one if merged is None else merged.and_(one)
    return merged


def _causal(query: Tensor, key: Tensor) -> Tensor:
    """True where a position may attend: at or before its own, counted from the first."""
    ones = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device)
    return ones.tril()
