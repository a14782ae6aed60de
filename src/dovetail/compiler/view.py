"""An SDFG as one HTML page that needs nothing else: states, maps, tasklets and memlets to open."""

from __future__ import annotations

from html import escape
from typing import Any

from dovetail.compiler.engine import load_dace

__all__ = ["html"]

_PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 14px/1.4 system-ui, sans-serif; margin: 2em; max-width: 70em; }}
details {{ margin-left: 1.2em; border-left: 2px solid #bbb; padding-left: .6em; }}
summary {{ cursor: pointer; }}
code, pre {{ font: 12px ui-monospace, monospace; }}
.map {{ border-color: #27c; }} .call {{ border-color: #c62; }} .edge {{ color: #666; }}
</style></head><body><h1>{title}</h1>
<p>Each state runs after the one before. Open a map to see its tasklets, each with the elements that
it reads and writes.</p>
<details><summary>The same as groups</summary><pre>{groups}</pre></details>
<details><summary>Arrays</summary><pre>{arrays}</pre></details>
{states}</body></html>
"""


def html(unit: Any) -> str:
    """The page of a compiled function."""
    sdfg = unit.sdfg
    arrays = "\n".join(f"{name}: {array}" for name, array in sdfg.arrays.items())
    states = "\n".join(_state(state) for state in sdfg.bfs_nodes(sdfg.start_block))
    groups = escape(str(unit.program))
    return _PAGE.format(
        title=escape(sdfg.name), groups=groups, arrays=escape(arrays), states=states
    )


def _state(state: Any) -> str:
    scopes = state.scope_children()
    inside = "".join(_node(state, node, scopes) for node in _ordered(state, scopes[None]))
    return _folded(f"state <b>{escape(state.label)}</b>", inside, "state")


def _ordered(state: Any, nodes: list[Any]) -> list[Any]:
    wanted = set(nodes)
    order = load_dace().sdfg.utils.dfs_topological_sort(state)
    return [node for node in order if node in wanted]


def _node(state: Any, node: Any, scopes: dict[Any, list[Any]]) -> str:
    kinds = load_dace().nodes
    if isinstance(node, kinds.MapEntry):
        inside = "".join(_node(state, n, scopes) for n in _ordered(state, scopes[node]))
        title = f"map {escape(str(node.map))} <i>{node.map.schedule.name}</i>"
        return _folded(title, inside, "map")
    if isinstance(node, kinds.Tasklet):
        code = f"<code>{escape(node.code.as_string)}</code>"
        return _folded(code, _edges(state, node), "tasklet")
    if isinstance(node, kinds.LibraryNode):
        title = f"call <b>{escape(node.label)}</b> <i>{escape(str(node.implementation))}</i>"
        return _folded(title, _edges(state, node), "call")
    return ""


def _edges(state: Any, node: Any) -> str:
    ins = [(e.dst_conn, e.data) for e in state.in_edges(node) if e.dst_conn]
    outs = [(e.src_conn, e.data) for e in state.out_edges(node) if e.src_conn]
    reads = [f"{connector} &larr; {escape(str(memlet))}" for connector, memlet in ins]
    writes = [f"{connector} &rarr; {escape(str(memlet))}" for connector, memlet in outs]
    return "".join(f'<div class="edge"><code>{line}</code></div>' for line in reads + writes)


def _folded(title: str, inside: str, kind: str) -> str:
    return f'<details class="{kind}"><summary>{title}</summary>{inside}</details>\n'
