"""Secrets reach the experiment, but no file that a run or a sweep writes, no page and no message."""

import io
import os
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from launch.__main__ import job_of
from research import errors, verbs
from research.__main__ import main
from research.errors import UserError, masked
from research.runs.knobs import knobs_of, plain, resolve
from research.runs.opened import load_run
from research.runs.secret import Hidden, Secret
from research.search import sweep
from research.system.provenance import git_state

VALUE = 'ghp= "Ünsafe"<0123456789>'
TOY = '''"""A toy that needs a token."""

from research.runs.secret import Secret
from tests import toys

seen = []


def experiment(*, noise: float = 0.3, api_token: str | None = None, login: Secret = "", fail: bool = False):
    seen.append((api_token, login))
    if fail:
        raise ValueError(f"the server refused {api_token} and {login}")
    return toys.experiment(noise=noise)
'''


@pytest.fixture(autouse=True)
def forgets(monkeypatch):
    """No other test has a secret; none of this machine's variables is one of them."""
    monkeypatch.setattr(errors, "_hidden", set())
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.fixture
def file(tmp_path):
    (tmp_path / "toy.py").write_text(TOY)
    return tmp_path / "toy.py"


def leaks(folder, *values) -> list[str]:
    """The files below a folder that have one of the values, plain or as JSON or HTML writes it."""
    forms = [v for value in values for v in (value, value.encode("ascii", "backslashreplace").decode())]
    forms += [part for value in values for part in (value.split("<")[-1].strip(">"),)]
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [str(path) for path in files if any(form.encode() in path.read_bytes() for form in forms)]


def test_the_value_reaches_the_experiment_and_no_file(file, tmp_path, monkeypatch):
    login = "s3cr3t"  # too short to be masked in words
    command = ["research", "train", "toy.py", f"--api-token={VALUE}", "--login", login, VALUE, "a=b"]
    monkeypatch.setattr(sys, "argv", command)
    stream = io.StringIO()
    options = {"api_token": VALUE, "login": login, "stream": stream}
    run = verbs.train(file, run_dir=tmp_path / "run", **options)
    assert (run.folder / "report" / "report.html").exists()
    assert leaks(run.folder, VALUE, login) == [] and VALUE not in stream.getvalue()
    text = (run.folder / "run.json").read_text()
    assert '"api_token": "***"' in text and '"login": "***"' in text
    assert "toy.py '--api-token=***' --login '***' '***' a=b\"" in text
    # The same run, with the values given again; without them it is another one.
    assert verbs.train(file, run_dir=tmp_path / "run", **options).folder == run.folder
    with pytest.raises(UserError, match=r"api_token: '\*\*\*' in the run, None given \(secret: give its value again\)"):
        verbs.train(file, run_dir=tmp_path / "run", login=login, stream=stream)
    with pytest.raises(UserError, match="'api_token' is secret, and its value was not stored; set RESEARCH_SECRET_API"):
        load_run(run.folder)
    monkeypatch.setenv("RESEARCH_SECRET_API_TOKEN", VALUE)
    monkeypatch.setenv("RESEARCH_SECRET_LOGIN", login)
    reopened = load_run(run.folder)
    assert reopened.about["knobs"]["login"] == "***"
    function = verbs.load(file).function
    function(**resolve(knobs_of(function), reopened.about["knobs"]))
    assert function.__globals__["seen"] == [(VALUE, login)]


def test_an_error_that_quotes_the_value_is_masked(file, tmp_path, capsys):
    with pytest.raises(UserError, match="ValueError: the server refused .*0123456789"):
        verbs.train(file, run_dir=tmp_path / "run", api_token=VALUE, fail=True, stream=io.StringIO())
    assert "the server refused *** and" in (tmp_path / "run" / "status.json").read_text()
    assert leaks(tmp_path / "run", VALUE) == []
    assert main(["evaluate", f"run-{VALUE}"]) == 2
    assert "run-***" in capsys.readouterr().err


