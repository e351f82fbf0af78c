"""The manifest against the schema of the real CRDs, and its pods as network namespaces of this host."""

import contextlib
import copy
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from launch.life import AGAIN, OVER
from tests.launch.slurm_here import until
from tests.launch.test_plans import CASES, plan_of

REPO = Path(__file__).parent.parent.parent
KEY = "jobset.x-k8s.io/v1alpha2|JobSet"


def manifest(name="kubernetes"):
    (text,) = plan_of(*CASES[name]).files.values()
    return json.loads(text)


@pytest.fixture(scope="module")
def check():
    """The objections of the JobSet CRD, made strict, to a manifest. The schema is that of jobset.x-k8s.io/v1alpha2."""
    path = Path(__file__).parent / "jobset.schema.json"
    from jsonschema import Draft202012Validator

    validator = Draft202012Validator(json.loads(path.read_text())[KEY])
    return lambda document: [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("kubernetes")])
def test_the_manifest_fits_the_crd(check, name):
    assert check(manifest(name)) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("spec", "failurePolicy", "maxRestart"), 3),
        (("spec", "failurePolicy", "rules", 0, "action"), "RestartJobSets"),
        (("spec", "replicatedJobs", 0, "template", "spec", "completions"), "2"),
        (("spec", "replicatedJobs", 0, "template", "spec", "template", "spec", "nodeSelector", "pool"), 1),
        (("spec", "replicatedJobs", 0, "template", "spec", "template", "spec", "containers", 0, "command", 0), 1e-3),
        (("spec", "replicatedJobs", 0, "template", "spec", "template", "spec", "volumes", 0, "name"), None),
        (("spec", "network", "enableDNSHostname"), True),
    ],
)
def test_a_planted_error_is_seen(check, path, value):
    spoilt = copy.deepcopy(manifest())
    at = spoilt
    for part in path[:-1]:
        at = at[part]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    assert len(check(spoilt)) == 1


class Pods:
    """The pods of a manifest, each a network, host name and mount namespace; a JobSet's names resolve between them.

    The volume is a folder; the image is this host with `python` on PATH and the working folder of the repository.
    """

    def __init__(self, manifest, volume, hosts):
        self.manifest, self.volume, self.hosts = manifest, volume, hosts
        name, spec = manifest["metadata"]["name"], manifest["spec"]
        (job,) = spec["replicatedJobs"]
        batch = job["template"]["spec"]
        (self.container,) = batch["template"]["spec"]["containers"]
        self.names = [f"{name}-{job['name']}-0-{index}" for index in range(batch["completions"])]
        self.prefix = f"rp{os.getpid() % 100000}"
        domain = spec["network"]["subdomain"]
        lines = [f"10.98.7.{i + 10} {pod}.{domain} {pod}\n" for i, pod in enumerate(self.names)]
        hosts.write_text("127.0.0.1 localhost\n" + "".join(lines))

    def __enter__(self):
        bridge = f"{self.prefix}b"
        try:
            _ip(f"netns add {bridge}", f"-n {bridge} link add br0 type bridge", f"-n {bridge} link set br0 up")
            for i in range(len(self.names)):
                n = f"{self.prefix}n{i}"
                _ip(
                    f"netns add {n}",
                    f"link add e0 netns {n} type veth peer name v{i} netns {bridge}",
                    f"-n {bridge} link set v{i} master br0 up",
                    f"-n {n} addr add 10.98.7.{i + 10}/24 dev e0",
                    f"-n {n} link set e0 up",
                    f"-n {n} link set lo up",
                )
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in ["b", *(f"n{i}" for i in range(len(self.names)))]:
            subprocess.run(["ip", "netns", "del", self.prefix + name], capture_output=True)

    def start(self):
        """One life of all pods, as the JobSet begins it."""
        (mount,) = [m["mountPath"] for m in self.container["volumeMounts"] if m["name"] == "runs"]
        inside = (
            f"mount --bind {self.hosts} /etc/hosts && hostname $0 && mount -t tmpfs none {Path(mount).parent} && "
            f'mkdir -p {mount} && mount --bind {self.volume} {mount} && exec "$@"'
        )
        env = {item["name"]: item["value"] for item in self.container["env"]}
        env = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", **env}
        env["PATH"] = f"{self.volume.parent}/bin:{env['PATH']}"
        processes = []
        for i, name in enumerate(self.names):
            space = ("ip", "netns", "exec", f"{self.prefix}n{i}", "unshare", "--mount", "--uts")
            with open(self.volume.parent / f"pod{i}", "a") as output:
                processes.append(
                    subprocess.Popen(
                        [*space, "bash", "-c", inside, name, *self.container["command"]],
                        env={**env, "JOB_COMPLETION_INDEX": str(i)}, cwd=REPO, start_new_session=True,
                        stdout=output, stderr=output,
                    )
                )  # fmt: skip
        return processes


