"""Whole models as CUDA: what is generated, what nvcc says to it, and what it computes."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

import dovetail as dv

pytest.importorskip("dace")
from dovetail.compiler import default_passes
from dovetail.compiler.groups import Call
from dovetail.compiler.nodes.aten.products import PRODUCTS
from helpers import build, randn
from host_gpu import host_gpu

if shutil.which("g++") is None:
    pytest.skip("no g++", allow_module_level=True)

needs_nvcc = pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc")
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
on_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

INT8 = {"input": "int8", "weight": "int8", "acc": "int32", "mul": "mul8s_1L2H@v1.1"}


class Mixed(nn.Module):
    """A convolution, a product of tensors, emulated layers with casts, and a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 3)
        self.emulated = nn.Linear(48, 16)
        self.norm = nn.LayerNorm(16)
        self.plain = nn.Linear(16, 5)

    def forward(self, x):
        x = torch.relu(self.conv(x)).flatten(1)
        x = torch.relu(self.emulated(x * x))
        return torch.log_softmax(self.plain(self.norm(x)), -1)


def mixed(training=False):
    model, x = build(0, Mixed), randn(4, 2, 6, 6)
    rules = dv.Recipe(dv.rule("emulated", **INT8, output="fp8_e4m3"))
    dv.apply_(model.train(training), rules, x)
    return model, x


def mlp():
    return build(0, lambda: nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 7)))


