"""A model drawn as a tree of its modules, with what every operation in it was given."""

from __future__ import annotations

import io

from rich.console import Console
from rich.text import Text
from rich.tree import Tree
from torch import nn

from dovetail.emulation.planned import Plan, PlannedOp

__all__ = ["tree"]

_SHOWN = ("input", "other", "sparsity", "weight_storage", "weight", "mul", "acc", "bias", "fn")


def tree(model: nn.Module, plan: Plan, width: int = 100) -> str:
    """The modules of ``model`` as a tree; the operations of ``plan`` stand where they are called.

    Each operation shows the formats that go in and come out along an arrow. Modules in which
    nothing is planned are drawn without their children.

    >>> import torch, dovetail as dv
    >>> net = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> recipe = dv.Recipe(dv.rule("2", input="int8", weight="int4", output="bf16"))
    >>> print(tree(net, dv.plan(net, recipe, torch.ones(1, 4))))
    Sequential
    ├── 0 Linear
    ├── 1 ReLU
    └── 2 Linear  input=int8, weight=int4 → bf16
    """
    ops: dict[str, list[PlannedOp]] = {}
    for op in plan:
        ops.setdefault(op.path, []).append(op)
    root = Tree(_label("", model, ops.get("", [])), guide_style="dim")
    _grow(root, model, "", ops)
    out = io.StringIO()
    Console(file=out, width=width, color_system=None).print(root)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _grow(branch: Tree, module: nn.Module, path: str, ops: dict[str, list[PlannedOp]]) -> None:
    for op in ops.get(path, []):
        if not op.address.bare:
            branch.add(Text(f"{op.key.rpartition(':')[2]}  {_given(op)}"))
    for name, child in module.named_children():
        where = f"{path}.{name}" if path else name
        below = branch.add(_label(name, child, ops.get(where, [])))
        if any(place == where or place.startswith(where + ".") for place in ops):
            _grow(below, child, where, ops)


def _label(name: str, module: nn.Module, ops: list[PlannedOp]) -> Text:
    own = next((_given(op) for op in ops if op.address.bare), "")
    text = f"{name} {type(module).__name__}".strip()
    return Text(f"{text}  {own}" if own else text)


def _given(op: PlannedOp) -> str:
    words = op.arithmetic.describe()
    into = ", ".join(f"{field}={words[field]}" for field in _SHOWN if field in words)
    return f"{into} → {words['output']}" if "output" in words else into
