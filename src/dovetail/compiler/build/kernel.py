"""A compiled program in this process: a list of tensors to a list of tensors."""

from __future__ import annotations

import ctypes
import importlib.util
import sysconfig
import weakref
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dovetail.compiler.build.cache import Entry, entry, key_of
from dovetail.compiler.build.gpu import gpu
from dovetail.compiler.build.toolchain import compile_caller
from dovetail.compiler.groups.model import Program, Ref
from dovetail.errors import DovetailError

__all__ = ["Kernel", "caller", "sample"]

_CPU = torch.device("cpu")
_INPUT, _OUTPUT, _ADDRESS, _ARENA, _SIZE, _ASKED = range(6)


@lru_cache(maxsize=1)
def caller() -> Any:
    """The extension that calls compiled programs, built once for this Python."""
    names = ("caller.c", "results.h", "state.h")
    source, *parts = (Path(__file__).with_name(name) for name in names)
    texts = [text.read_text("utf-8") for text in (source, *parts)]
    key = key_of(*texts, sysconfig.get_config_var("SOABI") or "")

    def build(folder: Path) -> dict[str, Any]:
        compile_caller(source, folder / "program.so")
        return {}

    path = entry(f"caller-{key}", build).library
    spec = importlib.util.spec_from_file_location("dovetail_caller", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def sample(places: bytes) -> int:
    """A number made of some 64 words of each piece of memory: another one where they changed.

    ``places`` are pairs of int64: an address and a number of bytes.

    >>> sample(b"") == sample(b"")
    True
    """
    return int(caller().sample(places))


class Kernel:
    """``program`` as compiled into ``made``: call it with the inputs in order.

    It returns the results in order. A result that is part of an input is a view of it. Memory of a
    result that nobody holds any more is used again by the next call, until :meth:`release`.
    """

    def __init__(self, program: Program, made: Entry, device: torch.device = _CPU) -> None:
        self.program = program
        facts = made.facts
        self.library = ctypes.CDLL(str(made.library))
        tag = facts.get("tag", "")
        begin = self.library[f"dv_begin{tag}"]
        begin.restype = ctypes.c_void_p
        handle = begin(device.index or 0)
        if not handle:
            raise DovetailError(f"the compiled program cannot begin on {device}")
        run = ctypes.cast(self.library[f"dv_run{tag}"], ctypes.c_void_p).value
        bases = [b.name for b in program.buffers.values() if b.role == "output"]
        constants = {
            b.name: None if b.value is None else b.value.to(device)
            for b in program.buffers.values()
            if b.role == "constant"
        }
        slots = tuple(_slot(name, program, bases, constants, facts) for name in facts["parameters"])
        makers = tuple(_maker(program, name, device) for name in bases)
        keep = (self.library, constants)
        self.arena = int(facts["arena"])
        place, ask, count = None, None, _count_of_uses()
        if program.target == "cuda":
            count = None  # torch's allocator keeps memory of its own
            slots += ((_ADDRESS, device.index or 0, 0), (_ASKED, 0, 0))
            place = (torch.empty, ((self.arena,),), {"dtype": torch.uint8, "device": device})
            ask = gpu().stream(device)
        self.run = caller().Kernel(run, handle, slots, makers, self.arena, keep, place, ask, count)
        self._views = _views(program, bases, constants)
        self.plain = self._views is None
        self._changes = _changes(self.library)
        end = self.library[f"dv_end{tag}"]
        weakref.finalize(self, _end, self.library, end, self.run, handle)
        self._seen: list[tuple[nn.Parameter, int]] = []

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        if self._changes is not None:
            self._count(self._changes, inputs)
        outputs: list[Any] = self.run(inputs)
        if self._views is None:
            return outputs
        return [take(inputs, outputs) for take in self._views]

    def release(self) -> None:
        """Give back the memory of results that is kept for the next call."""
        self.run.release()

    def _count(self, changes: ctypes.c_uint64, inputs: Sequence[Any]) -> None:
        """Tell nodes that keep what they make of a weight whether any parameter has changed."""
        seen = [(t, t._version) for t in inputs if isinstance(t, nn.Parameter)]
        if len(seen) != len(self._seen) or any(
            new[0] is not old[0] or new[1] != old[1]
            for new, old in zip(seen, self._seen, strict=True)
        ):
            self._seen = seen
            changes.value += 1


def _count_of_uses() -> Any:
    """The function of torch that says how many hold a storage, by its number; None: it has none."""
    return getattr(torch._C, "_storage_Use_Count", None)


def _lasting(shape: Sequence[int], strides: Sequence[int], dtype: torch.dtype) -> Tensor:
    """A tensor whose memory later calls use, too: one that autograd takes."""
    with torch.inference_mode(False):
        return torch.empty_strided(shape, strides, dtype=dtype, device=_CPU)


def _end(library: ctypes.CDLL, end: Any, run: Any, handle: int) -> None:
    """Give back what a program keeps, after its last call."""
    del run
    if hasattr(library, "dovetail_forget"):
        library.dovetail_forget(ctypes.c_void_p(handle))
    end(ctypes.c_void_p(handle))


def _changes(library: ctypes.CDLL) -> ctypes.c_uint64 | None:
    """The counter that ``nodes/kept.h`` speaks of, where the program has such nodes."""
    if not hasattr(library, "dovetail_changes"):
        return None
    return ctypes.c_uint64.in_dll(library, "dovetail_changes")


def _slot(
    name: str,
    program: Program,
    bases: Sequence[str],
    constants: dict[str, Tensor | None],
    facts: dict[str, Any],
) -> tuple[int, int, int]:
    if name in facts["offsets"]:
        return _ARENA, facts["offsets"][name], 0
    if name in facts["inside"]:
        donor, offset = facts["inside"][name]
        return _INPUT, program.inputs.index(donor), offset
    if name in program.inputs:
        return _INPUT, program.inputs.index(name), 0
    if name in bases:
        return _OUTPUT, bases.index(name), 0
    if name in program.symbols:
        number, dim = program.symbols[name]
        return _SIZE, number, dim
    value = constants[name]
    assert value is not None
    return _ADDRESS, value.data_ptr(), 0


def _whole(program: Program, name: str) -> Ref | None:
    """The first result that is all of a buffer: the tensor that is allocated for it."""
    buffer = program.buffers[name]
    for ref in program.results:
        if ref.buffer == name and ref.dtype == buffer.dtype:
            layout = ref.layout
            if layout.is_dense and layout.offset == 0 and _count(layout.shape) == buffer.size:
                return ref
    return None


def _count(shape: Sequence[Any]) -> Any:
    made: Any = 1
    for extent in shape:
        made = made * extent
    return made


def _maker(program: Program, name: str, device: torch.device) -> tuple[Any, ...]:
    """How the memory of an output is allocated."""
    buffer = program.buffers[name]
    ref = _whole(program, name)
    shape, strides = (ref.shape, ref.layout.strides) if ref else ((buffer.size,), (1,))
    if all(isinstance(n, int) for n in (*shape, *strides)):
        if device.type == "cpu":
            return _lasting, (shape, strides, buffer.dtype), {}
        return torch.empty_strided, (shape, strides), {"dtype": buffer.dtype, "device": device}
    sizes = _evaluated(program, (*shape, *strides))
    rank, dtype = len(shape), buffer.dtype

    def make(inputs: Sequence[Any]) -> Tensor:
        found = sizes(inputs)
        return torch.empty_strided(found[:rank], found[rank:], dtype=dtype, device=device)

    return (make, None)


def _evaluated(program: Program, dims: Sequence[Any]) -> Callable[[Sequence[Any]], list[int]]:
    """A function from the inputs to the values of ``dims``."""
    import sympy

    names = list(program.symbols)
    function = sympy.lambdify([sympy.Symbol(n) for n in names], [_named(d) for d in dims], "math")
    places = list(program.symbols.values())

    def evaluate(inputs: Sequence[Any]) -> list[int]:
        values = [inputs[i] if d < 0 else inputs[i].shape[d] for i, d in places]
        return [int(v) for v in function(*values)]

    return evaluate


def _named(value: Any) -> Any:
    """An expression whose symbols are told apart by name alone."""
    import sympy

    if not isinstance(value, sympy.Basic):
        return value
    return value.subs({s: sympy.Symbol(str(s)) for s in value.free_symbols})


def _views(
    program: Program, bases: Sequence[str], constants: dict[str, Tensor | None]
) -> list[Callable[..., Any]] | None:
    """How each result is taken, or None where results are the outputs as they were made."""
    takes: list[Callable[..., Any]] = []
    plain = len(bases) == len(program.outputs)
    given: set[str] = set()
    for number, ref in enumerate(program.outputs):
        if ref is None:
            plain = False
            takes.append(lambda inputs, outputs: None)
            continue
        if not isinstance(ref, Ref):
            plain = False
            size = _evaluated(program, [ref])
            takes.append(lambda inputs, outputs, size=size: size(inputs)[0])
            continue
        whole = _whole(program, ref.buffer) if ref.buffer in bases else None
        if whole is not None and whole.layout.same_place(ref.layout) and ref.buffer not in given:
            given.add(ref.buffer)
            place = bases.index(ref.buffer)
            plain = plain and place == number
            takes.append(lambda inputs, outputs, place=place: outputs[place])
            continue
        plain = False
        takes.append(_strided(program, ref, bases, constants))
    return None if plain else takes


def _strided(
    program: Program, ref: Ref, bases: Sequence[str], constants: dict[str, Tensor | None]
) -> Callable[..., Any]:
    layout = ref.layout
    rank = len(layout.shape)
    dims = (*layout.shape, *layout.strides, layout.offset)
    fixed = [int(d) for d in dims] if all(isinstance(d, int) for d in dims) else None
    sizes = None if fixed is not None else _evaluated(program, dims)
    is_input = ref.buffer in program.inputs
    value = constants.get(ref.buffer)
    places = program.inputs if is_input else bases
    place = 0 if value is not None else list(places).index(ref.buffer)
    same = program.given.get(ref.buffer) == layout

    def take(inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
        source = value if value is not None else (inputs if is_input else outputs)[place]
        if same:
            return source
        found = fixed if sizes is None else sizes(inputs)
        assert found is not None
        start = found[-1] + (source.storage_offset() if is_input else 0)
        return source.as_strided(found[:rank], found[rank:-1], start)

    return take
