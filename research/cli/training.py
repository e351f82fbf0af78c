"""Verbs for training: one run, one run per fold, and rounds of runs that choose what to label."""

from research.studies.active_learning import active_learning as active
from research.studies.cross_validation import cross_validate as folds
from research.verbs import train

__all__ = ["train", "folds", "active"]