def _ip(*commands):
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True, capture_output=True)


@pytest.fixture
def pods(tmp_path):
    """Pods of a training by `slow_steps` with the knobs given; skips where there can be no namespaces."""
    if os.getuid() or not shutil.which("ip") or not shutil.which("unshare"):
        pytest.skip("network namespaces need root, ip and unshare")
    probe = f"rpprobe{os.getpid()}"
    if subprocess.run(["ip", "netns", "add", probe], capture_output=True).returncode:
        pytest.skip("network namespaces are not permitted here")
    _ip(f"netns del {probe}")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (tmp_path / "bin" / "python").chmod(0o755)
    (tmp_path / "volume").mkdir()
    with contextlib.ExitStack() as stack:

        def make(*knobs, resources=""):
            arguments = ("train", "tests/launch/slow_steps.py", *knobs)
            plan = plan_of(CASES["kubernetes"][0], arguments, f"--image i --volume v --nodes 2 {resources}")
            (text,) = plan.files.values()
            return stack.enter_context(Pods(json.loads(text), tmp_path / "volume", tmp_path / "hosts"))

        yield make


def finish(processes, seconds=300):
    """The exit statuses of a life."""
    end = time.monotonic() + seconds
    while any(p.poll() is None for p in processes) and time.monotonic() < end:
        time.sleep(0.1)
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return [p.wait() for p in processes]


@pytest.mark.slow
def test_pods_train_together_and_go_on_after_one_is_evicted(pods, tmp_path):
    made = pods("--seconds", "1")
    status = tmp_path / "volume" / "launched" / "digits-1121-170000" / "status.json"
    processes = made.start()
    until(lambda: status.exists() and json.loads(status.read_text())["step"] >= 5, 240)
    processes[1].send_signal(signal.SIGTERM)  # the pod that is not the first
    assert finish(processes)[0] == AGAIN  # which fails the Job, so that the JobSet starts all pods again
    told = json.loads(status.read_text())
    assert told["status"] == "preempted" and told["folder"].startswith("/mnt/runs/") and 5 <= told["step"] < 20
    assert finish(made.start()) == [0, 0]
    assert json.loads(status.read_text())["status"] == "finished"
    output = (tmp_path / "pod0").read_text()
    assert f"Resuming from the checkpoint of step {told['step']}" in output and "finished at step 20 of 20" in output


def test_a_pod_that_may_not_go_on_ends_the_set(pods, tmp_path):
    """The exit status of its first pod is the one that the manifest takes for final."""
    made = pods(resources="--max-restarts 0")
    rules = made.manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["onExitCodes"]["values"] == [OVER] and rules[0]["action"] == "FailJob"
    lives = tmp_path / "volume" / "launched" / "digits-1121-170000" / "status.json.lives"
    lives.parent.mkdir(parents=True)
    lives.write_text('[["", -1]]')
    first, second = made.start()
    assert first.wait(60) == OVER and "restarted 0 times" in (tmp_path / "pod0").read_text()
    os.killpg(second.pid, signal.SIGKILL)
    second.wait()
