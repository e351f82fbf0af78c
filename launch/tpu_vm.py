"""Run an experiment on a Cloud TPU slice (queued resource): create, wait, copy the code, install, run, delete.

Everything is one shell script in the foreground, because an idle slice costs money. The script deletes the slice on
every exit, except with --keep or if it cannot copy the runs back.

States: https://cloud.google.com/tpu/docs/queued-resources
"""

import shlex
from collections.abc import Mapping
from typing import Any

from launch.life import AGAIN
from launch.plan import Job, Plan, copied, folded, pairs, submit
from research.errors import UserError

__all__ = ["arguments", "cancel", "logs", "plan", "status", "submit"]

TEMPLATE = """\
#!/bin/bash
set -uo pipefail
name={name}
code={folder}/code.tar.gz
place=({place})
queued() {{
    gcloud compute tpus queued-resources "$1" "$name" "${{place[@]}}" "${{@:2}}"
}}
copy() {{ gcloud compute tpus tpu-vm scp "${{place[@]}}" "$@"; }}
workers() {{
    gcloud compute tpus tpu-vm ssh "$name" "${{place[@]}}" --worker=all \\
        --command="$1" &
    wait $!
}}
say() {{ echo "[$(date +%T)] $name: $*" >&2; }}
state() {{ queued describe --format='value(state.state)'; }}
remove() {{ {remove}; }}
trap remove EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

life() {{
    queued create --node-id="$name" \\
        {resource} || return 1
    seen= unknown=0
    until [ "$seen" = ACTIVE ]; do
        if now=$(state); then
            unknown=0
        elif ((++unknown == 10)); then
            return 1
        else
            now=unknown
        fi
        [ "$now" = "$seen" ] || say "$now"
        seen=$now
        case $now in
        ACTIVE) ;;
        SUSPEND*) return {again} ;;
        FAILED | DELETING) queued describe; return 1 ;;
        *) sleep {poll} ;;
        esac
    done
    for try in 1 2 3; do # early attempts can precede the SSH keys
        copy --worker=all "$code" "$name:code.tar.gz" && break
        ((try < 3)) && sleep {poll} || return 1
    done
    workers {install} || return 1
    workers {run}
    result=$?
    if ((result)); then
        case $(state) in
        # An unresponsive worker is being preempted.
        ACTIVE) workers true || return {again} ;;
        SUSPEND*) return {again} ;;
        *) return $result ;; # deleted by someone else
        esac
    fi
    {fetch}
    return $result
}}

git ls-files -z --cached --others --exclude-standard |
    tar --null --files-from=- --ignore-failed-read -czf "$code" || exit 1
for ((restart = 0; ; restart++)); do
    life
    result=$?
    ((result == {again})) || exit $result
    say "the slice was preempted{advice}"
    ((restart < {max_restarts})) || exit 1
    remove
done
"""
FETCH = """\
copy --recurse --worker=0 "$name:code/runs" . || {
        say "cannot copy the runs: the slice is not deleted." \\
            "Fetch code/runs from it, then delete it."
        trap - EXIT
    }"""
# The Python of the runtime images is too old.
INSTALL = """\
curl -LsSf https://astral.sh/uv/install.sh | sh &&
~/.local/bin/uv venv --quiet --clear --python 3.12 ~/venv &&
~/.local/bin/uv pip install --quiet --python ~/venv/bin/python \\
    -c constraints.txt -e '.[tpu]'"""
METADATA = "http://metadata.google.internal/computeMetadata/v1/instance/attributes/agent-worker-number"
PYTHON = "~/venv/bin/python"


