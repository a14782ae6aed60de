"""The model and the data that an experiment file names."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from dovetail._batches import device_of, inputs_and_target
from dovetail.errors import DovetailError
from dovetail.recipe.document import at
from dovetail.recipe.schema import ExperimentFile

__all__ = ["Subject", "function", "subject", "train"]


@dataclass
class Subject:
    """A trained fp32 model with its data. `example` is a tuple of the model's arguments."""

    model: nn.Module
    name: str
    train: Iterable[Any]
    calibration: Iterable[Any]
    test: Iterable[Any]
    example: tuple[Any, ...]
    data: str
    data_sha256: str | None
    validation: Iterable[Any] | None = None
    trained: bool = False


def subject(file: ExperimentFile, *, from_scratch: bool = False) -> Subject:
    """Build what `model` and `data` of the file say, built-in models with their trained weights,
    unless they are about to be trained `from_scratch`, or weights do not matter.

    The experiment's seed is what any random draw on the way starts from; torch's global random
    generator is left as it was.

    >>> from dovetail.recipe.schema import loads
    >>> file = loads(
    ...     "{dovetail: 1, model: {builtin: digits-cnn}, data: {builtin: digits}, "
    ...     "rules: [{input: int8}]}"
    ... )
    >>> subject(file).example[0].shape
    torch.Size([64, 1, 8, 8])
    """
    for key in ("model", "data"):
        if getattr(file.spec, key) is None:
            raise DovetailError(
                f"{file.document.name}: the key '{key}' is missing; a run needs it, "
                f"such as {_EXAMPLES[key]}"
            )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(file.spec.seed)
        model, name = _model(file, from_scratch)
        return _subject(model.eval(), name, _data(file), file)


def train(work: Subject, file: ExperimentFile, *, progress: bool = False) -> None:
    """Replace the weights of a built-in model by ones trained from scratch with the file's seed."""
    from dovetail import zoo

    spec = file.spec.model
    assert spec is not None
    if spec.builtin is None:
        raise DovetailError(
            f"{file.where('model', 'python')}: only built-in models can be trained from scratch; "
            f"let {spec.python} return a trained one"
        )
    work.model = zoo.train(spec.builtin, seed=file.spec.seed, progress=progress).eval()
    work.trained = True


_EXAMPLES = {"model": "model: {builtin: digits-cnn}", "data": "data: {builtin: digits}"}


def _model(file: ExperimentFile, from_scratch: bool) -> tuple[nn.Module, str]:
    from dovetail import zoo

    spec = file.spec.model
    assert spec is not None
    if spec.builtin is not None:
        with at(file.where("model", "builtin")):
            model = zoo.build(spec.builtin)
            if not from_scratch:
                model.load_state_dict(_trained(spec.builtin))
        return model, spec.builtin
    assert spec.python is not None
    place = file.where("model", "python")
    made = _called(spec.python, place)
    if not isinstance(made, nn.Module):
        raise DovetailError(
            f"{place}: {spec.python} returned a {type(made).__name__}, not an nn.Module"
        )
    return made, spec.python


def _trained(name: str) -> dict[str, Tensor]:
    from dovetail import zoo

    if not zoo.has_checkpoint(name):
        raise DovetailError(
            f"no trained weights of '{name}' ship with dovetail: 'dovetail run --train' trains it "
            "first, or let a python: function return a trained one"
        )
    return zoo.checkpoint(name)


def _data(file: ExperimentFile) -> Any:
    from dovetail import zoo

    spec = file.spec.data
    assert spec is not None
    if spec.builtin is not None:
        with at(file.where("data", "builtin")):
            return zoo.data.load(spec.builtin, seed=spec.seed, batch_size=spec.batch_size)
    assert spec.python is not None
    options = {"seed": spec.seed, "batch_size": spec.batch_size}
    return _called(spec.python, file.where("data", "python"), **options)


def _subject(model: nn.Module, name: str, data: Any, file: ExperimentFile) -> Subject:
    spec = file.spec.data
    assert spec is not None
    entries = data if isinstance(data, Mapping) else vars(data) if hasattr(data, "__dict__") else {}
    for needed in ("train", "test"):
        if needed not in entries:
            raise DovetailError(
                f"{file.where('data')}: the data has no '{needed}'; give loaders named train, "
                f"test and, if you like, calibration, as a mapping or as attributes"
            )
    calibration = entries.get("calibration", entries["train"])
    first = next(iter(calibration), None)
    if first is None:
        raise DovetailError(f"{file.where('data')}: the calibration data has no batch")
    return Subject(
        model=model,
        name=name,
        train=entries["train"],
        calibration=calibration,
        test=entries["test"],
        example=inputs_and_target(first, device_of(model))[0],
        data=str(data) if spec.builtin else str(spec.python),
        data_sha256=entries.get("sha256"),
        validation=entries.get("validation"),
    )


def _called(target: str, place: str, **options: Any) -> Any:
    """What the function that ``target`` names gives; refused if it does not take the options."""
    named = function(target, place)
    try:
        inspect.signature(named).bind(**options)
    except TypeError:
        name = target.partition(":")[2]
        given = ", ".join(f"{option}={value!r}" for option, value in options.items())
        raise DovetailError(
            f"{place}: {target} is called as {name}({given}), and "
            f"{name}{inspect.signature(named)} cannot be"
        ) from None
    except ValueError:  # of some built-in functions nobody knows
        pass
    return named(**options)


def function(target: str, place: str) -> Callable[..., Any]:
    """The function that `package.module:function` names; the current folder can hold it.

    >>> function("math:sqrt", "here")(4.0)
    2.0
    """
    module_name, _, name = target.partition(":")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        raise DovetailError(
            f"{place}: no module '{module_name}' here ({here}) or among the installed packages"
        ) from error
    finally:
        sys.path.remove(here)
    value: Any = module
    for part in name.split("."):
        value = getattr(value, part, None)
    if not callable(value):
        raise DovetailError(f"{place}: '{module_name}' has no function '{name}'")
    function: Callable[..., Any] = value
    return function
