"""The command line `python -m launch PLACE FILE [knobs] -- [resources]`; it reports errors before a job is queued."""

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
usage: python -m launch PLACE FILE [OPTIONS] -- [RESOURCES] [--dry-run]
       python -m launch PLACE sweep FOLDER -- [RESOURCES] [--dry-run]
       python -m launch {"|".join(VERBS)} PLACE JOB [-- OPTIONS]

  PLACE      {", ".join(PLACES)}
  OPTIONS    knobs of the experiment and options of train; after a JOB, options
             of the underlying program
  RESOURCES  python -m launch PLACE --help lists them
  sweep      start workers for the sweep in FOLDER; create it with
             python -m research sweep FILE ... --workers 0
  --dry-run  print the files and commands; write and run nothing
"""


def main(arguments=None) -> int:
    """Run one command and return its exit status. A user error prints one message; `--debug` shows the traceback."""
    return run_command(_dispatch, arguments)


def _dispatch(arguments):
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    first, *rest = arguments
    at = rest.index("--") if "--" in rest else len(rest)
    before, after = rest[:at], rest[at + 1 :]
    if first in VERBS:
        return _run_verb(first, before, after)
    if first not in PLACES:
        raise unknown("place", first, [*PLACES, *VERBS])
    place = PLACES[first]
    parser = Parser(prog=f"python -m launch {first} FILE [knobs] --", description=place.__doc__)
    parser.add_argument("--dry-run", action="store_true", help="print the files and commands; write and run nothing")
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


def _run_verb(verb, arguments, options):
    """Run the place's commands for status, logs or cancel, with `options` appended to each."""
    places = {name: place for name, place in PLACES.items() if hasattr(place, verb)}
    if len(arguments) != 2:
        raise UserError(f"python -m launch {verb} expects PLACE and JOB; PLACE is one of {', '.join(places)}.")
    place, job = arguments
    if place not in places:
        raise unknown(f"place for {verb}", place, places)
    return max(call((*command, *options)) for command in getattr(places[place], verb)(job))


def job_of(arguments) -> Job:
    """Return the Job of `FILE [knobs]` or `sweep FOLDER`.

    Raises UserError for a file, knob or value that the job itself would reject.
    """
    file, *rest = arguments
    if file == "sweep":
        if len(rest) != 1 or not Path(rest[0]).is_dir():
            raise UserError(f"sweep expects the folder of a sweep, got {' '.join(rest) or 'nothing'}; see --help.")
        return _job(("sweep", "--worker", *rest), f"sweep-{Path(rest[0]).name}")
    if file.startswith("-"):
        raise UserError(f"FILE must come first, before {file}.")
    # Import late: these modules import JAX, which would slow the other commands.
    from research.runs.experiment_file import load
    from research.runs.knobs import knobs_of
    from research.runs.opened import knob_values
    from research.runs.secret import variable
    from research.verbs import RUN_OPTIONS, train

    (file,), options = parsed(train, arguments, prog="python -m launch PLACE")
    loaded = load(file)
    if secrets := [name for name, knob in knobs_of(loaded.function).items() if knob.secret and name in options]:
        raise UserError(
            f"the knob {secrets[0]!r} is secret, but the job's script would show its value. Set {variable(secrets[0])} "
            "in the environment of the job instead."
        )
    knob_values(loaded, {name: value for name, value in options.items() if name not in RUN_OPTIONS})
    path = Path(file).absolute()
    inside = path.is_relative_to(Path.cwd())
    return _job(("train", str(path.relative_to(Path.cwd()) if inside else path), *rest), path.stem)


def _job(arguments, name):
    # Valid for every queue. Kubernetes requires a DNS label and appends a suffix.
    name = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:30]
    name = f"{name if name[:1].isalpha() else 'job' + name}-{time.strftime('%m%d-%H%M%S')}"
    return Job(arguments, name, f"{launched()}/{name}")


if __name__ == "__main__":
    sys.exit(main())
