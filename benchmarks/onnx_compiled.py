"""The node tests of ONNX through `dv.compile`: many in one run of the C++ compiler.

Nothing falls back to eager calls. Compiled code may end the process that it runs in, so that each
batch has one of its own; a journal keeps every outcome, and a run that was cut off goes on there.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor

import dovetail as dv
from benchmarks.onnx_nodes import Outcome, Ready, elsewhere, operators_of, values
from dovetail.compiler.build.together import compile_together
from dovetail.compiler.onnx.registry import find

#: Tests that are compiled at once: more take more memory.
BATCH = 32
_DEPENDS = "depends on the values"


def outcomes(cases: Sequence[Any], journal: Path | None = None) -> Iterator[Outcome]:
    """What becomes of each test, in no order; those in the ``journal`` are not run again."""
    known = _read(journal)
    waiting = [case for case in cases if case.name not in known]
    yield from (known[case.name] for case in cases if case.name in known)
    if waiting:
        ready(waiting[0])  # what it imports, every process has
    for start in range(0, len(waiting), BATCH):
        for outcome in _apart(waiting[start : start + BATCH]):
            if journal is not None:
                with journal.open("a") as file:
                    file.write(json.dumps(asdict(outcome)) + "\n")
            yield outcome


def together(cases: Sequence[Any]) -> Iterator[Outcome]:
    """What becomes of tests that are compiled at once, in this process."""
    found = [ready(case) for case in cases]
    functions = [each.function for each in found if isinstance(each, Ready)]
    with contextlib.suppress(dv.DovetailError):  # compiled one by one, it is said of which
        compile_together(unit for function in functions for unit in function.units)
    for each in found:
        yield each.outcome() if isinstance(each, Ready) else each


def ready(case: Any) -> Ready | Outcome:
    """A test lowered to groups and to an SDFG; or why it is not."""
    ops = operators_of(case)
    if reason := elsewhere(case.model):
        return Outcome(case.name, ops, "elsewhere", reason)
    given = values(case.model, case.data_sets[0][0])
    reason, fixed = "", ()
    for fixed in _choices(case.model, given):
        try:
            return Ready(case, _lowered(case.model, given, fixed), fixed)
        except dv.DovetailError as error:
            reason = str(error).splitlines()[0]
            if _DEPENDS not in reason:
                break
        except Exception as error:  # of any kind: the table says which
            return Outcome(case.name, ops, "failed", f"{type(error).__name__}: {error}"[:300])
    return Outcome(case.name, ops, "unsupported", reason, fixed)


def _lowered(model: Any, given: dict[str, Any], fixed: Sequence[str]) -> Any:
    """The compiled module of a model in which the inputs ``fixed`` are constants."""
    own = onnx.ModelProto()
    own.CopyFrom(model)
    kinds = {info.name: info.type.tensor_type.elem_type for info in model.graph.input}
    for name in fixed:
        numbers, shape = given[name].flatten().tolist(), given[name].shape
        own.graph.initializer.append(onnx.helper.make_tensor(name, kinds[name], shape, numbers))
    module = dv.load_onnx(own, trainable=False)
    args = tuple(value for name, value in given.items() if name not in fixed)
    made = dv.compile(module, args, backward=False, check=False)
    for unit in made.units:
        assert unit.sdfg is not None  # made here: what cannot be is refused here
    return made


def _choices(model: Any, given: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Inputs to make constants of: none; those that an operator takes as numbers; all that may be.

    Each is tried where the one before asks for a value while the model is lowered.
    """
    yield ()
    opsets = {entry.domain: entry.version for entry in model.opset_import}
    static: set[str] = set()
    for node in model.graph.node:
        slots = find("", node.op_type, opsets.get("", 1)).static if _is_known(node) else ()
        static |= {node.input[slot] for slot in slots if slot < len(node.input)}
    named = tuple(name for name in given if name in static and isinstance(given[name], Tensor))
    if named:
        yield named
    numbers = tuple(name for name, value in given.items() if name in named or _may_count(value))
    if numbers != named:
        yield numbers


def _is_known(node: Any) -> bool:
    from dovetail.compiler.onnx.registry import names

    return node.domain in ("", "ai.onnx") and node.op_type in names()


def _may_count(value: Any) -> bool:
    """Whether a tensor may be a shape, axes, a count or a bound."""
    if not isinstance(value, Tensor) or value.dim() > 1:
        return False
    return not value.is_floating_point() or value.dim() == 0


def _apart(cases: Sequence[Any]) -> Iterator[Outcome]:
    """Tests in a process of their own; where one ends it, the others go on in another."""
    left = list(cases)
    while left:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        child = multiprocessing.get_context("fork").Process(target=_send, args=(left, theirs))
        child.start()
        theirs.close()
        while left:
            try:
                outcome = ours.recv()
            except EOFError:
                case = left.pop(0)
                ended = "the process ended in compiled code"
                yield Outcome(case.name, operators_of(case), "failed", ended)
                break
            left.pop(0)
            yield outcome
        child.join()


def _send(cases: Sequence[Any], to: Connection) -> None:
    torch.set_num_threads(1)
    os.environ.setdefault("DOVETAIL_CXXFLAGS", "-O1")
    for outcome in together(cases):
        to.send(outcome)


def _read(journal: Path | None) -> dict[str, Outcome]:
    if journal is None or not journal.exists():
        return {}
    lines = [json.loads(line) for line in journal.read_text().splitlines()]
    tuples = ("ops", "fixed")
    found = [Outcome(**{k: tuple(v) if k in tuples else v for k, v in x.items()}) for x in lines]
    return {outcome.name: outcome for outcome in found}
