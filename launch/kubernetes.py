"""Run an experiment as a Kubernetes JobSet: one pod per node, restarted together, with the runs on a shared volume.

The manifest is JSON, which is valid YAML. A YAML writer would leave the argument `1e-3` unquoted, and kubectl would
read it as a number where only strings are valid.
"""

import json
from collections.abc import Mapping
from typing import Any

from launch.life import OVER
from launch.plan import Job, Plan, copied, pairs, submit
from research.errors import UserError

__all__ = ["arguments", "cancel", "logs", "plan", "status", "submit"]

PORT = 29500
RUNS = "/mnt/runs"  # mount point of the volume in the pods
GRACE = 120  # seconds from SIGTERM to SIGKILL, to finish a step and save
LABEL = "jobset.sigs.k8s.io/"


def arguments(parser):
    """Add the resource options of a JobSet."""
    parser.add_argument("--image", required=True, metavar="IMAGE", help="built from launch/Dockerfile, in a registry")
    parser.add_argument("--volume", required=True, metavar="CLAIM", help="ReadWriteMany volume claim for the runs")
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="number of pods, one process each")
    parser.add_argument("--gpus-per-node", type=int, default=0, metavar="N")
    parser.add_argument("--gpu-type", metavar="TYPE", help="GKE label, such as nvidia-h100-80gb")
    parser.add_argument("--tpu-type", metavar="TYPE", help="GKE label, such as tpu-v5-lite-podslice")
    parser.add_argument("--tpu-topology", metavar="TOPOLOGY", help="such as 4x4; sets the number of nodes")
    parser.add_argument("--tpus-per-node", type=int, default=4, metavar="N", help="chips per node (default 4)")
    parser.add_argument("--cpus-per-node", metavar="N")
    parser.add_argument("--memory", metavar="SIZE", help="memory per pod, such as 64Gi")
    parser.add_argument("--node-selector", action="append", default=[], metavar="LABEL=VALUE")
    parser.add_argument("--env", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--queue", metavar="NAME", help="local queue of Kueue")
    parser.add_argument("--namespace", metavar="NAME")
    parser.add_argument("--max-restarts", type=int, default=20, metavar="N")


def plan(job: Job, resources: Mapping[str, Any]) -> Plan:
    """Plan the manifest and its kubectl command. Raises UserError if options contradict each other."""
    r = dict(resources)
    path = f"{job.folder}/jobset.json"
    manifest = jobset(copied(job, "Kubernetes"), {**r, "nodes": _nodes(r)})
    space = ("--namespace", r["namespace"]) if r["namespace"] else ()
    return Plan({path: json.dumps(manifest, indent=2)}, (("kubectl", "create", "--filename", path, *space),))


def jobset(job: Job, r: Mapping[str, Any]) -> dict:
    """Return the JobSet as nested dicts.

    A pod ends the JobSet only with exit status `life.OVER`; any other failure restarts all pods. Inside a pod, a bug
    and a peer on a lost node look the same; a bug then ends the job because it makes no progress.
    """
    if option := job.given("--runs", "--run-dir"):
        raise UserError(f"{option} would be lost with its pod; remove it. Runs go to {RUNS}, on the volume.")
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
        "command": [_literal(text) for text in (*life, *job.command("python"))],
        "env": [{"name": name, "value": _literal(value)} for name, value in env.items()],
        "resources": {"limits": _limits(r)},
        # NCCL and the data-loading processes need more shared memory than a container's default of 64 MB.
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
        "backoffLimit": 0,  # a pod cannot restart alone: the others would wait for the one that they lost
        "podFailurePolicy": {"rules": [{"action": "FailJob", "onExitCodes": over}]},
        "template": {"spec": pod},
    }
    # A TPU slice is one node pool; no other job may use part of it.
    exclusive = {"annotations": {f"alpha.{LABEL}exclusive-topology": "cloud.google.com/gke-nodepool"}}
    labels = {"labels": {"kueue.x-k8s.io/queue-name": r["queue"]}}
    return {
        "apiVersion": "jobset.x-k8s.io/v1alpha2",
        "kind": "JobSet",
        "metadata": {"name": job.name, **(labels if r["queue"] else {}), **(exclusive if r["tpu_type"] else {})},
        "spec": {
            # All pods resolve the first pod's name before it is ready.
            "network": {"enableDNSHostnames": True, "subdomain": job.name, "publishNotReadyAddresses": True},
            "failurePolicy": {
                "maxRestarts": r["max_restarts"],
                "rules": [{"name": "over", "action": "FailJobSet", "onJobFailureReasons": ["PodFailurePolicy"]}],
            },
            "replicatedJobs": [{"name": "workers", "replicas": 1, "template": {"spec": batch}}],
        },
    }


def _literal(text):
    """Escape a text for a field in which Kubernetes replaces `$(NAME)` by a variable and `$$` by `$`."""
    return text.replace("$", "$$")


def _nodes(r):
    """Return the number of pods, from --nodes or from the TPU topology."""
    if bool(r["tpu_type"]) != bool(r["tpu_topology"]):
        raise UserError("a TPU slice needs both --tpu-type and --tpu-topology.")
    if not r["tpu_type"]:
        return r["nodes"]
    if r["gpus_per_node"] or r["gpu_type"]:
        raise UserError("use GPUs or TPUs, not both.")
    sides = r["tpu_topology"].split("x")
    if not all(side.isdigit() and int(side) for side in sides):
        raise UserError(f"--tpu-topology must be side lengths, such as 2x2x4; got {r['tpu_topology']!r}.")
    chips = 1
    for side in sides:
        chips *= int(side)
    if chips % r["tpus_per_node"]:
        raise UserError(f"{chips} chips are not a multiple of {r['tpus_per_node']} per node (--tpus-per-node).")
    return chips // r["tpus_per_node"]


def _limits(r):
    chips = r["tpus_per_node"] if r["tpu_type"] else 0
    limits = {
        "nvidia.com/gpu": r["gpus_per_node"], "google.com/tpu": chips, "cpu": r["cpus_per_node"], "memory": r["memory"]
    }  # fmt: skip
    return {name: str(value) for name, value in limits.items() if value}


def _selector(r):
    gke_labels = {"accelerator": r["gpu_type"], "tpu-accelerator": r["tpu_type"], "tpu-topology": r["tpu_topology"]}
    labels = {f"cloud.google.com/gke-{name}": value for name, value in gke_labels.items() if value}
    return {**labels, **pairs("--node-selector", r["node_selector"])}


def status(job: str) -> tuple[tuple[str, ...], ...]:
    """Return the commands that show a JobSet and its pods."""
    return (("kubectl", "get", "jobset", job), ("kubectl", "get", "pods", "--selector", f"{LABEL}jobset-name={job}"))


def cancel(job: str) -> tuple[tuple[str, ...], ...]:
    """Return the commands that end a JobSet permanently; its pods save first."""
    return (("kubectl", "delete", "jobset", job),)


def logs(job: str) -> tuple[tuple[str, ...], ...]:
    """Return the commands that follow the output of all pods."""
    selection = ("--selector", f"{LABEL}jobset-name={job}", "--max-log-requests=1000")
    return (("kubectl", "logs", "--follow", "--prefix", "--tail=-1", *selection),)
