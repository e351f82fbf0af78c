"""Verbs that check an experiment before training, or a run by its records."""


def plan(file: str, *, topology: str | None = None, advise: bool = False, **knobs):
    """Estimate memory, FLOPs and the least time per step, and list all parameters, without running a step.

    Name patterns of optimizers, freezing and sharding match the part of a name after `params/`.

    file: an experiment file, such as experiments/digits.py
    topology (NAME): compile for devices that this machine does not have, such as v5e:4x4
    advise: compile for every mesh of the devices, and advise the one with the least time by the roofline that fits
    """
    import jax

    from research.diagnose import advice
    from research.diagnose.cost import described, plan, topology_devices
    from research.distributed.sharding import table
    from research.errors import own_line
    from research.experiment import build
    from research.runs.experiment_file import load
    from research.runs.opened import knob_values, make_experiment

    loaded = load(file)
    values, devices = knob_values(loaded, knobs), topology_devices(topology) if topology else None
    with own_line(loaded.files):
        experiment = make_experiment(loaded, values)
        if advise:
            print(advice.described(advice.advise(experiment, devices=devices or jax.devices())))
            return
        built = build(experiment, devices=devices)
    print(f"{described(plan(built))}\n\n{table(built.abstract)}")


def doctor(
    file: str, *, rate_test: bool = True, seed: int = 0, runs: str | None = None, folder: str | None = None, **knobs
) -> int:  # fmt: skip
    """Check an experiment before training, or a run by its records, without running the code in its folder.

    Exits with status 1 if a check finds a problem.

    file (FILE|RUN): an experiment file, such as experiments/digits.py, or a run folder
    rate_test (--no-rate): skip the learning-rate range test
    seed: the seed of all random numbers (default 0)
    runs (DIR): parent folder of the output folder (default $RESEARCH_RUNS or runs)
    folder (DIR): the output folder, for doctor.html and its figures
    """
    from research.diagnose.doctor import doctor

    findings = doctor(file, rate_test=rate_test, seed=seed, runs=runs, folder=folder, **knobs)
    return int(any(finding.problem for finding in findings))
