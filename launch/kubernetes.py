"""A Kubernetes JobSet: one pod a node, restarted together, with the runs on a volume that all pods share.

The manifest is JSON, which is YAML too. A YAML writer would leave `1e-3` bare among the arguments, and kubectl
would read a number where only texts may be.
"""

import json
from collections.abc import Mapping
from typing import Any

from launch.life import OVER
from launch.plan import Job, Plan, copied, pairs, submit
from research.errors import UserError

__all__ = ["arguments", "cancel", "logs", "plan", "status", "submit"]

PORT = 29500
RUNS = "/mnt/runs"  # where the pods see the volume
GRACE = 120  # seconds from SIGTERM to SIGKILL: to finish a step and save
LABEL = "jobset.sigs.k8s.io/"


def arguments(parser):
    """Adds the resources of a JobSet."""
    parser.add_argument("--image", required=True, metavar="IMAGE", help="made of launch/Dockerfile, in a registry")
    parser.add_argument("--volume", required=True, metavar="CLAIM", help="a ReadWriteMany volume claim, for the runs")
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="pods, each of them one process")
    parser.add_argument("--gpus-per-node", type=int, default=0, metavar="N")
    parser.add_argument("--gpu-type", metavar="TYPE", help="the label of GKE, such as nvidia-h100-80gb")
    parser.add_argument("--tpu-type", metavar="TYPE", help="the label of GKE, such as tpu-v5-lite-podslice")
    parser.add_argument("--tpu-topology", metavar="TOPOLOGY", help="such as 4x4; it says how many nodes")
    parser.add_argument("--tpus-per-node", type=int, default=4, metavar="N", help="chips of a node (default 4)")
    parser.add_argument("--cpus-per-node", metavar="N")
    parser.add_argument("--memory", metavar="SIZE", help="of each pod, such as 64Gi")
    parser.add_argument("--node-selector", action="append", default=[], metavar="LABEL=VALUE")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--queue", metavar="NAME", help="a local queue of Kueue")
    parser.add_argument("--namespace", metavar="NAME")
    parser.add_argument("--max-restarts", type=int, default=20, metavar="N")


def plan(job: Job, resources: Mapping[str, Any]) -> Plan:
    """The manifest, and the kubectl that creates it. Raises UserError where the resources do not fit together."""
    r = dict(resources)
    path = f"{job.folder}/jobset.json"
    manifest = jobset(copied(job, "the image"), {**r, "nodes": _nodes(r)})
    space = ("--namespace", r["namespace"]) if r["namespace"] else ()
    return Plan({path: json.dumps(manifest, indent=2)}, (("kubectl", "create", "--filename", path, *space),))


