"""The staged run: fp32, the recipe with exact products, the recipe, the recipe retrained."""

from __future__ import annotations

import copy
import math
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from dovetail._threads import computing_with
from dovetail.analysis import accuracy, attribute, layers, perplexity, report, sqnr_db
from dovetail.analysis.layers import LayerTable
from dovetail.analysis.outputs import agreement, outputs
from dovetail.calibration.batches import calibrate_on
from dovetail.costs import CostReport, cost
from dovetail.emulation import Plan, apply_
from dovetail.emulation import plan as plan_for
from dovetail.experiment.exports import check_exports, exported
from dovetail.experiment.progress import Steps
from dovetail.experiment.recover import before_emulation, recover
from dovetail.experiment.result import RunResult, Stage
from dovetail.experiment.retrain import check_options, retrain
from dovetail.experiment.subject import Subject, subject, train
from dovetail.formats.observers import observer as make_observer
from dovetail.multipliers.exact import Exact
from dovetail.recipe.document import at
from dovetail.recipe.recipe import Recipe
from dovetail.recipe.rule import rule
from dovetail.recipe.schema import ExperimentFile, dump, load

__all__ = ["emulated", "resolve", "run"]


def run(
    path: str | Path | Sequence[str | Path],
    *,
    overrides: Iterable[str] = (),
    from_scratch: bool = False,
    out: str | Path | None = None,
    write: bool = True,
    progress: bool = False,
) -> RunResult:
    """Run an experiment file: what `dovetail run` does, without the printing.

    Of several files each is laid over those before it: its keys count.
    `overrides` are assignments such as `"rules.1.mul=exact"`; `from_scratch` trains a built-in
    model instead of loading its weights. Everything is refused that can be before any measuring.
    `out`, or else `report` in the file, is the folder for `report.html`, `report.json` and
    `recipe.yaml` (the file with every default spelled out), not written with `write=False`.

    The same file, seed and number of threads give the same result. Torch's global random generator
    and its number of threads are left as they were.

    >>> run("no-such-file.yaml")
    Traceback (most recent call last):
    dovetail.errors.DovetailError: no file 'no-such-file.yaml'
    """
    overrides = list(overrides)
    paths = [path] if isinstance(path, (str, Path)) else list(path)
    file = resolve(load(paths, overrides), out)
    with at(file.where("calibrate", "observer")):
        make_observer(file.spec.calibrate.observer)
    check_exports(file)
    steps = Steps(show=progress)
    with computing_with(file.spec.threads):
        with steps.step("reading model and data"):
            work = subject(file, from_scratch=from_scratch)
            check_options(work, file)
        before_emulation(file, work, steps)
        plan = plan_for(work.model, file.recipe, work.example)
        _cost(file, plan)  # refuses tables that are none
        if from_scratch:
            train(work, file, progress=steps.shown)
            before_emulation(file, work, steps)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(file.spec.seed)
            result = _measured(file, work, plan, steps, write)
    if write:
        with steps.step("writing the report"):
            report.write(result.report, result, command=_command(paths, overrides, from_scratch))
    return result


def _command(paths: Sequence[str | Path], overrides: Iterable[str], from_scratch: bool) -> str:
    """The command line that repeats the run."""
    words = ["dovetail", "run", *map(str, paths)]
    for assignment in overrides:
        words += ["--set", assignment]
    return shlex.join([*words, "--train"] if from_scratch else words)


def resolve(file: ExperimentFile, out: str | Path | None = None) -> ExperimentFile:
    """The same experiment with the defaults that depend on others filled in.

    >>> from dovetail.recipe.schema import loads
    >>> resolve(loads("dovetail: 1\\nrules: [{input: int8}]", "mine.yaml")).spec.report
    'out/mine'
    """
    spec = file.spec
    stem = "+".join(name.rsplit(".", 1)[0] for name in file.document.name.split("+"))
    report = str(out) if out is not None else spec.report or f"out/{stem}"
    count = spec.threads or torch.get_num_threads()
    fit = spec.fit
    if fit is not None and fit.seed is None:
        fit = fit.model_copy(update={"seed": spec.seed})
    return ExperimentFile(
        spec.model_copy(update={"report": report, "fit": fit, "threads": count}),
        file.recipe,
        file.document,
    )


