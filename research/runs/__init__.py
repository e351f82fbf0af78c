"""A run on disk, from the experiment file to the trained network.

    before       experiment_file (loading a file), knobs (its typed arguments)
    the folder   folder (making and locking it), record (metrics.jsonl), checkpoint (Orbax, with checksums)
    again        origin (RUN@step), opened (`open_run`: the experiment and the Trained), pretrained, reader (lenient)

`open_run("runs/...@best").trained` is where a function of a trained network begins. `reader.read_run` reads what is
there without executing the experiment.
"""
