"""The machine of a run, independent of models and experiments.

    provenance          versions, hardware and repository state, as recorded with each run
    compilation_cache   a persistent cache of compiled programs
    allocator           memory that stays in the process between steps, for training on CPU
    archive             .npz archives that may be damaged or hostile
    resources           peak memory and compilation time

To add a module, copy `resources.py`. Write plain functions that do nothing, without an error, on a machine that lacks
the feature.
"""
