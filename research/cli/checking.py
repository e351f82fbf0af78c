"""Verbs that check an experiment before it runs, or a run by what it left."""


def plan(file: str, *, topology: str | None = None, **knobs):
    """Show the memory and the arithmetic of an experiment's step, and its parameters by name, before anything runs.

    Patterns of optimizers, freezing and sharding match the names behind `params/`.

    file: an experiment, such as experiments/digits.py
    topology (NAME): compile for devices that are not here, such as v5e:4x4
    """
    from research.diagnose.cost import described, plan, topology_devices
    from research.distributed.sharding import table
    from research.experiment import build
    from research.runs.experiment_file import load
    from research.runs.opened import knob_values

    loaded = load(file)
    built = build(
        loaded.function(**knob_values(loaded, knobs)), devices=topology_devices(topology) if topology else None
    )
    print(f"{described(plan(built))}\n\n{table(built.abstract)}")


def doctor(
    file: str, *, rate_test: bool = True, seed: int = 0, runs: str | None = None, folder: str | None = None, **knobs
) -> int:  # fmt: skip
    """Check an experiment before it runs, or a run by what it left.

    file (FILE|RUN): an experiment, such as experiments/digits.py; or a run folder
    rate_test (--no-rate): without the learning-rate test
    seed: of everything random (default 0)
    runs (DIR): where its folder is made (default $RESEARCH_RUNS or runs)
    folder (DIR): this very folder, for doctor.html and its pictures
    """
    from research.diagnose.doctor import doctor

    found = doctor(file, rate_test=rate_test, seed=seed, runs=runs, folder=folder, **knobs)
    return int(any(finding.problem for finding in found))
