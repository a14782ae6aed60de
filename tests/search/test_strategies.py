"""Every strategy on a space that can be gone through, and what each does in its own way."""

from __future__ import annotations

import pytest

import dovetail as dv
from dovetail.search import STRATEGIES, Space, Trial
from search_models import MULS, found, values


@pytest.mark.parametrize("name", STRATEGIES)
def test_all_find_the_whole_front_when_they_have_the_time(name: str) -> None:
    front = found(strategy=name)
    assert front.size == len(front.trials) == 9
    every = found(strategy="exhaustive")
    assert values(front) == values(every)
    assert len({tuple(trial.design.values()) for trial in front.trials}) == 9


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_seed_gives_the_same_trials(name: str) -> None:
    first, second = (found(strategy=name, trials=6, seed=5).to_dict() for _ in range(2))
    assert first == second


@pytest.mark.parametrize("name", ["nsga2", "tpe", "mcts"])
def test_another_seed_gives_others_after_the_uniform_designs(name: str) -> None:
    first, second = (found(strategy=name, trials=6, seed=seed).trials for seed in (1, 2))
    assert [t.design for t in first] != [t.design for t in second]
    uniform = [set(trial.design.values()) for trial in first[:3]]
    assert uniform == [{"exact"}, {"mul8s_1KVM@v2022"}, {"mul8s_1L2L@v2022"}]


def test_exhaustive_refuses_a_large_space_with_its_size() -> None:
    muls = [f"broken_array(drop_columns={n}, drop_rows={m})" for n in range(1, 10) for m in (0, 1)]
    with pytest.raises(dv.DovetailError, match=r"has 5,832 designs.*4,096 at most.*nsga2"):
        found(space=Space(each={"*.mul": muls}), strategy="exhaustive")


def test_greedy_tries_each_change_alone_and_then_the_cheapest_together() -> None:
    front = found(strategy="greedy", space=Space(each={"*.mul": MULS}), trials=8)
    designs = [list(trial.design.values()) for trial in front.trials]
    assert designs[0] == ["exact"] * 3
    changed = [sum(label != "exact" for label in design) for design in designs]
    assert changed[1:7] == [1] * 6
    assert changed[7] == 2
    exact = front.trials[0].values

    def price(trial: Trial) -> float:
        loss = exact["sqnr"] - trial.values["sqnr"]
        return loss / (exact["energy"] - trial.values["energy"])

    cheapest = min(front.trials[1:7], key=price)
    move = next(item for item in cheapest.design.items() if item[1] != "exact")
    assert move in front.trials[7].design.items()


def test_greedy_takes_back_what_misses_a_bound() -> None:
    bound = 22.0
    front = found(strategy="greedy", constraints={"sqnr": f">={bound}"})
    assert all(trial.values["sqnr"] >= bound for trial in front)
    every = found(strategy="exhaustive", constraints={"sqnr": f">={bound}"})
    assert front.best("energy").values["energy"] == every.best("energy").values["energy"]


def test_an_unknown_strategy_is_refused() -> None:
    with pytest.raises(dv.DovetailError, match=r"unknown strategy 'nsga'; did you mean 'nsga2'\?"):
        found(strategy="nsga")


def test_spaces_with_mutual_exclusions_are_found_whole() -> None:
    space = Space(each={"[ab].mul": MULS}, distinct={"mul": 1})
    for name in STRATEGIES:
        front = found(space=space, strategy=name)
        assert len(front.trials) == 3
