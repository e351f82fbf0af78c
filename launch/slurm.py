"""A SLURM allocation: one batch job, or an array of them over seeds or sweep workers, that requeues itself.

Facts behind the script, seen on a real SLURM: a job that leaves within the grace time of a preemption is not
requeued, so it asks for that itself; an exit status cannot ask, for the first task that leaves makes
`--kill-on-bad-exit` end the others; of an array, one element bears the id of the whole, so elements go by ID_INDEX.
"""

import glob
import shlex
from collections.abc import Mapping
from typing import Any

from launch.life import AGAIN
from launch.plan import Job, Plan, launched, submit
from research.errors import UserError

__all__ = ["arguments", "cancel", "logs", "plan", "status", "submit"]

# `scancel JOB` by a person, and SLURM's own requeue after a lost node, take a job out of RUNNING before its end.
TEMPLATE = """\
#!/bin/bash
{options}
job=${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}${{SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}}
say() {{ echo "[$(date +%T)] $job, restart ${{SLURM_RESTART_COUNT:-0}}: $*"; }}
state() {{ scontrol show job --oneliner "$job" | grep -o 'JobState=[A-Z_]*'; }}
export RESEARCH_STATUS_FILE={folder}/$job.json
told=
trap 'told=1; say "the time limit is near: saving"; scancel --signal=TERM "$job"' USR1
trap 'told=1; say "told to end: saving"' TERM

{python} -m launch.life --max-restarts {max_restarts} -- \\
    srun --kill-on-bad-exit=1 {cpus}{command} &
life=$!
while wait $life; kill -0 $life 2>/dev/null; do :; done # a signal interrupts the wait
wait $life
code=$?

case $code in
0) exit 0 ;;
{again}) say "saved before its end" ;;
*) # A mistake or an exception ends the job. It goes on where a node was lost, or where it was told before it listened.
    [ "$told" ] || ! timeout 60 srun --overlap --ntasks="$SLURM_NNODES" --ntasks-per-node=1 true || exit $code
    say "it was told to end, or a node does not answer" ;;
esac
if [ "$(state)" != JobState=RUNNING ]; then
    say "$(state), by another hand: not requeued here"
    exit $code
fi
say requeue
scontrol requeue "$job" && exec sleep 60 # until SLURM ends this life
exit 1
"""


def arguments(parser):
    """Adds the resources of a SLURM job."""
    parser.add_argument("--nodes", type=int, default=1, metavar="N")
    parser.add_argument("--tasks-per-node", type=int, default=1, metavar="N", help="processes; one drives all GPUs")
    parser.add_argument("--gpus-per-node", type=int, default=0, metavar="N")
    parser.add_argument("--cpus-per-task", type=int, metavar="N")
    parser.add_argument("--mem", metavar="SIZE", help="memory per node, such as 64G")
    parser.add_argument("--time", metavar="TIME", help="such as 4:00:00; the job saves before, and goes on after")
    parser.add_argument("--partition", metavar="NAME")
    parser.add_argument("--account", metavar="NAME")
    parser.add_argument("--sbatch", action="append", default=[], metavar="OPTION", help="such as --sbatch=--qos=low")
    parser.add_argument("--warning", type=int, default=120, metavar="SECONDS", help="before the time limit, to save")
    parser.add_argument("--seeds", metavar="A:B", help="an array of jobs with the seeds A to B-1; or a list: 0,3,7")
    parser.add_argument("--workers", type=int, metavar="N", help="an array of N equal jobs: the workers of a sweep")
    parser.add_argument("--max-restarts", type=int, default=20, metavar="N")


def plan(job: Job, resources: Mapping[str, Any]) -> Plan:
    """The batch script, and the sbatch that queues it. Raises UserError where the resources contradict one another."""
    r = dict(resources)
    if r["seeds"] and r["workers"]:
        raise UserError("--seeds and --workers are two kinds of array; give one of them.")
    if r["seeds"] and (job.given("--seed", "--run-dir") or job.arguments[0] != "train"):
        raise UserError(
            "--seeds is of a train command, and gives each element its seed: leave out --seed and --run-dir."
        )
    if r["gpus_per_node"] and r["tasks_per_node"] > 1:
        raise UserError("one process drives all GPUs of its node; give --tasks-per-node 1.")
    array = _array(r["seeds"]) if r["seeds"] else f"0-{r['workers'] - 1}" if r["workers"] else None
    options = {
        "job-name": job.name,
        "output": f"{job.folder}/{'%A_%a' if array else '%j'}.out",
        "open-mode": "append",
        "requeue": True,
        "signal": f"B:USR1@{r['warning']}",
        "nodes": r["nodes"],
        "ntasks-per-node": r["tasks_per_node"],
        "gpus-per-node": r["gpus_per_node"],
        "array": array,
        **{name: r[name.replace("-", "_")] for name in ("cpus-per-task", "mem", "time", "partition", "account")},
    }
    lines = [f"--{name}" if v is True else f"--{name}={v}" for name, v in options.items() if v]
    command = shlex.join(job.command()) + (' --seed "$SLURM_ARRAY_TASK_ID"' if r["seeds"] else "")
    # Since 22.05 srun does not take this over from sbatch.
    cpus = f"--cpus-per-task={r['cpus_per_task']} " if r["cpus_per_task"] else ""
    script = TEMPLATE.format(
        options="\n".join(f"#SBATCH {line}" for line in [*lines, *r["sbatch"]]), folder=shlex.quote(job.folder),
        python=shlex.quote(job.python), command=command, cpus=cpus, max_restarts=r["max_restarts"],
        again=AGAIN,
    )  # fmt: skip
    path = f"{job.folder}/job.sbatch"
    return Plan({path: script}, (("sbatch", path),))


def _array(seeds):
    """`0:5` or `0,3,7` as SLURM writes it."""
    first, colon, end = seeds.partition(":")
    numbers = [first, end] if colon else seeds.split(",")
    if not all(n.isdigit() for n in numbers) or (colon and int(first) >= int(end)):
        raise UserError(f"--seeds takes A:B with A below B, or a list such as 0,3,7; not {seeds!r}.")
    return f"{first}-{int(end) - 1}" if colon else seeds


def status(job: str) -> tuple[tuple[str, ...], ...]:
    """The commands that show a job, or all elements of an array."""
    return (("squeue", "--jobs", job, "--format", "%.18i %.9P %.30j %.10T %.10M %.20S %R"),)


def cancel(job: str) -> tuple[tuple[str, ...], ...]:
    """The commands that end a job for good: it saves, and is not requeued."""
    return (("scancel", job),)


def logs(job: str) -> tuple[tuple[str, ...], ...]:
    """The commands that follow the output of a job, or of all elements of an array. Raises UserError for none."""
    found = sorted(path for end in (".out", "_*.out") for path in glob.glob(f"{launched()}/*/{job}{end}"))
    if not found:
        raise UserError(f"no output of job {job} below {launched()} yet.")
    return (("tail", "-n", "+1", "-F", *found),)
