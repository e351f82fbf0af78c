"""Verbs for training: one run, or one run per fold."""

from research.studies.cross_validation import cross_validate as folds
from research.verbs import train

__all__ = ["folds", "train"]