def test_a_sweep_passes_the_value_to_its_workers_only(file, tmp_path):
    pytest.importorskip("optuna")
    found = sweep(
        file, search="grid", noise="0.1,0.2", api_token="a,secret,with,commas", folder=tmp_path / "sweep",
        metric="valid/mse", mode="min",        stream=io.StringIO(),
    )  # fmt: skip
    assert [trial.state for trial in found.trials] == ["finished"] * 2, found.trials
    assert leaks(tmp_path / "sweep", "a,secret,with,commas") == []
    with pytest.raises(UserError, match="'api_token' is secret and cannot be searched"):
        sweep(file, noise="0.1,0.2", api_token=["one", "two"], folder=tmp_path / "other", stream=io.StringIO())


def test_a_job_script_does_not_get_the_value(file):
    with pytest.raises(UserError, match="'api_token' is secret, but .* Set RESEARCH_SECRET_API_TOKEN in the env"):
        job_of([str(file), f"--api-token={VALUE}"])
    assert job_of([str(file), "--noise", "0.1"]).arguments[-2:] == ("--noise", "0.1")


def test_which_knobs_are_secret():
    def experiment(
        *, token: str, hf_token: str | None = None, password: str = "", aws_secret_key: str = "", key: str = "",
        login: Secret = "", other: Secret | None = None, mask_token: int = 3, tokens: str = "",
        max_token: typing.Literal["a"] = "a", stop_token: tuple[str, ...] = (),
    ):  # fmt: skip
        pass

    knobs = knobs_of(experiment)
    secret = {name for name, knob in knobs.items() if knob.secret}
    assert secret == {"token", "hf_token", "password", "aws_secret_key", "login", "other"}
    assert knobs["login"].type is str and knobs["other"].type == str | None
    values = resolve(knobs, {"token": "pass phrase", "password": "", "login": "x"})
    assert values["token"] == "pass phrase" and isinstance(values["token"], Hidden)
    assert (f"{values['token']}", repr(values["token"])) == ("pass phrase", "'***'")
    stored = plain(values)
    assert (stored["token"], stored["login"], stored["password"]) == ("***", "***", ""), "a default is in the source"
    with pytest.raises(UserError, match="set --token or RESEARCH_SECRET_TOKEN"):
        resolve(knobs, {})

    def number(*, pin: typing.Annotated[int, "secret"] = 0):
        pass

    with pytest.raises(UserError, match="'pin' has the type int; expected str"):
        knobs_of(number)


def test_a_short_value_is_masked_in_the_knobs_but_not_in_words():
    Hidden("ing")
    assert masked("training") == "training"
    Hidden("a long secret")
    assert masked("of a long secret: a long") == "of ***: a long"


def test_the_difference_to_the_commit_has_no_secrets_and_no_other_code(tmp_path):
    root = tmp_path / "a [b] repository"
    left_out = (".env", "deep/.env.local", ".aws/config", "other.py", "deep/Token.yaml", "server.PEM", "notes.txt")
    names = (*left_out, "deep/toy.py", "deep/helper.py", "deep/data.yaml")
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("OLD = 1\n")
    git = ("git", "-C", str(root), "-c", "user.name=n", "-c", "user.email=e")
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "one"]):
        subprocess.run([*git, *command], check=True)
    for name in names:
        (root / name).write_text(f"NEW_{Path(name).stem} = 2\n")
    for name in ("deep/helper.py", "notes.txt"):
        (root / name).write_text("API-Key: 1234\n")
    files = [root / "deep" / "toy.py", root / "deep" / "helper.py", tmp_path / "elsewhere.py"]
    commit, diff = git_state(root / "deep", files)
    assert len(commit) == 40
    changed = [line.split(b" b/")[1].decode() for line in diff.splitlines() if line.startswith(b"diff --git")]
    assert changed == ["deep/helper.py", "deep/toy.py", "deep/data.yaml"]
    assert b"+API-Key: 1234" in diff and b"+NEW_toy" in diff and b"+NEW_data" in diff
    assert git_state(root)[1].count(b"diff --git") == 1
