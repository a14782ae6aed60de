"""``python -m benchmarks.onnx_nodes``: the node tests that ship with ONNX, through `load_onnx`.

Every test is a model of few nodes, its inputs and what it must give. A test passes when every
output has the type, the shape and, within the test's own tolerance, the values that are expected.
With ``--compile`` the models go through `dv.compile` as well: see `benchmarks.onnx_compiled`.
"""

from __future__ import annotations

import argparse
import fnmatch
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

import dovetail as dv
from dovetail.compiler.onnx.types import from_array

RESULTS = Path(__file__).parent / "results" / "onnx-nodes.md"
#: Tests whose values are drawn: only type and shape can be compared.
DRAWN = ("test_bernoulli*", "test_training_dropout*")


@dataclass(frozen=True)
class Outcome:
    """What became of one test: ``passed``, ``failed``, ``unsupported`` or ``elsewhere``.

    The last are of what no torch module has: text, and other domains than the default one.
    """

    name: str
    ops: tuple[str, ...]
    state: str
    reason: str = ""
    #: Inputs that were made constants of the model.
    fixed: tuple[str, ...] = ()


@cache
def cases() -> tuple[Any, ...]:
    """All node tests."""
    from onnx.backend.test.loader import load_model_tests

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of NumPy, where the tests are made
        return tuple(load_model_tests(kind="node"))


@dataclass
class Ready:
    """A test whose model is a function: what is left is to call it."""

    case: Any
    function: Callable[..., Any]
    #: Inputs that the function does not take, being constants of the model.
    fixed: tuple[str, ...] = ()

    @property
    def ops(self) -> tuple[str, ...]:
        """The operators of the model."""
        return operators_of(self.case)

    def outcome(self) -> Outcome:
        """What the function gives, compared with what the test expects."""
        case, reason = self.case, ""
        for inputs, outputs in case.data_sets:
            given = [v for name, v in values(case.model, inputs).items() if name not in self.fixed]
            try:
                with torch.no_grad():
                    result = self.function(*given)
            except dv.DovetailError as error:
                return Outcome(case.name, self.ops, "unsupported", first_line(error), self.fixed)
            except Exception as error:  # of any kind: the table says which
                reason = f"{type(error).__name__}: {first_line(error)}"
                return Outcome(case.name, self.ops, "failed", reason, self.fixed)
            results = result if isinstance(result, tuple) else (result,)
            for got, expected, info in zip(results, outputs, case.model.graph.output, strict=True):
                reason = reason or _difference(got, expected, info, case)
        return Outcome(case.name, self.ops, "failed" if reason else "passed", reason, self.fixed)


def first_line(error: Exception) -> str:
    """What an error says first."""
    return (str(error).splitlines() or [""])[0]


def operators_of(case: Any) -> tuple[str, ...]:
    """The operators of a test's model."""
    return tuple(sorted({node.op_type for node in case.model.graph.node}))


def run(case: Any) -> Outcome:
    """One test, through `load_onnx`."""
    if reason := elsewhere(case.model):
        return Outcome(case.name, operators_of(case), "elsewhere", reason)
    try:
        module = dv.load_onnx(case.model)
    except dv.DovetailError as error:
        return Outcome(case.name, operators_of(case), "unsupported", str(error))
    return Ready(case, module).outcome()


def values(model: Any, inputs: Sequence[Any]) -> dict[str, Any]:
    """The inputs of a test as a module takes them, by name."""
    infos = _inputs(model)
    return {info.name: _value(x, info) for x, info in zip(inputs, infos, strict=False)}


def _inputs(model: Any) -> list[Any]:
    held = {tensor.name for tensor in model.graph.initializer}
    return [info for info in model.graph.input if info.name not in held]


def elsewhere(model: Any) -> str:
    """Why a test is of no concern to a torch module."""
    domains = {node.domain for node in model.graph.node} - {"", "ai.onnx"}
    if domains:
        return f"domain {min(domains)}"
    kinds = {_element(info.type) for info in [*model.graph.input, *model.graph.output]}
    texts = {t.data_type for t in model.graph.initializer} | {
        a.t.data_type for n in model.graph.node for a in n.attribute if a.HasField("t")
    }
    if onnx.TensorProto.STRING in kinds | texts or any(
        a.type in (a.STRINGS,) and n.op_type not in ("RNN", "GRU", "LSTM")
        for n in model.graph.node
        for a in n.attribute
    ):
        return "text"
    return "an encoded image" if model.graph.node[0].op_type == "ImageDecoder" else ""


def _element(kind: Any) -> int:
    """The element type of a tensor, a sequence of them, or an optional one."""
    which = kind.WhichOneof("value")
    if which in ("tensor_type", "sparse_tensor_type"):
        return int(getattr(kind, which).elem_type)
    return _element(getattr(kind, which).elem_type) if which else 0


def _value(value: Any, info: Any) -> Any:
    """An input as the module takes it."""
    if value is None:
        return None
    if isinstance(value, list):
        return [_value(item, info) for item in value]
    return from_array(_array(value), _element(info.type))


def _array(value: Any) -> np.ndarray[Any, Any]:
    """Narrow types are given as protobufs."""
    if isinstance(value, onnx.TensorProto):
        return onnx.numpy_helper.to_array(value)
    return np.asarray(value)