def lenet():
    layers = [nn.Conv2d(1, 4, 5), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2)]
    layers += [nn.Conv2d(4, 6, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()]
    return build(0, lambda: nn.Sequential(*layers, nn.Linear(54, 10), nn.LogSoftmax(-1)))


@pytest.fixture(scope="module")
def generated():
    """A model for a GPU that is not there."""
    model, x = mixed()
    return dv.compile(model, x, target="cuda"), x


# -- what is generated ------------------------------------------------------------------------


@without_gpu
def test_every_group_is_a_kernel_on_the_given_stream(generated):
    fast, _ = generated
    source = fast.units[0].source
    launches = re.findall(r"cudaLaunchKernel\(\(void\*\)(\w+),.*, (\w+)\);", source.kernels)
    assert {stream for _, stream in launches} == {"dovetail_stream"}
    kernels = re.findall(r"__global__ void +__launch_bounds__\(\d+\) (\w+)\(", source.kernels)
    assert sorted(name for name, _ in launches) == sorted(kernels)
    for name in ("elementwise", "rows", "products", "cast"):
        assert any(name in kernel for kernel in kernels), name


@without_gpu
def test_the_host_only_passes_addresses_on(generated):
    fast, _ = generated
    unit = fast.units[0]
    body = unit.source.code.split("__program_forward_internal(")[1].split("\nDACE_EXPORTED")[0]
    assert not re.search(r"Synchronize|cudaMalloc|cudaMemcpy|omp parallel", body)
    for name in unit.program.buffers:  # addresses of first elements are taken, nothing is read
        assert not re.search(rf"(?<!&)\b{name}\[", body), name
    assert "aoti_torch_device_type_cuda()" in unit.source.code
    assert unit.arena > 0


@without_gpu
def test_grids_have_one_dimension(generated):
    """The others end at 65535 blocks."""
    fast, _ = generated
    grids = re.findall(r"cudaLaunchKernel\(\S+ dim3\(([^)]*)\)", fast.units[0].source.kernels)
    assert grids
    assert all(grid.endswith(", 1, 1") for grid in grids)


@without_gpu
def test_it_is_looked_at_and_not_called(generated):
    fast, x = generated
    assert {a.storage.name for a in fast.sdfg.arrays.values() if len(a.shape)} == {
        "GPU_Global",
        "Register",
    }
    assert "dovetail.linear.default" in fast.report().table()
    with pytest.raises(dv.DovetailError, match=r"torch finds no GPU.*target='cpu' runs here"):
        fast(x)


@pytest.mark.parametrize("target", ["gpu", "cud"])
def test_an_unknown_target_is_refused(target):
    with pytest.raises(dv.DovetailError, match=f"unknown target '{target}'.*cpu, cuda"):
        dv.compile(mlp().eval(), randn(2, 20), target=target)


@needs_nvcc
def test_nvcc_compiles_it(generated):
    fast, _ = generated
    assert fast.units[0].library.library.stat().st_size > 100_000


def test_torch_declares_products_of_both_devices_alike():
    """Those of GPUs are found by name, and called by the types of the others."""
    folder = Path(torch.__file__).parent / "include/torch/csrc/inductor/aoti_torch/generated"
    for function in PRODUCTS.values():
        types = []
        for device in ("cpu", "cuda"):
            text = (folder / f"c_shim_{device}.h").read_text(encoding="utf-8")
            name = function.replace("_cpu_", f"_{device}_")
            found = re.search(rf"AOTITorchError {name}\(([^)]*)\);", text)
            types.append([word.rsplit(" ", 1)[0] for word in found[1].split(", ")])
        assert types[0] == types[1], function


# -- what it computes: its threads run by the processor ---------------------------------------


def same(model, x, **options):
    """Outputs of a model in training mode and of its compiled form, and all their gradients."""
    x.requires_grad_()
    with host_gpu():
        fast = dv.compile(model, x, target="cuda", **options)
        results = []
        for run in (fast, model):
            given = x.detach().clone().requires_grad_()
            model.zero_grad()
            y = run(given)
            y.backward(torch.linspace(-1, 1, y.numel()).reshape(y.shape))
            results.append([y, given.grad, *(p.grad.clone() for p in model.parameters())])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    return fast


def test_outputs_and_gradients_are_those_of_eager():
    layers = nn.Linear(20, 33), nn.LayerNorm(33), nn.ReLU(), nn.Linear(33, 7)
    fast = same(build(0, lambda: nn.Sequential(*layers)).train(), randn(6, 20))
    assert fast.units[1].program.target == "cuda"


@pytest.mark.slow
def test_gradients_through_emulated_layers_are_those_of_eager():
    model, x = mixed(training=True)
    same(model, x)


def test_emulated_layers_have_eagers_bits():
    """Codes, products read from a table, scales, casts to floats and to blocks."""
    model, x = mlp().eval(), randn(6, 20)
    x[0, :3] = torch.tensor([float("inf"), float("nan"), -0.0])
    rules = [dv.rule("*", **INT8), dv.rule("0", output="fp8_e4m3")]
    rules += [dv.rule("2", output="mxfp4(block=4)", weight="int8(per_tensor)")]
    dv.apply_(model, dv.Recipe(*rules), randn(6, 20))
    with host_gpu(), torch.no_grad():
        fast = dv.compile(model, randn(6, 20), target="cuda", tolerance=0)
        assert fast(x).view(torch.int32).equal(model(x).view(torch.int32))


class Reductions(nn.Module):
    """Rows of every layout of a block: short, long, longest; neighbours; and over both sides."""

    def forward(self, x, wide, ints):
        yield_ = [x.sum(-1), x.amax(-1), x.sum(0), x.amin(0), x.mean(), x.prod(-1)]
        yield_ += [wide.sum(-1), wide.amax(-1), wide[:, :3000].sum(-1), wide.sum(0)]
        yield_ += [ints.sum(-1), ints.amin(0), (ints > 5).any(-1), (ints > -100).all(0)]
        cube = x[:36].reshape(3, 12, -1)
        yield_ += [cube.sum((0, 2)), cube.softmax(1), x.softmax(0), x.softmax(-1)]
        return tuple(yield_)


def test_reductions_fold_what_the_threads_have():
    x, wide = randn(37, 50), randn(3, 40_000)
    x[3, 7], x[4, 4] = float("nan"), -0.0
    ints = torch.randint(-9, 9, (70, 33))
    model = Reductions().eval()
    with host_gpu(), torch.no_grad():
        fast = dv.compile(model, (x, wide, ints), target="cuda")
        for ours, theirs in zip(fast(x, wide, ints), model(x, wide, ints), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-3, equal_nan=True)


def written_out(program):
    for group in program.groups:
        if isinstance(group, Call):
            group.implementation = "pure"


@pytest.mark.slow
@pytest.mark.parametrize("pure", [False, True])
def test_a_network_trains_with_running_statistics(pure):
    model, x = lenet().train(), randn(4, 1, 16, 16)
    passes = default_passes()
    same(model, x, optimize=passes.with_pass("pure", written_out, "groups") if pure else passes)


class Attention(nn.Module):
    def forward(self, q, k, v):
        return nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)


