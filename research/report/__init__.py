"""The report of a run: its numbers against its claims, curves, confusions and worst errors, on one page."""

from research.report.claims import judge
from research.report.page import report

__all__ = ["judge", "report"]
