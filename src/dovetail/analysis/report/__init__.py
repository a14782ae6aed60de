"""The report of a run: one HTML file that needs nothing else, and the same numbers as JSON."""

from dovetail.analysis.report.contents import Contents, numbers_of, read
from dovetail.analysis.report.page import page
from dovetail.analysis.report.paper import save_figures
from dovetail.analysis.report.write import versions, write

__all__ = ["Contents", "numbers_of", "page", "read", "save_figures", "versions", "write"]