@pytest.mark.slow
def test_attention_is_its_products_and_its_softmax():
    given = tuple(randn(2, 3, 10, 8, seed=n) for n in range(3))
    with host_gpu(), torch.no_grad():
        fast = dv.compile(Attention().eval(), given, target="cuda")
        keys = {group.key for group in fast.groups if hasattr(group, "key")}
        assert keys == {"aten.bmm.default"}
        torch.testing.assert_close(fast(*given), Attention()(*given))


@pytest.mark.slow
def test_parameters_are_frozen():
    model, x = lenet().eval(), randn(4, 1, 16, 16)
    with host_gpu(), torch.no_grad():
        fast = dv.compile(model, x, target="cuda", freeze=True)
        torch.testing.assert_close(fast(x), model(x))
        model[0].bias += 1
        torch.testing.assert_close(fast(x), model(x))


@pytest.mark.slow
def test_dynamic_batch():
    model = mlp().eval()
    with host_gpu(), torch.no_grad():
        fast = dv.compile(model, randn(6, 20), target="cuda", dynamic=True)
        for batch in (1, 6, 300):
            x = randn(batch, 20, seed=batch)
            torch.testing.assert_close(fast(x), model(x))


# -- on a GPU -----------------------------------------------------------------------------------


@on_gpu
@pytest.mark.parametrize("make", [mlp, lenet])
def test_on_a_gpu(make):
    model = make().cuda().train()
    x = randn(4, 20).cuda() if make is mlp else randn(4, 1, 16, 16).cuda()
    fast = dv.compile(model, x)
    assert fast.units[0].program.target == "cuda"
    results = []
    for run in (fast, model):
        model.zero_grad()
        given = x.clone().requires_grad_()
        run(given).square().sum().backward()
        results.append([run(given), given.grad, *(p.grad.clone() for p in model.parameters())])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@on_gpu
def test_emulated_layers_have_eagers_bits_on_a_gpu():
    model, x = mlp().eval(), randn(6, 20)
    dv.apply_(model, dv.Recipe(dv.rule("*", **INT8)), x)
    model, x = model.cuda(), x.cuda()
    with torch.no_grad():
        fast = dv.compile(model, x, tolerance=0)
        assert fast(x).view(torch.int32).equal(model(x).view(torch.int32))


@on_gpu
def test_another_stream_and_another_device():
    model, x = mlp().cuda().eval(), randn(6, 20).cuda()
    fast = dv.compile(model, x)
    with torch.no_grad(), torch.cuda.stream(torch.cuda.Stream()):
        y = fast(x + 0)
        torch.cuda.current_stream().synchronize()
    torch.testing.assert_close(y, model(x))
    with pytest.raises(dv.DovetailError, match="on cpu"):
        fast(x.cpu())


@on_gpu
def test_backend_of_torch_compile_on_a_gpu():
    model, x = mlp().cuda(), randn(6, 20).cuda()
    fast = torch.compile(model, backend="dovetail")
    torch.testing.assert_close(fast(x), model(x))
