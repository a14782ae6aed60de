"""Looking for the designs that no other design beats."""

from dovetail.search.front import Front, Trial
from dovetail.search.objectives import Objectives
from dovetail.search.search import found_by, search
from dovetail.search.space import Space
from dovetail.search.strategies import STRATEGIES

__all__ = ["STRATEGIES", "Front", "Objectives", "Space", "Trial", "found_by", "search"]
