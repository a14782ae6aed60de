"""`dv.search`: figures as measured by hand, what is shared, what goes on, what is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn

import dovetail as dv
from dovetail.emulation.trace import trace
from dovetail.search import Space
from dovetail.search.evaluator import Calibrating, Evaluator
from dovetail.search.grid import Grid
from dovetail.search.measures import OnData
from dovetail.search.objectives import Objectives
from search_models import BASE, MULS, SPACE, Small, batches, by_hand, found

WIDE = Space(each={"*.mul": MULS[:2], "[ab].input+weight": ["int8", "int6", "int6(affine)"]})


def test_figures_are_those_of_each_recipe_alone_whatever_came_before() -> None:
    front = found(space=WIDE, strategy="mcts", trials=12, objectives={"sqnr": "max"})
    for trial in front.trials:
        assert trial.values["sqnr"] == by_hand(trial.recipe)


def evaluator(space: Space) -> Evaluator:
    model = Small()
    grid = Grid(model, BASE, space, trace(model, batches()[0][0]))
    return Evaluator(grid, OnData(batches()), Objectives({"sqnr": "max"}), Calibrating(batches()))


def test_one_calibration_serves_all_designs_with_the_same_casts() -> None:
    made = evaluator(SPACE)
    first = [made.measure(design) for design in made.grid.designs()]
    assert made.calibrations == 1
    assert [made.measure(design) for design in made.grid.designs()] == first
    mixed = evaluator(Space(each={"[ab].input+weight": ["int8", "int6"]}))
    for design in mixed.grid.designs():
        mixed.measure(design)
    assert mixed.calibrations == 3  # both int8, then each with int6; both int6 are known by then


def test_ranges_under_sparsity_are_found_with_it() -> None:
    space = Space(each={"[ab].sparsity": ["exact", "2:4"]})
    front = found(space=space, strategy="exhaustive", objectives={"sqnr": "max"})
    for trial in front.trials:
        assert trial.values["sqnr"] == by_hand(trial.recipe)


def test_scores_made_of_data_are_gathered_for_every_design() -> None:
    space = Space(each={"[ab].sparsity": ["topk(0.5, score=wanda)", "topk(0.25, score=wanda)"]})
    front = found(space=space, strategy="exhaustive", objectives={"sqnr": "max"})
    for trial in front.trials:
        assert trial.values["sqnr"] == by_hand(trial.recipe)


def test_the_model_is_left_as_it_was() -> None:
    model = Small()
    before = copy.deepcopy(model.state_dict())
    loader = batches()
    state = torch.random.get_rng_state()
    dv.search(
        model,
        SPACE,
        loader,
        example=loader[0][0],
        recipe=BASE,
        trials=2,
        objectives={"sqnr": "max", "energy": "min"},
    )
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not list(model.buffers())


def test_no_design_is_measured_twice() -> None:
    seen: list[str] = []

    def evaluate(model: nn.Module) -> float:
        muls = {name: str(site.op.arithmetic.mul) for site, name in sites_of(model)}
        seen.append(str(muls))
        return float(len(seen))

    front = found(evaluate=evaluate, objectives={"rank": "max", "energy": "min"}, trials=9)
    assert front.repeats > 0
    assert len(seen) == len(set(seen)) == 9


def sites_of(model: nn.Module):
    from dovetail.emulation.state import sites

    return [(site, site.op.key) for site, _ in sites(model)]


def test_any_number_of_objectives_and_constraints_that_hold() -> None:
    front = found(
        objectives={"agreement": "max", "energy_pj": "min", "sqnr": "max"},
        constraints={"energy": "<= 0.85", "accuracy": ">= 0.5"},
        strategy="exhaustive",
    )
    assert len(front) > 0
    assert any(not trial.feasible for trial in front.trials)
    for trial in front:
        assert trial.values["energy"] <= 0.85
        assert trial.values["accuracy"] >= 0.5


def test_a_function_may_give_several_figures() -> None:
    front = found(
        evaluate=lambda model: {"one": 1.0, "two": 2.0, "three": 3.0},
        objectives={"one": "max", "two": "min"},
        trials=3,
    )
    assert front.trials[0].values == {"one": 1.0, "two": 2.0}


def test_nothing_is_measured_where_nothing_needs_it() -> None:
    def never(model: nn.Module) -> float:
        raise AssertionError("not needed")

    front = found(evaluate=never, objectives={"energy": "min"}, strategy="exhaustive")
    assert front.best("energy").values["energy"] < 1


def test_a_stopped_search_goes_on_as_if_it_had_not_been_stopped(tmp_path: Path) -> None:
    for name in ("nsga2", "greedy", "mcts"):
        whole = found(strategy=name, trials=8)
        folder = tmp_path / name
        found(strategy=name, trials=6, folder=folder)
        rest = found(strategy=name, trials=8, folder=folder)
        assert rest.to_dict() == whole.to_dict()


def test_an_interrupted_trial_is_taken_up_again_and_the_rest_is_the_same(tmp_path: Path) -> None:
    whole = found(strategy="nsga2", trials=8)
    calls = 0

    class Stopping(OnData):
        def __call__(self, model: nn.Module) -> dict[str, float]:
            nonlocal calls
            calls += 1
            if calls == 5:
                raise KeyboardInterrupt
            return super().__call__(model)

    with pytest.raises(KeyboardInterrupt):
        found(strategy="nsga2", trials=8, folder=tmp_path, evaluate=Stopping(batches()))
    assert (tmp_path / "pareto.csv").exists()
    assert not json.loads((tmp_path / "search.json").read_text())["complete"]
    front = found(strategy="nsga2", trials=8, folder=tmp_path)
    assert [trial.design for trial in front.trials] == [trial.design for trial in whole.trials]
    assert front.dropped == 1
    assert json.loads((tmp_path / "search.json").read_text())["complete"]
    again = found(strategy="nsga2", trials=8, folder=tmp_path, evaluate=Stopping(batches()))
    assert again.to_dict() == front.to_dict()


def test_an_error_names_the_trial_and_its_design() -> None:
    def evaluate(model: nn.Module) -> float:
        raise dv.DovetailError("no good")

    with pytest.raises(dv.DovetailError, match=r"trial 0 .*'a.mul': 'exact'.*: no good"):
        found(evaluate=evaluate, objectives={"mine": "max"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objectives": {"acuracy": "max"}}, "unknown figure 'acuracy'; did you mean 'accuracy'?"),
        ({"trials": 0}, "trials=0: give a whole number from 1"),
        ({"workers": 0}, "workers=0"),
        ({"executor": "dask"}, "unknown executor 'dask'"),
        ({"space": {"*.mul": ["exact", "mitchell(bits=12)"]}}, "mitchell"),
        ({"space": WIDE}, "let the objective be energy_pj"),
        (
            {"evaluate": lambda model: 1.0, "objectives": {"a": "max", "b": "max"}},
            "one number for a, b",
        ),
        (
            {"evaluate": lambda model: {"a": 1.0}, "objectives": {"b": "max"}},
            "unknown figure 'b'",
        ),
    ],
)
def test_refusals(options, message: str) -> None:
    with pytest.raises(dv.DovetailError, match=message):
        found(**options)


def test_energy_that_is_not_known_is_refused() -> None:
    space = {"*.input+weight": ["mxfp4"]}
    with pytest.raises(dv.DovetailError, match=r"a: the energy of its products.*energy_pj instead"):
        found(space=space)
