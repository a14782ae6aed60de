"""Paths of modules and parameters, from the names of nodes and initialisers."""

from __future__ import annotations

import re
from typing import Any

from torch import nn

__all__ = ["Names", "Path", "container", "nameless", "path_of", "place", "scope_of"]

Path = tuple[str, ...]

#: What a part of a path must not hide.
_RESERVED = frozenset(dir(nn.Module)) | frozenset(
    (
        *("steps", "tensors", "numbers", "captured", "input_names", "output_names"),  # of a graph
        *(
            "operator",
            "attributes",
            "name",
            "outputs",
            "opset",
            "static",
            "types",
            "bodies",
            "constants",
        ),
    )
)


#: As exporters number what has no name in the model.
_NUMBERED = re.compile(r"onnx::.*|val_\d+|t?\d+|.*Constant.*")


def nameless(name: str) -> bool:
    """Whether an initialiser's name is an exporter's count.

    >>> nameless("onnx::LSTM_225"), nameless("val_12"), nameless("encoder.gamma")
    (True, True, False)
    """
    return _NUMBERED.fullmatch(name) is not None


def path_of(name: str) -> Path:
    """The path that a node or initialiser's name means; exporters write scopes within scopes.

    >>> path_of("/layer1/layer1.0/conv1/Conv"), path_of("onnx::MatMul_31"), path_of("conv1.weight")
    (('layer1', '0', 'conv1', 'Conv'), ('onnx_MatMul_31',), ('conv1', 'weight'))
    """
    scopes: list[str] = []
    for scope in name.split("/"):
        if scopes and scope.startswith(scopes[-1] + "."):
            scopes.pop()
        scopes += [scope] if scope else []
    parts = [re.sub(r"\W+", "_", part) for scope in scopes for part in scope.split(".")]
    return tuple(part + "_" if part in _RESERVED else part for part in parts if part)


def scope_of(node: Any) -> Path:
    """The module of torch that a node comes from, where torch's exporter noted it."""
    notes = {entry.key: entry.value for entry in node.metadata_props}
    scopes = re.findall(r"'([^']*)'", notes.get("pkg.torch.onnx.name_scopes", ""))
    # The outermost is the model, without a name; the innermost the call itself.
    return path_of(scopes[-2]) if len(scopes) > 2 and not scopes[0] else ()


class Names:
    """Hands out every path once.

    >>> names = Names()
    >>> names.take(("fc",)), names.take(("fc",)), names.take(("fc", "bias"))
    (('fc',), ('fc_1',), ('fc', 'bias'))
    """

    def __init__(self) -> None:
        self._taken: set[Path] = set()

    def free(self, path: Path) -> bool:
        """Whether nothing is there yet."""
        return bool(path) and path not in self._taken

    def take(self, wished: Path) -> Path:
        """The path, or the first free one that is numbered."""
        path, n = wished, 1
        while path in self._taken:
            path, n = (*wished[:-1], f"{wished[-1]}_{n}"), n + 1
        self._taken.add(path)
        return path


def place(root: nn.Module, modules: dict[Path, nn.Module]) -> None:
    """Put modules at their paths, in containers where there is no module above them.

    >>> root = nn.Module()
    >>> place(root, {("a", "b"): nn.ReLU(), ("a",): nn.Identity()})
    >>> [name for name, _ in root.named_modules()]
    ['', 'a', 'a.b']
    """
    for path in sorted(modules, key=len):
        container(root, path[:-1]).add_module(path[-1], modules[path])


def container(root: nn.Module, path: Path) -> nn.Module:
    """The module at a path, made where it does not exist."""
    for part in path:
        if part not in root._modules:
            root.add_module(part, nn.Module())
        root = root.get_submodule(part)
    return root
