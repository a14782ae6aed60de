"""The strategies of Optuna: NSGA-II and the tree-structured Parzen estimator."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dovetail._optional import optional

if TYPE_CHECKING:
    import optuna

__all__ = ["NSGA2", "TPE", "Anything"]


@dataclass(frozen=True)
class NSGA2:
    """Generations of designs that cross the best ones before them (Deb, Pratap, Agarwal and
    Meyarivan, IEEE TEC 2002), with constrained domination."""

    population: int

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """Mutation draws one choice anew on average."""
        samplers = optional("optuna.samplers", extra="search")
        made: optuna.samplers.BaseSampler = samplers.NSGAIISampler(
            population_size=self.population, seed=seed
        )
        return made


@dataclass(frozen=True)
class TPE:
    """Densities of the better and of the other designs (Ozaki, Tanigaki, Watanabe, Nomura and
    Onishi, JAIR 2022), all axes together; ``first`` designs are drawn at random."""

    first: int

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """Designs that others evaluate at the moment are kept away from."""
        samplers = optional("optuna.samplers", extra="search")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna calls these two options experimental
            made: optuna.samplers.BaseSampler = samplers.TPESampler(
                n_startup_trials=self.first, multivariate=True, constant_liar=True, seed=seed
            )
        return made


@dataclass(frozen=True)
class Anything:
    """For trials whose design is known already."""

    def sampler(self, seed: int) -> optuna.samplers.BaseSampler:
        """Draws nothing but what is missing."""
        samplers = optional("optuna.samplers", extra="search")
        made: optuna.samplers.BaseSampler = samplers.RandomSampler(seed=seed)
        return made
