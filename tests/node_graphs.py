"""A tiny SDFG around library nodes: built without cmake, run on tensors, compared by tests."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import tempfile
import warnings
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest
import torch

pytest.importorskip("dace")
from dovetail.compiler.engine import load_dace
from dovetail.compiler.nodes import NODES, Operand

dace = load_dace()
if shutil.which("g++") is None:
    pytest.skip("no g++", allow_module_level=True)

DTYPES = {
    torch.float32: dace.float32,
    torch.float64: dace.float64,
    torch.int8: dace.int8,
    torch.uint8: dace.uint8,
    torch.int16: dace.int16,
    torch.int32: dace.int32,
    torch.int64: dace.int64,
    torch.bool: dace.bool_,
}


class Graph:
    """Calls of operators side by side in one SDFG; ``run`` returns the results of each."""

    def __init__(self) -> None:
        self.sdfg = dace.SDFG("graph")
        self.state = self.sdfg.add_state("calls")
        self.tensors: dict[str, torch.Tensor] = {}
        self.results: list[list[torch.Tensor | None]] = []
        self.nodes = []

    def operand(self, tensor: torch.Tensor) -> Operand:
        """An array over the tensor's whole storage."""
        name = next((n for n, known in self.tensors.items() if known is tensor), None)
        if name is None:
            name = f"t{len(self.tensors)}"
            size = max(tensor.untyped_storage().nbytes() // tensor.element_size(), 1)
            self.sdfg.add_array(name, (size,), DTYPES[tensor.dtype])
            self.tensors[name] = tensor
        offset = tensor.storage_offset()
        return Operand(name, tuple(tensor.shape), tensor.stride(), offset, tensor.dtype)

    def add(self, key, inputs, expected, implementation=None, out=None, **attributes):
        """One call; its results look like ``expected`` (or are written to ``out``)."""
        expected = expected if isinstance(expected, (list, tuple)) else [expected]
        outs = out or [e if e is None else torch.full_like(e, 77) for e in expected]
        operands = [None if t is None else self.operand(t) for t in inputs]
        results = [None if t is None else self.operand(t) for t in outs]
        spec = NODES[key]
        node = spec.add(self.state, self.sdfg, operands, results, attributes, implementation)
        self.nodes.append(node)
        self.results.append(outs)
        return node

    def generated(self):
        """DaCe's code objects."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.sdfg.expand_library_nodes()
            return self.sdfg.generate_code()

    def run(self) -> list[list[torch.Tensor | None]]:
        """Build, call once, and return the results of every call in order."""
        with self.built() as call:
            call()
        return self.results

    @contextmanager
    def built(self):
        """The built graph as a function: it reads the tensors as they are when it is called."""
        objects = self.generated()
        with tempfile.TemporaryDirectory() as folder:
            library = build(objects, Path(folder))
            arguments = [
                ctypes.c_void_p(self.tensors[n].untyped_storage().data_ptr())
                for n in self.sdfg.arglist()
            ]
            start = getattr(library, "__dace_init_graph")
            start.restype = ctypes.c_void_p
            handle = ctypes.c_void_p(start())
            yield lambda: getattr(library, "__program_graph")(handle, *arguments)
            getattr(library, "__dace_exit_graph")(handle)


COMMAND = ["g++", "-std=c++20", "-fPIC", "-O1", "-w", "-fopenmp", "-ffp-contract=off"]
HEADERS = Path(dace.__file__).parent / "runtime" / "include"


@cache
def _precompiled() -> tempfile.TemporaryDirectory:
    """DaCe's header, read once: it takes longer than all the rest of a small graph."""
    folder = tempfile.TemporaryDirectory()
    target = Path(folder.name) / "dace" / "dace.h.gch"
    target.parent.mkdir()
    header = ["-x", "c++-header", HEADERS / "dace" / "dace.h", "-o", target]
    subprocess.run([*COMMAND, f"-I{HEADERS}", *header], check=True)
    return folder


def build(objects, folder: Path) -> ctypes.CDLL:
    """The shared library of DaCe's code objects."""
    environments = {name for o in objects for name in o.environments}
    sources = []
    for o in objects:
        if o.language == "cpp" and o.linkable:
            sources.append(folder / f"{o.name}_{o.target.target_name}.cpp")
            hashed = '#include "../../include/hash.h"'
            sources[-1].write_text(o.clean_code.replace(hashed, ""))
    command = [*COMMAND, "-shared", f"-I{_precompiled().name}", f"-I{HEADERS}"]
    command += map(str, sources)
    for e in dace.library.get_environments_and_dependencies(environments):
        command += [f"-I{i}" for i in e.cmake_includes] + list(e.cmake_libraries)
    target = folder / "graph.so"
    done = subprocess.run([*command, "-o", target], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[:2500]
    return ctypes.CDLL(str(target))


def bits(x: torch.Tensor) -> torch.Tensor:
    """The patterns of floating-point numbers; NaN is one number."""
    if not x.is_floating_point():
        return x
    kinds = {2: torch.int16, 4: torch.int32, 8: torch.int64}
    return torch.where(x.isnan(), torch.nan, x).contiguous().view(kinds[x.element_size()])


class Compared:
    """A graph whose calls are known from the operators themselves."""

    def __init__(self, implementation: str | None = None) -> None:
        self.implementation = implementation
        self.graph, self.expected, self.calls = Graph(), [], []

    def call(self, key, *args, **attributes):
        namespace, packet, overload = key.split(".")
        op = getattr(getattr(getattr(torch.ops, namespace), packet), overload)
        names = [a.name for a in op._schema.arguments]
        given = dict(zip(names, args, strict=False)) | attributes
        value = op(**given)
        self.calls.append(f"{key} {attributes} {[a for a in args if not torch.is_tensor(a)]}")
        self.expected.append(list(value) if isinstance(value, tuple) else [value])
        tensors, rest = [], {}
        for argument in op._schema.arguments:
            kind = str(argument.type)
            if "Tensor" not in kind:
                if argument.name in given:
                    rest[argument.name] = given[argument.name]
            elif kind.startswith("List"):
                tensors += given[argument.name]
            else:
                tensors.append(given.get(argument.name))
        wanted = [v if isinstance(v, torch.Tensor) else None for v in self.expected[-1]]
        self.graph.add(key, tensors, wanted, self.implementation, **rest)
        return value

    def check(self, **tolerance):
        for got, want in zip(self.graph.run(), self.expected, strict=True):
            for g, e in zip(got, want, strict=True):
                if e is not None:
                    torch.testing.assert_close(g, e, equal_nan=True, **tolerance)

    def check_bits(self):
        """Every result to the last bit, signs of zeros and NaN included."""
        for node, got, want in zip(self.calls, self.graph.run(), self.expected, strict=True):
            for g, e in zip(got, want, strict=True):
                if e is not None:
                    assert g.shape == e.shape, node
                    assert bits(g).equal(bits(e)), node
