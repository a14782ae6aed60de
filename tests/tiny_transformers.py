"""Transformers of every family, tiny and without trained weights, and what to call them with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from helpers import build, randn

transformers = pytest.importorskip("transformers")
ACT2FN = pytest.importorskip("transformers.activations").ACT2FN

IDS = torch.arange(1, 17).reshape(2, 8)
#: A batch whose second sequence is shorter.
MASK = torch.tensor([[1] * 8, [1] * 5 + [0] * 3])
WORDS = {"vocab_size": 32, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def _of(model: str, config: str, **options: Any) -> Callable[[str], nn.Module]:
    def make(attention: str) -> nn.Module:
        given = getattr(transformers, config)(**options, attn_implementation=attention)
        return build(0, lambda: getattr(transformers, model)(given)).eval()

    return make


def _deep(**options: Any) -> dict[str, Any]:
    return WORDS | {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 4} | options


_MAKERS = {
    "bert": _of("BertModel", "BertConfig", **_deep(intermediate_size=24)),
    "gpt2": _of("GPT2LMHeadModel", "GPT2Config", **WORDS, n_embd=16, n_layer=2, n_head=4),
    "opt": _of("OPTForCausalLM", "OPTConfig", **_deep(ffn_dim=24, word_embed_proj_dim=16)),
    "llama": _of(
        "LlamaForCausalLM", "LlamaConfig", **_deep(intermediate_size=24, num_key_value_heads=2)
    ),
    "vit": _of(
        "ViTModel",
        "ViTConfig",
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=24,
        image_size=16,
        patch_size=8,
    ),
    "t5": _of(
        "T5ForConditionalGeneration",
        "T5Config",
        vocab_size=32,
        d_model=16,
        d_kv=4,
        d_ff=24,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    ),
    "whisper": _of(
        "WhisperForConditionalGeneration",
        "WhisperConfig",
        **WORDS,
        d_model=16,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=24,
        decoder_ffn_dim=24,
        num_mel_bins=8,
        max_source_positions=10,
        max_target_positions=32,
        decoder_start_token_id=1,
    ),
}
INPUTS: dict[str, dict[str, torch.Tensor]] = {
    **{n: {"input_ids": IDS, "attention_mask": MASK} for n in ("bert", "gpt2", "opt", "llama")},
    "vit": {"pixel_values": randn(2, 3, 16, 16)},
    "t5": {"input_ids": IDS, "attention_mask": MASK, "decoder_input_ids": IDS[:, :4]},
    "whisper": {"input_features": randn(2, 8, 20), "decoder_input_ids": IDS[:, :4]},
}
NAMES = tuple(_MAKERS)


def make(name: str, attention: str = "sdpa") -> nn.Module:
    """The model, its weights the same every time."""
    return _MAKERS[name](attention)


def logits(model: nn.Module, name: str) -> torch.Tensor:
    """What the model makes of its inputs."""
    found = model(**INPUTS[name])
    return found.logits if "logits" in found else found.last_hidden_state
