"""What the page on library nodes says, and the implementations that it shows."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import dovetail as dv
from dovetail.compiler import default_passes
from dovetail.compiler.groups import Call as CallGroup
from dovetail.compiler.nodes import NODES, implement
from dovetail.compiler.nodes.users import implementations
from host_gpu import host_gpu
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


class Mish(torch.nn.Module):
    def forward(self, x):
        return torch.ops.mine.mish(x) + 1


def written(name):
    """A pass that chooses an implementation of every call."""

    def choose(program):
        for group in program.groups:
            if isinstance(group, CallGroup):
                group.implementation = name

    return default_passes().with_pass("choose", choose, "groups")


def test_the_pages_kernel_runs_on_the_given_stream_of_a_gpu():
    x = torch.randn(5, 300)
    with host_gpu(), torch.no_grad():
        fast = dv.compile(Mish(), x, target="cuda")
        assert "mish_kernel<<<" in fast.units[0].source.code
        torch.testing.assert_close(fast(x), F.mish(x) + 1)


def test_a_kernel_that_is_not_launched_is_an_error():
    @implement(
        "mine.mish.default", "elsewhere", target="cuda", declarations="__global__ void no() {}"
    )
    def elsewhere(call):
        return "no<<<1, 2048, 0, dovetail_stream>>>();"

    try:
        with host_gpu(), pytest.raises(RuntimeError, match="CUDA: a grid or a block is too large"):
            dv.compile(Mish(), torch.randn(3, 4), target="cuda")
    finally:
        del implementations["mine.mish.default"]["elsewhere"]


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")
@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_nvcc_compiles_the_pages_kernel():
    fast = dv.compile(Mish(), torch.randn(5, 300), target="cuda")
    assert fast.units[0].library.library.stat().st_size > 0


def test_what_is_written_for_the_host_is_not_taken_on_a_gpu():
    x = torch.randn(5, 300)
    with host_gpu(), pytest.raises(dv.DovetailError, match="loop: it is written for target='cpu'"):
        dv.compile(Mish(), x, target="cuda", optimize=written("loop"))
    graph = Graph()
    with pytest.raises(dv.DovetailError, match="kernel: it is written for target='cuda'"):
        graph.add("mine.mish.default", [x], x, "kernel")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"target": "cdua"}, "unknown target 'cdua'; did you mean 'cuda'"),
        ({"target": "cuda", "maps": True}, "maps run on both targets"),
    ],
)
def test_targets_that_cannot_be_are_refused(given, said):
    with pytest.raises(dv.DovetailError, match=said):
        implement("mine.mish.default", "other", **given)


def test_the_names_of_dovetails_own_are_taken():
    with pytest.raises(dv.DovetailError, match="'pure' is dovetail's own implementation"):
        implement("aten.mm.default", "pure")
    assert NODES["aten.mm.default"].implementations == ("aten", "pure")
