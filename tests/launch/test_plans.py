"""What each place would write and run, letter by letter; and the mistakes that are found before anything is queued.

`python -m tests.launch.test_plans` rewrites the golden files.
"""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from launch import kubernetes, slurm, tpu_vm
from launch.__main__ import PLACES, job_of, main
from launch.plan import Job, Plan, folded, submit
from research.errors import UserError
from research.runs.knobs import Parser

GOLDEN = Path(__file__).parent / "golden"
REPO = GOLDEN.parent.parent.parent
TRAIN = ("train", "experiments/digits.py", "--learning-rate", "1e-3", "--network", "mlp")
CASES = {
    "slurm": (slurm, TRAIN, "--nodes 2 --gpus-per-node 8 --cpus-per-task 32 --time 4:00:00 --sbatch=--qos=low"),
    "slurm_seeds": (slurm, TRAIN, "--seeds 0:5 --max-restarts 3 --warning 60"),
    "slurm_sweep": (slurm, ("sweep", "--worker", "runs/my sweep"), "--workers 4 --partition cpu"),
    "kubernetes": (
        kubernetes,
        TRAIN,
        "--image registry/research:1 --volume runs --nodes 2 --gpus-per-node 8 --gpu-type nvidia-h100-80gb "
        "--queue team --namespace ml --node-selector pool=a --env XLA_FLAGS=--xla_gpu_deterministic_ops=true",
    ),
    "kubernetes_tpu": (
        kubernetes,
        TRAIN,
        "--image registry/research:1 --volume runs --tpu-type tpu-v5-lite-podslice --tpu-topology 4x4",
    ),
    "tpu_vm": (tpu_vm, TRAIN, "--accelerator v5litepod-16 --runtime v2-alpha-tpuv5-lite --zone us-west4-a"),
    "tpu_vm_spot": (
        tpu_vm,
        TRAIN,
        "--accelerator v6e-8 --runtime v2-alpha-tpuv6e --zone z --project p --spot --wait 6h --max-restarts 4 "
        "--mount 'sudo mount -t nfs 10.0.0.2:/runs runs' --env A=1",
    ),
}


def plan_of(place, arguments, resources):
    parser = Parser(prog="x")
    place.arguments(parser)
    job = Job(tuple(arguments), "digits-1121-170000", "runs/launched/digits-1121-170000", "/env/bin/python")
    return place.plan(job, vars(parser.parse_args(shlex.split(resources))))


@pytest.mark.parametrize("name", CASES)
def test_plans_are_as_they_were_read(name):
    assert str(plan_of(*CASES[name])) + "\n" == (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("slurm") or name.startswith("tpu")])
def test_plans_are_read_at_80_columns(name):
    text = (GOLDEN / f"{name}.txt").read_text()
    assert [line for line in text.split("\n") if len(line) > 80 and not line.startswith("metadata=")] == []


def test_a_folded_command_is_the_same_command():
    command = ["/env/bin/python", "-m", "x", *(f"-{i}" for i in range(99)), "a b", "", "a\nb"]
    text = folded(command)
    assert shlex.split(text.replace("\\\n", "")) == command and max(map(len, text.split("\n"))) <= 80
    assert folded(["ls", "-l"]) == "ls -l"


@pytest.mark.parametrize(
    ("place", "arguments", "resources", "words"),
    [
        (slurm, TRAIN, "--seeds 5:5", "A:B with A < B.*got '5:5'"),
        (slurm, TRAIN, "--seeds 1,b", "got '1,b'"),
        (slurm, TRAIN, "--seeds 0:2 --workers 2", "use only one of them"),
        (slurm, (*TRAIN, "--seed=1"), "--seeds 0:2", "remove --seed"),
        (slurm, (*TRAIN, "--run-dir", "r"), "--seeds 0:2", "remove --seed and --run-dir"),
        (slurm, ("sweep", "--worker", "r"), "--seeds 0:2", "needs a train command"),
        (slurm, TRAIN, "--gpus-per-node 8 --tasks-per-node 8", "one process drives all GPUs"),
        (slurm, TRAIN, "--gpu-per-node 8", "unknown argument '--gpu-per-node'. Did you mean '--gpus-per-node'"),
        (kubernetes, TRAIN, "--image i", "required: --volume"),
        (kubernetes, TRAIN, "--image i --volume v --tpu-type t", "needs both --tpu-type and --tpu-topology"),
        (kubernetes, TRAIN, "--image i --volume v --tpu-type t --tpu-topology 4y4", "such as 2x2x4; got '4y4'"),
        (kubernetes, TRAIN, "--image i --volume v --tpu-type t --tpu-topology 2x3", "6 chips are not a multiple"),
        (kubernetes, TRAIN, "--image i --volume v --tpu-type t --tpu-topology 4x4 --gpus-per-node 1", "GPUs or TPUs"),
        (kubernetes, TRAIN, "--image i --volume v --env A", "--env must be NAME=VALUE, got 'A'"),
        (kubernetes, (*TRAIN, "--run-dir", "/there"), "--image i --volume v", "--run-dir /there would be lost"),
        (kubernetes, ("train", "/else/where.py"), "--image i --volume v", "outside the working folder"),
        (kubernetes, ("sweep", "--worker", "r"), "--image i --volume v", "for sweep, use local or slurm"),
        (tpu_vm, TRAIN, "--zone z --accelerator a", "required: --runtime"),
        (tpu_vm, (*TRAIN, "--runs=r"), "--zone z --accelerator a --runtime r", "--runs=r: on a slice"),
        (tpu_vm, ("train", "/else/where.py"), "--zone z --accelerator a --runtime r", "outside the working folder"),
    ],
)
def test_resources_that_do_not_fit(place, arguments, resources, words):
    with pytest.raises(UserError, match=words):
        plan_of(place, arguments, resources)


