"""Run an experiment in a SLURM allocation: a batch job, or an array over seeds or sweep workers, that requeues itself.

The script relies on observed behaviour of SLURM. A job that exits within the grace time of a preemption is not
requeued; the script therefore requeues it. The exit status of a task cannot request this, because the first task to
exit makes `--kill-on-bad-exit` end the others. One element of an array has the ID of the entire array; the script
therefore addresses elements as ID_INDEX.
"""

import glob
import shlex
from collections.abc import Mapping
from typing import Any

from launch.life import AGAIN
from launch.plan import Job, Plan, folded, launched, one_line, submit
from research.errors import UserError

__all__ = ["arguments", "cancel", "logs", "plan", "status", "submit"]

# A user's `scancel JOB`, and SLURM's own requeue after a lost node, take a job out of RUNNING before the script ends.
TEMPLATE = """\
#!/bin/bash
{options}
job=${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}
job=$job${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}
say() {{ echo "[$(date +%T)] $job, restart ${{SLURM_RESTART_COUNT:-0}}: $*"; }}
state() {{
    scontrol show job --oneliner "$job" | grep -o 'JobState=[A-Z_]*'
}}
export RESEARCH_STATUS_FILE={folder}/$job.json
signalled=
near() {{
    signalled=1
    say "the time limit is near: saving"
    scancel --signal=TERM "$job"
}}
trap near USR1
trap 'signalled=1; say "stop requested: saving"' TERM

{python} -m launch.life --max-restarts {max_restarts} -- \\
    {command} &
life=$!
# A signal interrupts the wait.
while wait $life; kill -0 $life 2>/dev/null; do :; done
wait $life
code=$?

case $code in
0) exit 0 ;;
{again}) say "stopped and saved" ;;
*) # An error ends the job, except after a lost node or a signal that came
    # before the process could handle it.
    [ "$signalled" ] || ! timeout 60 srun --overlap --ntasks="$SLURM_NNODES" \\
        --ntasks-per-node=1 true || exit $code
    say "stop requested, or a node does not respond" ;;
esac
if [ "$(state)" != JobState=RUNNING ]; then
    say "$(state), not by this script: not requeued here"
    exit $code
fi
say requeue
scontrol requeue "$job" && exec sleep 60 # until SLURM ends this attempt
exit 1
"""


def arguments(parser):
    """Add the resource options of a SLURM job."""
    parser.add_argument("--nodes", type=int, default=1, metavar="N")
    parser.add_argument("--tasks-per-node", type=int, default=1, metavar="N", help="processes; one drives all GPUs")
    parser.add_argument("--gpus-per-node", type=int, default=0, metavar="N")
    parser.add_argument("--cpus-per-task", type=int, metavar="N")
    parser.add_argument("--mem", metavar="SIZE", help="memory per node, such as 64G")
    parser.add_argument("--time", metavar="TIME", help="such as 4:00:00; the job saves, then requeues")
    parser.add_argument("--partition", metavar="NAME")
    parser.add_argument("--account", metavar="NAME")
    parser.add_argument("--sbatch", action="append", default=[], metavar="OPTION", help="such as --sbatch=--qos=low")
    parser.add_argument("--warning", type=int, default=120, metavar="SECONDS", help="save this long before --time")
    parser.add_argument("--seeds", metavar="A:B", help="job array over seeds A to B-1, or a list: 0,3,7")
    parser.add_argument("--workers", type=int, metavar="N", help="job array of N sweep workers")
    parser.add_argument("--max-restarts", type=int, default=20, metavar="N")


def plan(job: Job, resources: Mapping[str, Any]) -> Plan:
    """Plan the batch script and the sbatch command. Raises UserError if options contradict each other."""
    r = dict(resources)
    if r["seeds"] and r["workers"]:
        raise UserError("--seeds and --workers both make a job array; use only one of them.")
    if r["seeds"] and (job.given("--seed", "--run-dir") or job.arguments[0] != "train"):
        raise UserError("--seeds needs a train command and sets the seed of each element; remove --seed and --run-dir.")
    if r["gpus_per_node"] and r["tasks_per_node"] > 1:
        raise UserError("one process drives all GPUs of its node; use --tasks-per-node 1.")
    array = _array(r["seeds"]) if r["seeds"] else f"0-{r['workers'] - 1}" if r["workers"] else None
    options = {
        "job-name": job.name,
        "output": f"{job.folder.replace('%', '%%')}/{'%A_%a' if array else '%j'}.out",
        "open-mode": "append",
        "requeue": True,
        "signal": f"B:USR1@{r['warning']}",
        "nodes": r["nodes"],
        "ntasks-per-node": r["tasks_per_node"],
        "gpus-per-node": r["gpus_per_node"],
        "array": array,
        **{name: r[name.replace("-", "_")] for name in ("cpus-per-task", "mem", "time", "partition", "account")},
    }
    lines = [_directive(f"--{name}" if v is True else f"--{name}={v}") for name, v in options.items() if v]
    lines += [one_line("--sbatch", option) for option in r["sbatch"]]
    # Since 22.05, srun does not inherit this option from sbatch.
    cpus = [f"--cpus-per-task={r['cpus_per_task']}"] if r["cpus_per_task"] else []
    command = folded(("srun", "--kill-on-bad-exit=1", *cpus, *job.command()), indent=" " * 8)
    command += ' \\\n        --seed "$SLURM_ARRAY_TASK_ID"' if r["seeds"] else ""
    script = TEMPLATE.format(
        options="\n".join(f"#SBATCH {line}" for line in lines), folder=shlex.quote(job.folder),
        python=shlex.quote(job.python), command=command, max_restarts=r["max_restarts"],
        again=AGAIN,
    )  # fmt: skip
    path = f"{job.folder}/job.sbatch"
    return Plan({path: script}, (("sbatch", path),))


def _directive(option):
    """Quote an option for an #SBATCH line. Raises UserError for characters that sbatch would not read back."""
    name, _, value = option.partition("=")
    if unusable := sorted(set(value) & set("\\'\"")):
        raise UserError(f"{name} has {' and '.join(unusable)} in {value!r}, which sbatch reads as quoting; rename it.")
    return shlex.quote(one_line(name, option))


def _array(seeds):
    """Convert `0:5` or `0,3,7` to the array syntax of SLURM."""
    first, colon, end = seeds.partition(":")
    numbers = [first, end] if colon else seeds.split(",")
    if not all(n.isascii() and n.isdigit() for n in numbers) or (colon and int(first) >= int(end)):
        raise UserError(f"--seeds must be A:B with A < B, or a list such as 0,3,7; got {seeds!r}.")
    return f"{first}-{int(end) - 1}" if colon else seeds


def status(job: str) -> tuple[tuple[str, ...], ...]:
    """Return the commands that show a job, or all elements of an array."""
    return (("squeue", "--jobs", job, "--format", "%.18i %.9P %.30j %.10T %.10M %.20S %R"),)


def cancel(job: str) -> tuple[tuple[str, ...], ...]:
    """Return the commands that end a job permanently: it saves and is not requeued."""
    return (("scancel", job),)


def logs(job: str) -> tuple[tuple[str, ...], ...]:
    """Return the commands that follow the output of a job or array. Raises UserError if there is no output."""
    folder, name = glob.escape(launched()), glob.escape(job)
    paths = sorted(path for end in (".out", "_*.out") for path in glob.glob(f"{folder}/*/{name}{end}"))
    if not paths:
        raise UserError(f"no output of job {job} under {launched()} yet.")
    return (("tail", "-n", "+1", "-F", *paths),)
