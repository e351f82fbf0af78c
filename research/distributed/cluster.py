"""The processes of this job, read from the environment variables that launchers set.

| source       | variables                                                                                |
|--------------|------------------------------------------------------------------------------------------|
| explicit     | RESEARCH_COORDINATOR=host:port, RESEARCH_PROCESSES=n, RESEARCH_PROCESS=i                 |
| JobSet       | RESEARCH_COORDINATOR, RESEARCH_PROCESSES; the rank is JOB_COMPLETION_INDEX, plus         |
|              | JOB_INDEX * RESEARCH_PROCESSES_PER_JOB if there are several jobs                         |
| SLURM step   | SLURM_STEP_ID, SLURM_PROCID, SLURM_STEP_NUM_TASKS, SLURM_STEP_NODELIST; RESEARCH_PORT    |
| TPU VM       | RESEARCH_CLUSTER=tpu: everything is read from the metadata server                        |
| nothing      | one process; RESEARCH_PROCESSES=1 confirms it if a cluster is possible                   |

A complete first row with n=1 is a job of one process. Its CPU devices then reduce in the same order as several
processes would, so results match bit for bit. Without a job, more than two devices may differ in the last bits.

The first row with any variable set applies. An incomplete row is an error: a job that silently falls back to one
process would train the wrong batch on one host, or the same run n times.
"""

import zlib
from collections.abc import Mapping
from typing import NamedTuple

from research.errors import UserError, unknown

# Steps that SLURM creates itself: interactive shell, batch script, external. They contain no task of the user.
_NO_STEP = {str(number) for number in range(0xFFFFFFFA, 0xFFFFFFFF)}
_PORTS = range(15_000, 32_000)  # below the ephemeral ports of Linux
_ALONE = "set RESEARCH_PROCESSES=1 to run a single process"
# Unsupported launchers: {variable with the number of processes: name of the launcher}.
_FOREIGN = {"OMPI_COMM_WORLD_SIZE": "Open MPI", "PMI_SIZE": "MPI", "WORLD_SIZE": "torchrun or a PyTorchJob"}


class Cluster(NamedTuple):
    """The `rank` of `processes` and the host:port of rank 0; all None if TPU metadata provides them."""

    coordinator: str | None
    processes: int | None
    rank: int | None


TPU = Cluster(None, None, None)
_ONE = Cluster("", 1, 0)


def resolve(env: Mapping[str, str]) -> Cluster | None:
    """Return the Cluster that an environment describes; None for a single process. A pure function.

    Raises UserError, with the remedy, if the environment describes a cluster incompletely.
    """
    for cluster in (_explicit(env), _tpu(env), _slurm(env)):
        if cluster is not None:
            return None if cluster == _ONE else cluster
    _refuse_foreign(env)
    return None


def _explicit(env):
    names = ("RESEARCH_COORDINATOR", "RESEARCH_PROCESSES", "RESEARCH_PROCESS")
    present = [name for name in names if env.get(name)]
    if not present:
        return None
    if present == ["RESEARCH_PROCESSES"] and _number(env, "RESEARCH_PROCESSES", minimum=1) == 1:
        return _ONE
    rank = "RESEARCH_PROCESS" if env.get("RESEARCH_PROCESS") else "JOB_COMPLETION_INDEX"
    missing = [name for name in names[:2] if not env.get(name)] + ([] if env.get(rank) else [names[2]])
    if missing:
        raise UserError(
            f"the environment has {', '.join(present)} but no {' and no '.join(missing)}: a job of several processes "
            f"needs RESEARCH_COORDINATOR=host:port, RESEARCH_PROCESSES=n and, per process, RESEARCH_PROCESS=0 to n-1. "
            f"Set all three or none of them; {_ALONE}."
        )
    processes = _number(env, "RESEARCH_PROCESSES", minimum=1)
    index = _number(env, rank)
    if rank == "JOB_COMPLETION_INDEX" and env.get("JOB_INDEX"):
        job = _number(env, "JOB_INDEX")
        if job and not env.get("RESEARCH_PROCESSES_PER_JOB"):
            raise UserError(
                f"JOB_INDEX={job}, but no RESEARCH_PROCESSES_PER_JOB: the pods of several jobs would have the same "
                "ranks. Set it to the number of pods per job."
            )
        index += job * (_number(env, "RESEARCH_PROCESSES_PER_JOB", minimum=1) if job else 0)
    return _checked(Cluster(_address(env["RESEARCH_COORDINATOR"]), processes, index), rank)


