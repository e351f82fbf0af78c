"""Verbs that train."""

from research.studies.cross_validation import cross_validate as folds
from research.verbs import train

__all__ = ["folds", "train"]
