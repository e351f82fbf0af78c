"""A real SLURM of two nodes on this host, in one folder, without root: Debian's slurmctld, slurmd and munge."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol")
CONF = """
ClusterName=here
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={base}/munge.socket
CredType=cred/munge
StateSaveLocation={base}/state
SlurmdSpoolDir={base}/spool.%n
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd.%n.pid
SlurmctldLogFile={base}/slurmctld.log
SlurmdLogFile={base}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SchedulerParameters=sched_interval=2,bf_interval=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=60
SlurmdTimeout=10
MessageTimeout=10
SlurmdParameters=config_overrides
NodeName={nodes[0]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[1]} CPUs=2 RealMemory=1000
NodeName={nodes[1]} NodeHostname={host} NodeAddr=127.0.0.1 Port={ports[2]} CPUs=2 RealMemory=1000
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 PreemptMode=REQUEUE GraceTime=60 State=UP
PartitionName=high Nodes=ALL PriorityTier=10 PreemptMode=OFF State=UP
"""


def missing() -> str:
    """The reason why there can be no SLURM here, or ''."""
    absent = [name for name in PROGRAMS if not shutil.which(name, path=PATH)]
    return f"not installed: {', '.join(absent)} (Debian: slurmctld slurmd munge slurm-client)" if absent else ""


PATH = os.environ["PATH"] + ":/usr/sbin:/sbin"


class Slurm:
    """A running cluster: `env` is what its commands need; `nodes` are the names of its two nodes."""

    def __init__(self, base):
        self.base, self.host = Path(base), socket.gethostname().split(".")[0]
        # JAX makes the coordinator's address of a node's name, so both must resolve.
        self.nodes = (self.host, "localhost")
        self.env = {**os.environ, "PATH": PATH, "SLURM_CONF": str(self.base / "slurm.conf")}

    def start(self):
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(3)]
            for s in sockets:
                s.bind(("", 0))
            ports = [s.getsockname()[1] for s in sockets]
        self.base.mkdir(parents=True, exist_ok=True)
        self.base.chmod(0o755)
        (self.base / "state").mkdir()
        (self.base / "munge.key").write_bytes(os.urandom(1024))
        (self.base / "munge.key").chmod(0o400)
        (self.base / "cgroup.conf").write_text("CgroupAutomount=no\n")
        user = subprocess.check_output(["id", "-un"], text=True).strip()
        conf = CONF.format(base=self.base, host=self.host, nodes=self.nodes, ports=ports, user=user)
        (self.base / "slurm.conf").write_text(conf)
        files = [f"--{n}={self.base}/munge.{n.split('-')[0]}" for n in ("key-file", "socket", "pid-file", "log-file")]
        self.run("munged", "--force", *files, f"--seed-file={self.base}/munge.seed")
        until(lambda: self.run("munge", "-n", "-S", f"{self.base}/munge.socket", check=False).returncode == 0, 10)
        self.run("slurmctld")
        for node in self.nodes:
            self.start_node(node)
        until(lambda: self.run("sinfo", "-h", "-t", "idle", "-o", "%D").stdout.strip() == "2", 20)

    def start_node(self, node):
        self.run("slurmd", "-N", node)

    def run(self, *command, check=True, **options):
        options = {"env": self.env, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, **options}
        # Daemons keep a pipe open: their output goes nowhere.
        if command[0] in ("munged", "slurmctld", "slurmd"):
            options |= {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        return subprocess.run(command, check=check, stdin=subprocess.DEVNULL, timeout=60, **options)

    def show(self, job) -> dict[str, str]:
        """What `scontrol show job` says of one job."""
        text = self.run("scontrol", "show", "job", "--oneliner", str(job)).stdout
        return dict(part.split("=", 1) for part in text.split() if "=" in part)

    def state(self, job) -> str:
        return self.show(job).get("JobState", "")

    def stop(self):
        user = self.run("id", "-un").stdout.strip()
        self.run("scancel", "--user", user, check=False)
        self.run("scancel", "--full", "--signal=KILL", "--user", user, check=False)
        until(lambda: not self.run("squeue", "-h", check=False).stdout.strip(), 40, fail=False)
        for name in [*(f"slurmd.{node}.pid" for node in self.nodes), "slurmctld.pid", "munge.pid"]:
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((self.base / name).read_text()), signal.SIGTERM)
        until(lambda: not list(self.base.glob("*.pid")), 10, fail=False)


def until(ready, seconds, *, every=0.1, fail=True):
    """Waits until `ready()`; gives what it gave, or raises after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := ready():
            return found
        time.sleep(every)
    if fail:
        raise TimeoutError(f"not so after {seconds} s: {ready.__code__}")
    return None