def _difference(got: Any, expected: Any, info: Any, case: Any) -> str:
    """How an output differs from what is expected, or nothing."""
    if expected is None or isinstance(expected, list):
        if (got is None) != (expected is None) or len(got or []) != len(expected or []):
            return f"{info.name}: {got} instead of {expected}"
        pairs = zip(got or [], expected or [], strict=True)
        return next(filter(None, (_difference(a, b, info, case) for a, b in pairs)), "")
    want = from_array(_array(expected), _element(info.type))
    if not isinstance(got, Tensor) or (got.dtype, got.shape) != (want.dtype, want.shape):
        found = (got.dtype, tuple(got.shape)) if isinstance(got, Tensor) else type(got)
        return f"{info.name}: {found} instead of {(want.dtype, tuple(want.shape))}"
    if any(fnmatch.fnmatch(case.name, pattern) for pattern in DRAWN):
        return ""
    a, b = _plain(got), _plain(want)
    if np.allclose(a, b, case.rtol, case.atol, equal_nan=True):
        return ""
    if not np.array_equal(np.isnan(a), np.isnan(b)):
        return f"{info.name}: NaN stays NaN here, and is a number there"
    worst = np.nanmax(np.abs(a.astype(np.float64) - b.astype(np.float64)))
    return f"{info.name}: off by {worst:.3g} in {str(got.dtype).removeprefix('torch.')}"


def _plain(x: Tensor) -> np.ndarray[Any, Any]:
    """NumPy has no narrow floats."""
    narrow = x.dtype == torch.bfloat16 or (x.is_floating_point() and x.dtype.itemsize == 1)
    return (x.float() if narrow else x).numpy()


def page(outcomes: Iterable[Outcome], through: str) -> str:
    """The outcomes as a section of Markdown."""
    outcomes = list(outcomes)
    inside = [o for o in outcomes if o.state != "elsewhere"]
    passed = sum(o.state == "passed" for o in inside)
    by_op: dict[str, Counter[str]] = defaultdict(Counter)
    for outcome in inside:
        by_op[_subject(outcome)][outcome.state] += 1
    lines = [
        f"## Through {through}",
        "",
        f"{passed} of {len(inside)} tests of floats and integers in the default domain pass "
        f"({100 * passed / len(inside):.1f} %). {len(outcomes) - len(inside)} others are of text, "
        "encoded images or other domains. Drawn values (Bernoulli, dropout in training) are "
        "compared by type and shape.",
        *_constants(inside),
        "",
        "| operator | passed | failed | unsupported |",
        "|---|---|---|---|",
    ]
    for op, states in sorted(by_op.items()):
        lines.append(
            f"| {op} | {states['passed']} | {states['failed']} | {states['unsupported']} |"
        )
    left = [o for o in inside if o.state != "passed"]
    if left:
        lines += ["", "### What does not pass", "", "| test | | reason |", "|---|---|---|"]
        lines += [
            f"| {o.name} | {o.state} | {o.reason.replace('|', chr(92) + '|')} |" for o in left
        ]
    return "\n".join(lines) + "\n"


def _constants(outcomes: Sequence[Outcome]) -> list[str]:
    """What is said of inputs that were given as constants."""
    fixed = [o for o in outcomes if o.fixed]
    if not fixed:
        return []
    subjects = ", ".join(sorted({_subject(o) for o in fixed}))
    return [
        "",
        f"In {len(fixed)} of them inputs that say shapes, axes or counts are initialisers of the "
        f"model, since what is compiled may not depend on values: {subjects}.",
    ]


def _subject(outcome: Outcome) -> str:
    """The operator that a test is about: the one its name begins with, or all that it uses."""
    name = outcome.name.removeprefix("test_").removeprefix("basic_").replace("_", "").lower()
    named = [op for op in _operators() if name.startswith(op.lower())]
    few = ", ".join(outcome.ops) if len(outcome.ops) < 4 else "others"
    return max(named, key=len) if named else few


@cache
def _operators() -> frozenset[str]:
    schemas = onnx.defs.get_all_schemas_with_history()
    return frozenset(schema.name for schema in schemas if not schema.domain)


def main() -> None:
    from benchmarks import onnx_compiled

    parser = argparse.ArgumentParser(prog="python -m benchmarks.onnx_nodes", description=__doc__)
    parser.add_argument("pattern", nargs="?", default="*", help="only tests so named")
    parser.add_argument("--every", type=int, default=1, help="one test in so many")
    parser.add_argument("--start", type=int, default=0, help="the first of them")
    parser.add_argument("--compile", action="store_true", help="through dv.compile as well")
    parser.add_argument("--journal", type=Path, help="keep what is compiled here, and go on there")
    parser.add_argument("--save", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    chosen = [c for c in cases() if fnmatch.fnmatch(c.name, options.pattern)]
    chosen = chosen[options.start :: options.every]
    eager = [run(case) for case in track(chosen, "node tests", transient=True)]
    sections = [page(eager, "`dv.load_onnx`")]
    if options.compile:
        found = onnx_compiled.outcomes(chosen, options.journal)
        compiled = list(track(found, "compiled", total=len(chosen), transient=True))
        sections.append(page(compiled, "`dv.load_onnx` and `dv.compile`"))
    text = "\n".join([_HEAD, *sections])
    Console(markup=False, highlight=False).print(text, soft_wrap=True)
    if options.save:
        RESULTS.write_text(text)


_HEAD = f"""# The node tests of ONNX

onnx {onnx.__version__} (opset {onnx.defs.onnx_opset_version()}), torch {torch.__version__}.
"""

if __name__ == "__main__":
    main()
