"""The machine that a run is on. Nothing here knows of models or experiments.

    provenance          versions, hardware and the state of the repository, as a run records them
    compilation_cache   compiled programs kept between processes
    huge_pages          memory in pages of 2 MB, for training on CPU
    resources           peak memory, and seconds of compilation

To add one, copy `resources.py`: plain functions that do nothing, without an error, on a machine that lacks the thing.
"""
