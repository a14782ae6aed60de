"""CUDA of graphs that are written out: generated, compiled, and run where there is a GPU."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from pathlib import Path

import pytest
import torch

from node_graphs import Compared, dace


def graphs():
    """A product of two tensors, casts, the two layers of a network, and a convolution."""
    torch.manual_seed(0)
    both = Compared("pure")
    x, w = torch.randn(8, 16), torch.randn(32, 16)
    hidden = both.call("aten.addmm.default", torch.randn(32), x, w.t())
    both.call("aten.mm.default", hidden, torch.randn(32, 4))
    both.call("dovetail.cast.default", x, "fp8_e4m3", -1, None, None)
    both.call("dovetail.cast.default", x, "mxfp4(block=8)", -1, None, None)
    image, kernel = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3)
    window = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1)
    both.call("aten.convolution.default", image, kernel, torch.randn(4), *window)
    _multiply(both.graph)
    return both


def _multiply(graph):
    for name in "abc":
        graph.sdfg.add_array(name, (64,), dace.float32)
    graph.sdfg.add_state_after(graph.state, "mul").add_mapped_tasklet(
        "mul",
        {"i": "0:64"},
        {"__a": dace.Memlet("a[i]"), "__b": dace.Memlet("b[i]")},
        "__c = __a * __b",
        {"__c": dace.Memlet("c[i]")},
        external_edges=True,
    )


def _memory(tensor):
    """All that the tensor's storage holds."""
    size = tensor.untyped_storage().nbytes() // tensor.element_size()
    return tensor.as_strided((size,), (1,), 0)


def moved(both):
    """The graph's SDFG on the GPU."""
    sdfg = both.graph.sdfg
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sdfg.expand_library_nodes()
        sdfg.apply_gpu_transformations()
    return sdfg


def test_every_map_becomes_a_kernel():
    both = graphs()
    moved(both)
    (code,) = [o.clean_code for o in both.graph.generated() if o.language == "cu"]
    heads = [line for line in code.splitlines() if "__global__" in line]
    kernels = {head.split("(")[-2].split()[-1] for head in heads}
    for name in ("product", "cast", "largest", "exponent", "place", "convolution", "mul"):
        assert any(k.startswith(name) for k in kernels), name


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")
def test_nvcc_compiles_it(tmp_path):
    both = graphs()
    moved(both)
    (code,) = [o.clean_code for o in both.graph.generated() if o.language == "cu"]
    source = tmp_path / "graph.cu"
    source.write_text(code.replace('#include "../../include/hash.h"', ""))
    headers = Path(dace.__file__).parent / "runtime" / "include"
    command = ["nvcc", "-c", "-std=c++20", "--expt-relaxed-constexpr", "-fmad=false", "-w"]
    command += [f"-I{headers}", source, "-o", tmp_path / "graph.o"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:4000]


@pytest.mark.slow
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_it_computes_the_same_on_the_gpu(tmp_path):
    both = graphs()
    sdfg = moved(both)
    given = {name: _memory(t).numpy() for name, t in both.graph.tensors.items()}
    a, b, c = (torch.randn(64).numpy() for _ in "abc")
    with (
        warnings.catch_warnings(),
        dace.config.set_temporary("default_build_folder", value=str(tmp_path)),
    ):
        warnings.simplefilter("ignore")
        sdfg(**given, a=a, b=b, c=c)
    for (got,), (want,) in zip(both.graph.results, both.expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.from_numpy(c), torch.from_numpy(a * b))
