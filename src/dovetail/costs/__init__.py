"""What a model costs on the hardware that it describes: energy, area and delay, from tables.

`dovetail.costs.files` reads and checks a user's tables.
"""

from dovetail.costs.model import cost
from dovetail.costs.report import CostReport, CostRow

__all__ = ["CostReport", "CostRow", "cost"]
