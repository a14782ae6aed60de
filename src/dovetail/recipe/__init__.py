"""Recipes: who gets which arithmetic."""

from dovetail.recipe.recipe import Recipe
from dovetail.recipe.rule import FIELDS, Rule, rule
from dovetail.recipe.selectors import OpAddress, Selector

__all__ = ["FIELDS", "OpAddress", "Recipe", "Rule", "Selector", "rule"]