def arguments(parser):
    """Add the resource options of a TPU slice."""
    parser.add_argument("--accelerator", required=True, metavar="TYPE", help="such as v5litepod-16")
    parser.add_argument("--runtime", required=True, metavar="VERSION", help="such as v2-alpha-tpuv5-lite")
    parser.add_argument("--zone", required=True, metavar="ZONE")
    parser.add_argument("--project", metavar="PROJECT")
    parser.add_argument("--mount", metavar="COMMAND", help="mount a shared disk as `runs` on each worker")
    parser.add_argument("--spot", action="store_true", help="cheaper; requested again after preemption")
    parser.add_argument("--reserved", action="store_true")
    parser.add_argument("--wait", metavar="DURATION", help="give up if no slice comes in time, such as 6h")
    parser.add_argument("--create", action="append", default=[], metavar="OPTION", help="option for gcloud create")
    parser.add_argument("--setup", metavar="COMMAND", default=INSTALL, help="installs into ~/venv (default: with uv)")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--keep", action="store_true", help="do not delete the slice")
    parser.add_argument("--poll", type=float, default=30, metavar="SECONDS")
    parser.add_argument("--max-restarts", type=int, default=20, metavar="N", help="needs --mount")


def plan(job: Job, resources: Mapping[str, Any]) -> Plan:
    """Plan the script and the command that runs it. Raises UserError for options that a slice cannot honour."""
    r = dict(resources)
    if option := copied(job, "a TPU VM").given("--runs", "--run-dir"):
        raise UserError(f"{option}: on a slice, runs go to `runs` and are copied back (see --mount); remove it.")
    place = {"zone": r["zone"], "project": r["project"]}
    resource = {
        "accelerator-type": r["accelerator"],
        "runtime-version": r["runtime"],
        "spot": r["spot"],
        "reserved": r["reserved"],
        "valid-until-duration": r["wait"],
    }
    env = {
        "RESEARCH_CLUSTER": "tpu",
        "RESEARCH_STATUS_FILE": f"runs/launched/{job.name}/status.json",
        **pairs("--env", r["env"]),
    }
    unpack = "rm -rf code && mkdir -p code/runs &&\ntar -xzf code.tar.gz -C code && cd code"
    install = " &&\n".join([unpack, *filter(None, [r["mount"]]), r["setup"]])
    life = f'{PYTHON} -m launch.life --max-restarts {r["max_restarts"]} --worker "$worker" -- \\\n    {PYTHON}'
    run = (
        "cd code && set -o pipefail &&\n"
        f"metadata={METADATA} &&\n"
        "worker=$(curl -sf -H 'Metadata-Flavor: Google' $metadata) &&\n"
        f"{folded(('env', *(f'{k}={v}' for k, v in env.items())))} \\\n"
        f"    {life} {folded(job.command()[1:], width=56, indent=' ' * 8)} 2>&1 |\n"
        "tee ~/train.log"
    )
    script = TEMPLATE.format(
        name=job.name, folder=shlex.quote(job.folder), place=_flags(place), resource=_flags(resource, r["create"]),
        remove=shlex.join(("say", f"not deleted; delete it with {shlex.join(cancel(job.name)[0])} {_flags(place)}"))
        if r["keep"] else "queued delete --force --quiet",
        poll=r["poll"], again=AGAIN, install=shlex.quote(install),
        run=shlex.quote(run), fetch=":" if r["mount"] else FETCH,
        advice="" if r["mount"] else ';" \\\n        "with --mount, the runs survive and a new slice is requested',
        max_restarts=r["max_restarts"] if r["mount"] else 0,
    )  # fmt: skip
    path = f"{job.folder}/slice.sh"
    return Plan({path: script}, (("bash", path),))


def _flags(values, more=()):
    flags = [f"--{name}" if value is True else f"--{name}={value}" for name, value in values.items() if value]
    return folded([*flags, *more], width=68, indent=" " * 8)


def status(job: str) -> tuple[tuple[str, ...], ...]:
    """Return the commands that show a slice."""
    return (("gcloud", "compute", "tpus", "queued-resources", "describe", job),)


def cancel(job: str) -> tuple[tuple[str, ...], ...]:
    """Return the commands that end a slice permanently."""
    return (("gcloud", "compute", "tpus", "queued-resources", "delete", job, "--force", "--quiet"),)


def logs(job: str) -> tuple[tuple[str, ...], ...]:
    """Return the commands that follow the output of all workers."""
    follow = ("--worker=all", "--command=tail -n +1 -F train.log")
    return (("gcloud", "compute", "tpus", "tpu-vm", "ssh", job, *follow),)
