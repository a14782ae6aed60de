"""What the page on library nodes says, and the implementations that it shows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import dovetail as dv
from dovetail.compiler.nodes import NODES, implement
from dovetail.compiler.nodes.users import implementations
from node_graphs import Graph

PAGE = Path(__file__).parents[3] / "docs" / "compiler-nodes.md"


@pytest.fixture(scope="module", autouse=True)
def _page():
    names = {"__name__": "page"}  # as in a file of one's own
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        exec(block.replace("from __future__", "#"), names)
    yield
    implementations.pop("mine.mish.default")


def test_both_implementations_of_the_page_compute_the_operator():
    x = torch.randn(5, 6)
    graph, turned = Graph(), x.t()
    chosen = []
    for given, name in ((x, None), (x[1:], "loop"), (turned, None), (turned, "maps"), (x, "aten")):
        graph.add("mine.mish.default", [given], F.mish(given), name)
        chosen.append(graph.nodes[-1].implementation)
    assert chosen == ["loop", "loop", "aten", "maps", "aten"]
    for (got,), given in zip(graph.run(), (x, x[1:], turned, turned, x), strict=True):
        torch.testing.assert_close(got, F.mish(given))
    with pytest.raises(dv.DovetailError, match="loop: rows must follow each other"):
        graph.add("mine.mish.default", [turned], turned, "loop")


def test_the_names_of_dovetails_own_are_taken():
    with pytest.raises(dv.DovetailError, match="'pure' is dovetail's own implementation"):
        implement("aten.mm.default", "pure")
    assert NODES["aten.mm.default"].implementations == ("aten", "pure")
