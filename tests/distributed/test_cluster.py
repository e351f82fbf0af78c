"""The contract: whole clusters are read, half ones refused with their cure, and nothing is guessed."""

import pytest

from research.distributed.cluster import TPU, Cluster, first_host, resolve
from research.errors import UserError

EXPLICIT = {"RESEARCH_COORDINATOR": "node1:29500", "RESEARCH_PROCESSES": "4", "RESEARCH_PROCESS": "2"}
POD = {"RESEARCH_COORDINATOR": "js-0-0.js:29500", "RESEARCH_PROCESSES": "8", "JOB_COMPLETION_INDEX": "3"}
STEP = {
    "SLURM_JOB_ID": "77", "SLURM_STEP_ID": "0", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NODELIST": "gpu[003-004,9]", "SLURM_NTASKS": "2", "SLURM_JOB_NUM_NODES": "2",
}  # fmt: skip


def without(env, *names):
    return {name: value for name, value in env.items() if name not in names}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, None),
        ({"PATH": "/bin", "RESEARCH_RUNS": "/runs", "RESEARCH_PROCESSES": ""}, None),
        (EXPLICIT, Cluster("node1:29500", 4, 2)),
        ({**EXPLICIT, **STEP, "RESEARCH_PROCESS": "0"}, Cluster("node1:29500", 4, 0)),
        ({**EXPLICIT, "JOB_COMPLETION_INDEX": "1"}, Cluster("node1:29500", 4, 2)),
        ({**EXPLICIT, "RESEARCH_COORDINATOR": "[::1]:80"}, Cluster("[::1]:80", 4, 2)),
        ({"RESEARCH_PROCESSES": "1"}, None),
        ({**STEP, "RESEARCH_PROCESSES": "1"}, None),
        ({"RESEARCH_PROCESSES": "1", "RESEARCH_PROCESS": "0", "RESEARCH_COORDINATOR": "a:1"}, Cluster("a:1", 1, 0)),
        ({"JOB_COMPLETION_INDEX": "2", "RESEARCH_PROCESSES": "1"}, None),
        (POD, Cluster("js-0-0.js:29500", 8, 3)),
        ({**POD, "JOB_INDEX": "0"}, Cluster("js-0-0.js:29500", 8, 3)),
        ({**POD, "JOB_INDEX": "1", "RESEARCH_PROCESSES_PER_JOB": "4"}, Cluster("js-0-0.js:29500", 8, 7)),
        ({**STEP, "RESEARCH_PORT": "999"}, Cluster("gpu003:999", 2, 1)),
        ({**without(STEP, "SLURM_STEP_NUM_TASKS"), "RESEARCH_PORT": "999"}, Cluster("gpu003:999", 2, 1)),
        ({**STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}, None),
        ({"SLURM_JOB_ID": "77", "SLURM_NTASKS": "1", "SLURM_JOB_NUM_NODES": "1", "SLURM_PROCID": "0"}, None),
        ({"SLURM_JOB_ID": "77"}, None),
        ({"RESEARCH_CLUSTER": "tpu"}, TPU),
        ({"RESEARCH_CLUSTER": "tpu", "TPU_WORKER_HOSTNAMES": "a,b"}, TPU),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
        ({"WORLD_SIZE": "1", "OMPI_COMM_WORLD_SIZE": "1"}, None),
        ({**STEP, "PMI_SIZE": "2", "RESEARCH_PORT": "9"}, Cluster("gpu003:9", 2, 1)),
    ],
)
def test_what_is_whole_is_read(env, expected):
    assert resolve(env) == expected


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (without(EXPLICIT, "RESEARCH_PROCESS"), "no RESEARCH_PROCESS:"),
        (without(EXPLICIT, "RESEARCH_PROCESSES"), "no RESEARCH_PROCESSES:"),
        (without(EXPLICIT, "RESEARCH_COORDINATOR"), "no RESEARCH_COORDINATOR:"),
        ({"RESEARCH_PROCESSES": "2"}, "no RESEARCH_COORDINATOR and no RESEARCH_PROCESS:"),
        ({"RESEARCH_PROCESS": "0"}, "no RESEARCH_COORDINATOR and no RESEARCH_PROCESSES:"),
        ({**STEP, "RESEARCH_COORDINATOR": "a:1"}, "RESEARCH_PROCESSES=1 to run a single process"),
        ({**EXPLICIT, "RESEARCH_PROCESS": "4"}, "rank 4 of 4 processes"),
        ({**EXPLICIT, "RESEARCH_PROCESS": "-1"}, "RESEARCH_PROCESS='-1'"),
        ({**EXPLICIT, "RESEARCH_PROCESSES": "0"}, "RESEARCH_PROCESSES='0'; expected an integer of at least 1"),
        ({**EXPLICIT, "RESEARCH_PROCESSES": "two"}, "RESEARCH_PROCESSES='two'"),
        *[
            ({**EXPLICIT, "RESEARCH_COORDINATOR": text}, "expected host:port")
            for text in ("a", "a:", ":1", "a:x", "a:0")
        ],
        ({**EXPLICIT, "RESEARCH_COORDINATOR": "a:65536"}, "expected host:port"),
        ({**POD, "JOB_COMPLETION_INDEX": "8"}, "JOB_COMPLETION_INDEX makes this rank 8 of 8"),
        ({**POD, "JOB_INDEX": "1"}, "no RESEARCH_PROCESSES_PER_JOB"),
        ({**POD, "JOB_INDEX": "2", "RESEARCH_PROCESSES_PER_JOB": "4"}, "rank 11 of 8"),
        (without(POD, "RESEARCH_PROCESSES"), "no RESEARCH_PROCESSES:"),
        ({"JOB_COMPLETION_INDEX": "0"}, "a pod of an indexed Kubernetes Job"),
        (without(STEP, "SLURM_STEP_ID"), "has 2 tasks or nodes, but this process belongs to none of its steps"),
        ({**STEP, "SLURM_STEP_ID": "4294967290"}, "Start it with srun; set RESEARCH_PROCESSES=1"),
        ({"SLURM_JOB_ID": "77", "SLURM_JOB_NUM_NODES": "2"}, "has 2 tasks or nodes"),
        ({"SLURM_JOB_ID": "77", "SLURM_NTASKS": "many"}, "SLURM_NTASKS='many'"),
        (without(STEP, "SLURM_PROCID"), "no SLURM_PROCID"),
        (without(STEP, "SLURM_STEP_NODELIST"), "no SLURM_STEP_NODELIST"),
        (without(STEP, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"), "no SLURM_NTASKS"),
        ({"SLURM_STEP_ID": "0"}, "no SLURM_JOB_ID"),
        ({**STEP, "SLURM_PROCID": "2"}, "SLURM_PROCID makes this rank 2 of 2"),
        ({**STEP, "RESEARCH_PORT": "70000"}, "expected host:port"),
        ({"RESEARCH_CLUSTER": "tpus"}, "unknown RESEARCH_CLUSTER 'tpus'. Did you mean 'tpu'?"),
        ({"OMPI_COMM_WORLD_SIZE": "4"}, "started by Open MPI"),
        ({"PMI_SIZE": "2"}, "started by MPI"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE=2"),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, "RESEARCH_CLUSTER=tpu"),
    ],
)
def test_what_is_half_is_refused(env, words):
    with pytest.raises(UserError) as error:
        resolve(env)
    assert words in str(error.value)


def test_two_steps_and_two_lives_have_ports_of_their_own_and_all_tasks_the_same():
    lives = [{**STEP, "SLURM_STEP_ID": s, "SLURM_RESTART_COUNT": r} for s in "01" for r in "01"]
    ports = {resolve(env).coordinator for env in lives}
    assert len(ports) == 4 and all(15_000 <= int(port.split(":")[1]) < 32_000 for port in ports)
    assert resolve({**STEP, "SLURM_PROCID": "0"}).coordinator == resolve(STEP).coordinator
    assert resolve({**STEP, "SLURM_RESTART_COUNT": "0"}) == resolve(STEP)


@pytest.mark.parametrize(
    ("nodelist", "host"),
    [
        ("a", "a"), ("a,b", "a"), ("n[7]", "n7"), ("n[007-012,20],m1", "n007"), ("n[1,5]", "n1"), ("n[3-4]x", "n3x"),
        ("a1,n[2-3]", "a1"), ("n[3-4]-ib,m", "n3-ib"), ("rack-1-n[01-02]", "rack-1-n01"),
    ],
)  # fmt: skip
def test_the_first_host_of_a_node_list(nodelist, host):
    assert first_host(nodelist) == host