def jobset(job: Job, r: Mapping[str, Any]) -> dict:
    """The JobSet as nested dicts. A pod ends the set only with `life.OVER`; any other failure restarts all pods:
    from inside a pod, a mistake and a peer whose node was lost look alike, and a mistake makes no progress.
    """
    if found := job.given("--runs", "--run-dir"):
        raise UserError(f"{found} would be lost with its pod: runs go to {RUNS}, where the volume is. Leave it out.")
    env = {
        "RESEARCH_COORDINATOR": f"{job.name}-workers-0-0.{job.name}:{PORT}",
        "RESEARCH_PROCESSES": str(r["nodes"]),
        "RESEARCH_RUNS": RUNS,
        "RESEARCH_STATUS_FILE": f"{RUNS}/launched/{job.name}/status.json",
        **pairs("--env", r["env"]),
    }
    life = ("python", "-m", "launch.life", "--max-restarts", str(r["max_restarts"]), "--")
    container = {
        "name": "train",
        "image": r["image"],
        "command": [*life, *job.command("python")],
        "env": [{"name": name, "value": value} for name, value in env.items()],
        "resources": {"limits": _limits(r)},
        # NCCL and the processes that read data want more shared memory than the 64 MB of a container.
        "volumeMounts": [{"name": "runs", "mountPath": RUNS}, {"name": "shared-memory", "mountPath": "/dev/shm"}],
    }
    pod = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": GRACE,
        "nodeSelector": _selector(r),
        "containers": [container],
        "volumes": [
            {"name": "runs", "persistentVolumeClaim": {"claimName": r["volume"]}},
            {"name": "shared-memory", "emptyDir": {"medium": "Memory"}},
        ],
    }
    over = {"containerName": "train", "operator": "In", "values": [OVER]}
    batch = {
        "completionMode": "Indexed",
        "completions": r["nodes"],
        "parallelism": r["nodes"],
        "backoffLimit": 0,  # one pod alone cannot come back: the others wait for the one that is gone
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": over}]},
        "template": {"spec": pod},
    }
    # A slice of TPUs is one node pool; no other job may take a part of it.
    whole = {"annotations": {f"alpha.{LABEL}exclusive-topology": "cloud.google.com/gke-nodepool"}}
    labels = {"labels": {"kueue.x-k8s.io/queue-name": r["queue"]}}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": job.name, **(labels if r["queue"] else {}), **(whole if r["tpu_type"] else {})},
        "spec": {
            # The first pod is looked up by its name before it is ready, and by the other pods.
            "network": {"enableDNSHostnames": True, "subdomain": job.name, "publishNotReadyAddresses": True},
            "failurePolicy": {
                "maxRestarts": r["max_restarts"],
                "rules": [{"name": "over", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
            },
            "replicatedJobs": [{"name": "workers", "replicas": 1, "template": {"spec": batch}}],
        },
    }


def _nodes(r):
    """The number of pods: as given, or as the TPU topology says."""
    if bool(r["tpu_type"]) != bool(r["tpu_topology"]):
        raise UserError("a slice of TPUs is named by --tpu-type and --tpu-topology; give both.")
    if not r["tpu_type"]:
        return r["nodes"]
    if r["gpus_per_node"] or r["gpu_type"]:
        raise UserError("give GPUs or TPUs, not both.")
    sides = r["tpu_topology"].split("x")
    if not all(side.isdigit() and int(side) for side in sides):
        raise UserError(f"--tpu-topology takes the sides of the slice, such as 2x2x4, not {r['tpu_topology']!r}.")
    chips = 1
    for side in sides:
        chips *= int(side)
    if chips % r["tpus_per_node"]:
        raise UserError(f"{chips} chips are not a multiple of the {r['tpus_per_node']} of a node (--tpus-per-node).")
    return chips // r["tpus_per_node"]


def _limits(r):
    chips = r["tpus_per_node"] if r["tpu_type"] else 0
    all_ = {
        "nvidia.com/gpu": r["gpus_per_node"], "google.com/tpu": chips, "cpu": r["cpus_per_node"], "memory": r["memory"]
    }  # fmt: skip
    return {name: str(value) for name, value in all_.items() if value}


def _selector(r):
    named = {"accelerator": r["gpu_type"], "tpu-accelerator": r["tpu_type"], "tpu-topology": r["tpu_topology"]}
    labels = {f"cloud.google.com/gke-{name}": value for name, value in named.items() if value}
    return {**labels, **pairs("--node-selector", r["node_selector"])}


def status(job: str) -> tuple[tuple[str, ...], ...]:
    """The commands that show a JobSet and its pods."""
    return (("kubectl", "get", "jobset", job), ("kubectl", "get", "pods", "--selector", f"{LABEL}jobset-name={job}"))


def cancel(job: str) -> tuple[tuple[str, ...], ...]:
    """The commands that end a JobSet for good: its pods save first."""
    return (("kubectl", "delete", "jobset", job),)


def logs(job: str) -> tuple[tuple[str, ...], ...]:
    """The commands that follow the output of all pods."""
    which = ("--selector", f"{LABEL}jobset-name={job}", "--max-log-requests=1000")
    return (("kubectl", "logs", "--follow", "--prefix", "--tail=-1", *which),)
