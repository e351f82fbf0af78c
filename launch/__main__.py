"""The command line: `python -m launch PLACE FILE [knobs] -- [resources]`. Mistakes are found here, not in the queue."""

import re
import sys
import time
from pathlib import Path

from launch import kubernetes, local, slurm, tpu_vm
from launch.plan import Job, call, launched
from research.cli._command import parsed
from research.errors import UserError, run_command, unknown
from research.runs.knobs import Parser

PLACES = {"local": local, "slurm": slurm, "kubernetes": kubernetes, "tpu-vm": tpu_vm}
VERBS = ("status", "logs", "cancel")
USAGE = f"""\
usage: python -m launch PLACE FILE [knobs and options of train] -- [resources] [--dry-run]
       python -m launch PLACE sweep FOLDER -- [resources] [--dry-run]
       python -m launch {"|".join(VERBS)} PLACE JOB [-- more for the program behind it]

  PLACE      {", ".join(PLACES)}
  resources  python -m launch PLACE --help lists them
  sweep      workers for the FOLDER of a sweep (python -m research sweep FILE ... --workers 0 makes it)
  --dry-run  shows what would be written and run
"""


def main(arguments=None) -> int:
    """Runs one command; gives the exit status. Mistakes are one message; `--debug` shows the traceback."""
    return run_command(_dispatch, arguments)


def _dispatch(arguments):
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    first, *rest = arguments
    at = rest.index("--") if "--" in rest else len(rest)
    before, after = rest[:at], rest[at + 1 :]
    if first in VERBS:
        return _ask(first, before, after)
    if first not in PLACES:
        raise unknown("place", first, [*PLACES, *VERBS])
    place = PLACES[first]
    parser = Parser(prog=f"python -m launch {first} FILE [knobs] --", description=place.__doc__)
    parser.add_argument("--dry-run", action="store_true", help="show what would be written and run")
    place.arguments(parser)
    if not before or {"-h", "--help"} & {*before, *after}:
        parser.print_help()
        return 0
    resources = vars(parser.parse_args([*after, *(a for a in before if a == "--dry-run")]))
    dry = resources.pop("dry_run")
    plan = place.plan(job_of([a for a in before if a != "--dry-run"]), resources)
    if dry:
        print(plan)
        return 0
    return place.submit(plan)


def _ask(verb, given, more):
    """status, logs or cancel: the commands of the place, each with `more` at its end."""
    places = {name: place for name, place in PLACES.items() if hasattr(place, verb)}
    if len(given) != 2:
        raise UserError(f"python -m launch {verb} takes PLACE and JOB, where PLACE is one of {', '.join(places)}.")
    if given[0] not in places:
        raise unknown(f"place for {verb}", given[0], places)
    return max(call((*command, *more)) for command in getattr(places[given[0]], verb)(given[1]))


def job_of(arguments) -> Job:
    """The Job of `FILE [knobs]` or `sweep FOLDER`. Raises UserError for what the job itself would refuse: a file, a
    knob or a value.
    """
    file, *rest = arguments
    if file == "sweep":
        if len(rest) != 1 or not Path(rest[0]).is_dir():
            raise UserError(f"sweep takes the folder of a sweep, not {' '.join(rest) or 'nothing'}; see --help.")
        return _job(("sweep", "--worker", *rest), f"sweep-{Path(rest[0]).name}")
    if file.startswith("-"):
        raise UserError(f"FILE comes first, before {file}.")
    # Late, since they import JAX: the other commands start at once.
    from research.runs.experiment_file import load
    from research.runs.opened import knob_values
    from research.verbs import RUN_OPTIONS, train

    (file,), given = parsed(train, arguments, prog="python -m launch PLACE")
    loaded = load(file)
    knob_values(loaded, {name: value for name, value in given.items() if name not in RUN_OPTIONS})
    path = Path(file).absolute()
    here = path.is_relative_to(Path.cwd())
    return _job(("train", str(path.relative_to(Path.cwd()) if here else path), *rest), path.stem)


def _job(arguments, name):
    # What every queue takes: Kubernetes wants a DNS label, and puts more behind it.
    name = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:30]
    name = f"{name if name[:1].isalpha() else 'job' + name}-{time.strftime('%m%d-%H%M%S')}"
    return Job(arguments, name, f"{launched()}/{name}")


if __name__ == "__main__":
    sys.exit(main())
