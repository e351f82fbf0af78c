"""What listens to a run: subscribers to `research.events`.

A subscriber is a function of an event; a tracker is `(folder, about) -> subscriber`. The loop names none of them:
`research.verbs.train` lists them, and `train(listen=(...))` adds more.

    console     the live line and the plain lines
    trackers    timing.jsonl, TensorBoard, Weights & Biases, MLflow
    energy      joules of a run
    profile     a trace of a few steps

To add a tracker, copy `mlflow` in `trackers.py`: `scalar_writer` does all but the writing.
"""
