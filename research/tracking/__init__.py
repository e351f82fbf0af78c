"""Trackers: subscribers to `research.events` that display or record a run.

A subscriber is a function of an event; a tracker is `(folder, about) -> subscriber`. The loop does not depend on any of
them: `research.verbs.train` lists the default trackers, and `train(listen=(...))` adds more.

    console     a live line on a terminal, plain lines elsewhere
    trackers    timing.jsonl, TensorBoard, Weights & Biases, MLflow
    energy      energy of a run, in joules
    profile     a profiler trace of a few steps

To add a tracker, copy `mlflow` in `trackers.py`; `scalar_writer` turns events into calls of a write function.
"""
