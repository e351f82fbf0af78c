"""Runs on disk: experiment files, run folders, checkpoints, and trained networks loaded from them.

    input        experiment_file (load an experiment), knobs (its typed arguments)
    run folder   folder (create and lock), record (metrics.jsonl), checkpoint, checkpoint_meta and checkpoint_arrays,
                 which Orbax writes, fingerprint (checksums)
    reading      named_checkpoint (RUN@step), opened (`open_run`: the experiment and a Trained), pretrained (weights of
                 another run), reader (tolerates missing and damaged files), trust (who made the folder),
                 claims (expected against measured results)
    output       predictions (JSON lines or a table)

To use a trained network, start with `open_run("runs/...@best").trained`. `reader.read_run` reads the results of a run
without executing its experiment.
"""
