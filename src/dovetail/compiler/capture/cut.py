"""Where a joint graph is cut into forward and backward, so that little lies between them."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

__all__ = ["cut"]

aten = torch.ops.aten

#: Masks such as ReLU's are a comparison of what is saved anyway: backward makes them again.
_COMPARISONS = {getattr(aten, name).Scalar for name in ("le", "lt", "ge", "gt", "eq", "ne")}
#: What has the elements of its operand, one after the other where that has them so.
_SAME = {
    getattr(aten, name).default
    for name in ("view", "_unsafe_view", "reshape", "alias", "detach", "clone")
}


def cut(
    joint: fx.GraphModule, inputs: Any, *, num_fwd_outputs: int, **options: Any
) -> tuple[fx.GraphModule, fx.GraphModule]:
    """torch's cut through the fewest bytes, then without masks that cost nothing to make again."""
    from torch._functorch.partitioners import min_cut_rematerialization_partition

    forward, backward = min_cut_rematerialization_partition(
        joint, inputs, num_fwd_outputs=num_fwd_outputs, **options
    )
    _recompute_masks(forward, backward, num_fwd_outputs)
    return forward, backward


def _recompute_masks(forward: fx.GraphModule, backward: fx.GraphModule, results: int) -> None:
    output = forward.graph.output_node()
    returned: list[Any] = list(output.args[0])  # type: ignore[arg-type]
    places = {node.name: node for node in backward.graph.find_nodes(op="placeholder")}
    moved = set()
    for mask in returned[results:]:
        place = places.get(getattr(mask, "name", ""))
        if place is None or mask.target not in _COMPARISONS:
            continue
        if _is_made(backward, mask, place, returned[results:], places):
            moved.add(mask)
    if moved:
        kept = [n for i, n in enumerate(returned) if i < results or n not in moved]
        output.args = (tuple(kept),)
        forward.graph.eliminate_dead_code()
        for graph in (forward, backward):
            graph.recompile()


def _is_made(
    backward: fx.GraphModule,
    mask: fx.Node,
    place: fx.Node,
    saved: list[Any],
    places: dict[str, fx.Node],
) -> bool:
    """Whether ``backward`` now makes ``mask`` of what else is saved, instead of taking it."""
    operand = mask.args[0]
    others = (s for s in saved if getattr(s, "target", None) not in _COMPARISONS)
    whole = next((s for s in others if _are_the_same(s, operand)), None)
    if whole is None or whole.name not in places:
        return False
    compare: Any = mask.target
    graph, taken = backward.graph, places[whole.name]
    with graph.inserting_after(graph.find_nodes(op="placeholder")[-1]):
        made = graph.call_function(compare, (taken, *mask.args[1:]))
    if whole is not operand:
        with graph.inserting_before(made):
            shape = list(operand.meta["val"].shape)  # type: ignore[union-attr]
            seen = graph.call_function(aten.view.default, (taken, shape))
        seen.meta = dict(operand.meta)  # type: ignore[union-attr]
        made.args = (seen, *mask.args[1:])
    made.meta = dict(mask.meta)
    place.replace_all_uses_with(made)
    graph.erase_node(place)
    return True


def _are_the_same(saved: Any, operand: Any) -> bool:
    """Whether ``saved`` has the elements of ``operand``, in a shape that is known."""
    if saved is operand:
        return True
    values = [node.meta.get("val") for node in (saved, operand) if isinstance(node, fx.Node)]
    return _origin(saved) is _origin(operand) and all(
        isinstance(value, torch.Tensor)
        and value.is_contiguous()
        and all(isinstance(size, int) for size in value.shape)
        for value in values
    )


def _origin(node: Any) -> Any:
    """What ``node`` shows under another name or shape."""
    while getattr(node, "target", None) in _SAME:
        value = node.args[0].meta.get("val")
        if not isinstance(value, torch.Tensor) or not value.is_contiguous():
            break
        node = node.args[0]
    return node