def _measured(
    file: ExperimentFile, work: Subject, plan: Plan, steps: Steps, write: bool
) -> RunResult:
    spec = file.spec
    with steps.step("measuring fp32"):
        reference, target = outputs(work.model, steps.over(work.test), spec.seed)
    stages = [_stage("fp32", reference, reference, target, None)]
    formats = _formats(plan)

    approximate = any(not isinstance(op.arithmetic.mul, Exact) for op in plan.ops)
    if approximate:
        exact = file.recipe + Recipe(rule("*", mul="exact", source="exact products"))
        model, _ = emulated(file, exact, work, steps)
        with steps.step(f"measuring {formats} with exact products"):
            logits, _ = outputs(model, steps.over(work.test), spec.seed)
        integers = all(op.arithmetic.multiplies_codes for op in plan.ops)
        stages.append(
            _stage(f"{formats}, exact", logits, reference, target, 1.0 if integers else None)
        )

    model, plan = emulated(file, file.recipe, work, steps)
    with steps.step("measuring the recipe"):
        logits, _ = outputs(model, steps.over(work.test), spec.seed)
    with steps.step("comparing layer by layer"):
        table = layers(model, work.example)
    energy = table.total.energy
    spent = _cost(file, plan) if "energy" in spec.measure else None
    name = f"{formats}, approximate" if approximate else formats
    stages.append(_stage(name, logits, reference, target, energy))

    recovered = recover(file, model, work, steps)
    if recovered:
        with steps.step("measuring the recovered network"):
            logits, _ = outputs(model, steps.over(work.test), spec.seed)
        stages.append(_stage("recovered", logits, reference, target, energy))

    attribution = None
    if "attribution" in spec.measure:
        with steps.counted("attributing") as tell:
            attribution = attribute(model, work.test, seed=spec.seed, progress=tell)

    fitted = None
    if spec.fit is not None:
        fitted = retrain(model, work, file, progress=steps.shown, write=write)
        with steps.step("measuring the retrained network"):
            logits, _ = outputs(model, steps.over(work.test), spec.seed)
        stages.append(_stage("retrained", logits, reference, target, energy))

    exports = exported(file, spec.export, model, work, steps) if write else ()
    table, stages = _asked_for(spec.measure, table, stages)
    last = stages[-1]
    measured = {
        "accuracy": last.accuracy.value,
        "perplexity": last.perplexity,
        "sqnr": last.sqnr_db,
        "energy": last.energy,
    }
    met, missed = spec.require.judge(measured)
    return RunResult(
        source=file.document.name,
        resolved=dump(file),
        model=work.name,
        data=work.data,
        data_sha256=work.data_sha256,
        trained=work.trained,
        seed=spec.seed,
        stages=tuple(stages),
        layers=table,
        cost=spent,
        attribution=attribution,
        plan=plan,
        multipliers={repr(op.arithmetic.mul): op.arithmetic.mul for op in plan.ops},
        recovered=recovered,
        fit=fitted,
        met=tuple(met),
        missed=tuple(missed),
        report=Path(str(spec.report)),
        exports=exports,
    )


def _cost(file: ExperimentFile, plan: Plan) -> CostReport:
    declared = file.spec.cost
    with at(file.where("cost")):
        return cost(plan, tables=list(declared.tables) or None, node=declared.node)


def emulated(
    file: ExperimentFile, recipe: Recipe, work: Subject, steps: Steps
) -> tuple[nn.Module, Plan]:
    """A copy of the model with the recipe applied and calibrated."""
    model = copy.deepcopy(work.model)
    plan = apply_(model, recipe, work.example)
    how = file.spec.calibrate
    with steps.step("calibrating"):
        calibrate_on(model, work.calibration, how.batches, how.observer, file.spec.seed)
    return model, plan


def _asked_for(
    measure: Sequence[str], table: LayerTable, stages: list[Stage]
) -> tuple[LayerTable, list[Stage]]:
    """Without the figures that `measure` leaves out."""
    if "perplexity" not in measure:
        stages = [replace(stage, perplexity=None) for stage in stages]
    if "energy" not in measure:
        rows = tuple(replace(row, energy=None) for row in table.rows)
        table = replace(table, rows=rows, total=replace(table.total, energy=None))
        stages = [replace(stage, energy=None) for stage in stages]
    if "sqnr" not in measure:
        rows = tuple(
            replace(row, isolated_db=math.nan, accumulated_db=math.nan) for row in table.rows
        )
        table = replace(table, rows=rows, total=replace(table.total, output_db=None))
        stages = [replace(stage, sqnr_db=math.nan) for stage in stages]
    return table, stages


def _stage(
    name: str, logits: Tensor, reference: Tensor, target: Tensor, energy: float | None
) -> Stage:
    return Stage(
        name=name,
        accuracy=accuracy(nn.Identity(), [(logits, target)]),
        agreement=agreement(reference, logits),
        sqnr_db=sqnr_db(reference, logits),
        energy=energy,
        perplexity=perplexity(nn.Identity(), [(logits, target)]),
    )


def _formats(plan: Plan) -> str:
    """What the operands are in one word: `int8` where all are, else the formats in use."""
    names = {
        str(fmt).partition("(")[0] if fmt is not None else "float"
        for op in plan.ops
        for fmt in (op.arithmetic.input, op.arithmetic.weight)
    }
    return "/".join(sorted(names))