def test_a_mistake_in_a_knob_is_found_here(capsys, monkeypatch):
    monkeypatch.chdir(REPO)
    for arguments, words in [
        (["experiments/digits.py", "--netwrk", "mlp"], "unknown argument '--netwrk'. Did you mean '--network'"),
        (["experiments/digits.py", "--epochs", "many"], "epochs must be int, not 'many'"),
        (["experiments/digts.py"], "no experiment file .* Did you mean 'digits.py'"),
        (["--seed", "1", "experiments/digits.py"], "FILE must come first"),
        (["sweep", "nowhere"], "expects the folder of a sweep, got nowhere"),
    ]:
        with pytest.raises(UserError, match=words):
            job_of(arguments)
    assert main(["slurm", "experiments/digits.py", "--netwrk", "mlp", "--"]) == 2
    assert "Did you mean '--network'" in capsys.readouterr().err


def test_the_command_line(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(REPO)
    monkeypatch.setenv("RESEARCH_RUNS", str(tmp_path / "runs"))
    file = str(REPO / "experiments" / "digits.py")
    assert main(["slurm", file, "--epochs", "3", "--", "--nodes", "2", "--dry-run"]) == 0
    shown = re.sub(r" \\\n *", " ", capsys.readouterr().out)
    assert "#SBATCH --nodes=2" in shown and "$ sbatch " in shown and not list(tmp_path.iterdir())
    assert "research train experiments/digits.py --epochs 3 &" in shown  # named from the working folder
    assert main([]) == main(["slurm", "--help"]) == main(["kubernetes"]) == 0
    assert "--gpus-per-node" in capsys.readouterr().out
    for arguments, words in [
        (["slrm", file], "unknown place 'slrm'. Did you mean 'slurm'"),
        (["logs", "slrm", "1"], "unknown place for logs 'slrm'. Did you mean 'slurm'"),
        (["logs", "slurm"], "expects PLACE and JOB"),
        (["logs", "slurm", "1"], "no output of job 1 under"),
    ]:
        assert main(arguments) == 2
        assert words in capsys.readouterr().err


def test_status_logs_and_cancel_run_the_programs_of_the_place(monkeypatch, tmp_path, capfd):
    for name in ("kubectl", "gcloud"):
        (tmp_path / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    said = {
        ("status", "kubernetes"): ["get jobset j -n ml", "get pods --selector jobset.sigs.k8s.io/jobset-name=j -n ml"],
        ("logs", "kubernetes"): ["logs --follow --prefix --tail=-1"],
        ("cancel", "kubernetes"): ["delete jobset j -n ml"],
        ("status", "tpu-vm"): ["queued-resources describe j -n ml"],
        ("logs", "tpu-vm"): ["ssh j --worker=all --command=tail -n +1 -F train.log -n ml"],
        ("cancel", "tpu-vm"): ["queued-resources delete j --force --quiet -n ml"],
    }
    for (verb, place), words in said.items():
        assert main([verb, place, "j", "--", "-n", "ml"]) == 0
        lines = capfd.readouterr().out.splitlines()
        assert len(lines) == len(words) and all(w in line for w, line in zip(words, lines, strict=True))


def test_the_commands_of_the_readme_are_plans(capsys, monkeypatch):
    monkeypatch.chdir(REPO)
    text = (REPO / "launch" / "README.md").read_text().replace("\\\n", "")
    found = re.findall(r"^python -m launch ((?:local|slurm|kubernetes|tpu-vm) .*)$", text, re.MULTILINE)
    assert len(found) == 7
    for line in found:
        words = shlex.split(line.replace("FILE", "experiments/digits.py"))
        assert main([*words, "--dry-run"]) == 0, (line, capsys.readouterr().err)
    for place in PLACES:
        assert re.search(rf"^python -m launch {place} ", text, re.MULTILINE)


def test_what_fails_or_is_absent_ends_the_launch(tmp_path):
    path = str(tmp_path / "a" / "file")
    commands = (("cat", path), ("sh", "-c", "exit 7"), ("rm", path))
    assert submit(Plan({path: "text"}, commands)) == 7
    assert Path(path).read_text() == "text"
    with pytest.raises(UserError, match="no-such-program is not installed"):
        submit(Plan({}, (("no-such-program", "x"),)))


def test_arguments_of_the_manifest_stay_texts():
    plan = plan_of(*CASES["kubernetes"])
    (text,) = plan.files.values()
    spec = json.loads(text)["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    assert spec["containers"][0]["command"][-4:] == ["--learning-rate", "1e-3", "--network", "mlp"]


@pytest.mark.parametrize("option", ["--partition", "--mem", "--time", "--account", "--sbatch"])
@pytest.mark.parametrize("end", ["\n#SBATCH --uid=0", "\rrm -rf x", "\x0bx", "\n"])
def test_a_line_break_in_an_option_of_slurm_is_refused(option, end):
    with pytest.raises(UserError, match=f"{option} must be one line, got "):
        plan_of(slurm, TRAIN, shlex.join([f"{option}=--a{end}"]))


def test_options_of_slurm_are_quoted_in_its_script():
    job = Job(TRAIN, "digits-1", "my runs/50% #1/digits-1", "/env/bin/python")
    parser = Parser(prog="x")
    slurm.arguments(parser)
    options = ["--partition", "a b #c", "--sbatch", "--comment='one of two'"]
    (script,) = slurm.plan(job, vars(parser.parse_args(options))).files.values()
    lines = [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH ")]
    given = [word for line in lines for word in shlex.split(line, comments=True)]
    assert {"--partition=a b #c", "--output=my runs/50%% #1/digits-1/%j.out", "--comment=one of two"} <= set(given)
    assert len(given) == len(lines), "one option a line"
    with pytest.raises(UserError, match=r"--account has ' in \"it's\""):
        plan_of(slurm, TRAIN, shlex.join(["--account", "it's"]))


def test_a_zone_is_a_word_of_the_script_that_keeps_its_slice(tmp_path):
    zone = 'z\'$(touch executed)`touch executed`"; touch executed; "'
    resources = ["--accelerator", "a", "--runtime", "r", "--keep", "--zone", zone]
    (script,) = plan_of(tpu_vm, TRAIN, shlex.join(resources)).files.values()
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True
    )  # no repository: it ends
    command = done.stderr.partition("delete it with ")[2]
    assert f"--zone={zone}" in shlex.split(command) and not list(tmp_path.iterdir())


def test_kubernetes_expands_no_argument():
    """It replaces $(NAME) by a variable and $$ by $; `expanded` follows its documentation."""
    expanded = lambda text: re.sub(r"\$\$|\$\((\w+)\)", lambda found: "VARIABLE" if found.group(1) else "$", text)
    words = ["$(RESEARCH_RUNS)", "$$x", "a$b", "$$(A)"]
    plan = plan_of(kubernetes, (*TRAIN, *words), "--image i --volume v " + shlex.join(["--env", "A=$$(B)$"]))
    (text,) = plan.files.values()
    spec = json.loads(text)["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert [expanded(text) for text in container["command"][-4:]] == words
    assert {"name": "A", "value": "$$(B)$"} in [{**env, "value": expanded(env["value"])} for env in container["env"]]


def test_names_fit_every_queue(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    Path("a").mkdir()
    for file in ("a/CIFAR10_resnet.py", "a/1st.py", "a/" + "long_" * 20 + ".py", "a/ü.py"):
        Path(file).write_text("def experiment(): ...\n")
        name = job_of([file]).name
        # The longest that is made of it: <name>-workers-0-0-<5 letters>, in 63.
        assert len(name) <= 45 and name[0].isalpha() and name.replace("-", "").isalnum() and name.isascii(), name


if __name__ == "__main__":
    GOLDEN.mkdir(exist_ok=True)
    for name, case in CASES.items():
        (GOLDEN / f"{name}.txt").write_text(str(plan_of(*case)) + "\n")