def _tpu(env):
    cluster = env.get("RESEARCH_CLUSTER")
    if cluster not in (None, "", "tpu"):
        raise unknown("RESEARCH_CLUSTER", cluster, ["tpu"])
    return TPU if cluster else None


def _slurm(env):
    job, step = env.get("SLURM_JOB_ID"), env.get("SLURM_STEP_ID")
    if not job and not step:
        return None
    if not step or step in _NO_STEP:
        names = ("SLURM_NTASKS", "SLURM_JOB_NUM_NODES", "SLURM_NNODES")
        tasks = max([1, *(_number(env, name) for name in names if env.get(name))])
        if tasks > 1:
            raise UserError(
                f"SLURM job {job} has {tasks} tasks or nodes, but this process belongs to none of its steps: without "
                f"srun only one process starts. Start it with srun; {_ALONE}."
            )
        return _ONE
    count = "SLURM_STEP_NUM_TASKS" if env.get("SLURM_STEP_NUM_TASKS") else "SLURM_NTASKS"
    required = ("SLURM_JOB_ID", count, "SLURM_PROCID", "SLURM_STEP_NODELIST")
    if missing := [name for name in required if not env.get(name)]:
        raise UserError(
            f"SLURM_STEP_ID={step}, but no {' and no '.join(missing)}: the environment of this SLURM step is "
            f"incomplete, as in a shell opened by ssh. Start the process with srun; {_ALONE}."
        )
    if env[count] == "1":
        return _ONE
    if env.get("RESEARCH_PORT"):
        port = _number(env, "RESEARCH_PORT", minimum=1)
    else:
        # Two steps on one node must not share a port: gRPC would let both listen on it and mix their processes.
        attempt = f"{job}.{step}.{env.get('SLURM_RESTART_COUNT') or 0}"
        port = _PORTS[zlib.crc32(attempt.encode()) % len(_PORTS)]
    address = _address(f"{first_host(env['SLURM_STEP_NODELIST'])}:{port}")
    return _checked(Cluster(address, _number(env, count, minimum=1), _number(env, "SLURM_PROCID")), "SLURM_PROCID")


def first_host(nodelist: str) -> str:
    """Return the first host of a SLURM node list: `a1` of `a1,b2`, `n007` of `n[007-012,20],m1`."""
    host, bracket, rest = nodelist.partition("[") if "[" in nodelist.split(",")[0] else (nodelist.split(",")[0], "", "")
    if not bracket:
        return host
    numbers, _, tail = rest.partition("]")
    return host + numbers.replace("-", ",").split(",")[0] + tail.split(",")[0]


def _refuse_foreign(env):
    if env.get("JOB_COMPLETION_INDEX"):
        raise UserError(
            f"JOB_COMPLETION_INDEX={env['JOB_COMPLETION_INDEX']} indicates a pod of an indexed Kubernetes Job, but "
            "RESEARCH_COORDINATOR=host:port and RESEARCH_PROCESSES=n are not set. Set both, or launch with "
            f"python -m launch kubernetes; {_ALONE}."
        )
    hosts = (env.get("TPU_WORKER_HOSTNAMES") or "").split(",")
    foreign = [(name, who, env[name]) for name, who in _FOREIGN.items() if env.get(name, "1") not in ("", "1")]
    if len(hosts) > 1:
        foreign.append(("TPU_WORKER_HOSTNAMES", "a slice of several TPU hosts", ",".join(hosts)))
    for name, launcher, value in foreign:
        raise UserError(
            f"{name}={value}: this process seems to be one of several, started by {launcher}, whose variables are not "
            f"supported. Set RESEARCH_COORDINATOR, RESEARCH_PROCESSES and RESEARCH_PROCESS (on a TPU VM: "
            f"RESEARCH_CLUSTER=tpu); {_ALONE}."
        )


def _number(env, name, *, minimum=0) -> int:
    text = env[name]
    if not (text.isascii() and text.isdigit()) or int(text) < minimum:
        raise UserError(f"{name}={text!r}; expected an integer of at least {minimum}.")
    return int(text)


def _address(text) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(f"the coordinator address is {text!r}; expected host:port, such as node1:29500.")
    return text


def _checked(cluster, name):
    if cluster.rank >= cluster.processes:
        raise UserError(
            f"{name} makes this rank {cluster.rank} of {cluster.processes} processes; expected 0 to "
            f"{cluster.processes - 1}."
        )
    return cluster
