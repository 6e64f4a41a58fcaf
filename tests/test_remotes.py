"""A second person clones and pulls, and has every result without computing any; what a remote breaks is found."""

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import joblib
import numpy as np
import pytest

from few_labels import stored
from few_labels.artifacts import load_features, load_images
from few_labels.errors import InputError
from few_labels.network import score
from few_labels.stored import Stored
from tests.conftest import Clone, cut_small, executed
from tests.servers import (
    BUCKET,
    Relay,
    Server,
    openssh_server,
    read_only_s3_server,
    relay,
    s3_environment,
    s3_server,
    sftp_server,
    ssh_environment,
)
from tools.models import load_model

MODELS = ("models/embedder.joblib", "models/kmeans.joblib", "models/logreg.joblib", "models/nn.keras")
SERVERS = {"s3": s3_server, "ssh": sftp_server, "ssh-openssh": openssh_server}
MB = 2**20
HALF_OF_THE_FILES = 3_000_000  # of the some ten million bytes that a small run pushes


@dataclass(frozen=True)
class Remote:
    """One place to push to: how a person sets it, and where its files really are."""

    kind: str
    folder: Path
    server: Server | None = None
    relay: Relay | None = None

    def set_in(self, clone: Clone) -> None:
        if self.kind == "folder":
            clone.sh("dvc remote add --default storage /srv/storage".replace("/srv", str(self.folder.parent)))
        elif self.kind == "s3":
            clone.sh("dvc remote add --default storage s3://few-labels/shared")
        else:
            clone.sh(
                "dvc remote add --default storage ssh://storage.example/srv/storage".replace(
                    "/srv", str(self.folder.parent)
                )
            )
        clone.sh("dvc remote modify storage verify true")
        clone.git("commit", "--quiet", "--all", "--message", "Share through a remote")

    def replace_object(self, md5: str, content: bytes | None) -> None:
        """Put other bytes under an object's name, or take it away."""
        name = f"files/md5/{md5[:2]}/{md5[2:]}"
        if self.kind == "s3":
            client = boto3.client("s3")
            if content is None:
                client.delete_object(Bucket=BUCKET, Key=f"shared/{name}")
            else:
                client.put_object(Bucket=BUCKET, Key=f"shared/{name}", Body=content)
        else:
            file = self.folder / name
            file.unlink()
            if content is not None:
                file.write_bytes(content)
                file.chmod(0o444)  # as DVC leaves objects in a folder, which it then believes


@contextmanager
def open_remote(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    """Serve a remote of one kind, through a relay where there is a server."""
    folder = tmp_path / "storage"
    if kind == "folder":
        yield Remote(kind, folder)
        return
    with SERVERS[kind](tmp_path) as server, relay(server) as between:
        variables = s3_environment(between.port) if kind == "s3" else ssh_environment(tmp_path, between.port)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        yield Remote(kind, folder, server, between)


@pytest.fixture(params=["folder", "s3", "ssh"])
def remote(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    with open_remote(request.param, tmp_path, monkeypatch) as opened:
        yield opened


@pytest.fixture(params=SERVERS)
def server_remote(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Remote]:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")  # a dead server is noticed at once
    with open_remote(request.param, tmp_path, monkeypatch) as opened:
        yield opened


@pytest.fixture
def first(with_experiment: Clone, tmp_path: Path) -> Clone:
    return with_experiment.copy_to(tmp_path / "first")


def clone_of(first: Clone, name: str = "second") -> Clone:
    first.git("clone", "--quiet", ".", f"../{name}")
    second = Clone(first.path.parent / name)
    second.git("config", "user.name", "A. Second")
    second.git("config", "user.email", "second@example.com")
    return second


def predictions(clone: Clone) -> dict[str, list[int]]:
    images, features = (
        load_images(clone.path / "data/test_images.npy"),
        load_features(clone.path / "data/test_features.npy"),
    )
    return {
        "logreg": load_model("models/logreg.joblib", clone.path).predict(features).tolist(),
        "nn": score(load_model("models/nn.keras", clone.path), images[:]).argmax(axis=1).tolist(),
    }


def locked_md5(clone: Clone, path: str) -> str:
    outputs = [out for stage in clone.lock()["stages"].values() for out in stage.get("outs", [])]
    return next(out["md5"] for out in outputs if out["path"] == path)


def wrong_files(clone: Clone) -> list[str]:
    """Outputs in the workspace that are not what dvc.lock says; missing ones are not wrong."""
    return [
        out["path"]
        for stage in clone.lock()["stages"].values()
        for out in stage.get("outs", [])
        if (file := clone.path / out["path"]).exists() and hashlib.md5(file.read_bytes()).hexdigest() != out["md5"]
    ]


def fails_in_one_line(clone: Clone, command: str, *said: str) -> None:
    done = clone.call("sh", "-c", command, check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    errors = [line for line in done.stdout.splitlines() if line.startswith(("runs:", "ERROR"))]
    assert len(errors) == 1, done.stdout
    assert all(word in errors[0] for word in said), errors


def test_a_second_person_has_everything_and_runs_nothing(first: Clone, remote: Remote) -> None:
    remote.set_in(first)
    first.sh("make push")
    second = clone_of(first)
    second.sh("make pull")

    assert second.repro() == []
    assert "up to date" in second.sh("dvc status")
    assert predictions(second) == predictions(first)

    for clone in (first, second):
        assert executed(clone.sh("dvc exp run -S percentile=50")) == []
    assert second.metrics() == first.metrics()


def test_plain_dvc_moves_the_results_of_a_commit(first: Clone, remote: Remote) -> None:
    remote.set_in(first)
    first.sh("dvc push --run-cache")
    second = clone_of(first)
    second.sh("dvc pull --run-cache")
    assert second.repro() == []
    assert "up to date" in second.sh("dvc status")


def test_an_experiment_travels_with_its_artifacts(first: Clone, tmp_path: Path) -> None:
    Remote("folder", tmp_path / "storage").set_in(first)
    first.git("init", "--quiet", "--bare", "--initial-branch=main", "../git")
    first.git("remote", "add", "origin", "../git")
    first.git("push", "--quiet", "origin", "main")
    first.sh("dvc exp run --name shared -S percentile=50")
    first.sh("dvc exp push origin shared")

    first.git("clone", "--quiet", "../git", "../second")
    second = Clone(tmp_path / "second")
    assert "shared" in second.sh("dvc exp list origin")
    second.sh("dvc exp pull origin shared")
    (tmp_path / "storage").rename(tmp_path / "gone")  # everything came with the pull
    second.sh("dvc exp apply shared")

    assert "up to date" in second.sh("dvc status")
    assert second.metrics() == first.metrics()
    assert predictions(second) == predictions(first)


def test_a_server_that_dies_half_way_costs_a_retry_and_nothing_else(first: Clone, server_remote: Remote) -> None:
    between = server_remote.relay
    assert between is not None
    server_remote.set_in(first)

    between.kill_server_after(HALF_OF_THE_FILES)
    fails_in_one_line(first, "python -m tools.runs push", "remote storage")
    assert "up to date" in first.sh("dvc status")
    assert first.repro() == []
    between.restart_server()
    first.sh("make push")

    second = clone_of(first)
    between.kill_server_after(HALF_OF_THE_FILES)
    fails_in_one_line(second, "python -m tools.runs pull", "remote storage")
    second.sh("dvc status")
    assert wrong_files(second) == []
    between.restart_server()
    first.sh("make push")  # the S3 server keeps its bucket in memory: what it had is gone
    second.sh("make pull")
    assert second.repro() == []
    assert "up to date" in second.sh("dvc status")


def test_arrays_that_are_folders_travel_and_are_checked(small_run: Clone, tmp_path: Path) -> None:
    first = cut_small(small_run, tmp_path / "first")
    Remote("folder", tmp_path / "storage").set_in(first)
    first.repro()
    first.git("commit", "--quiet", "--all", "--message", "Large arrays")
    first.sh("make push")
    second = clone_of(first)
    second.sh("make pull")
    assert second.repro() == []
    assert load_images(second.path / "data/train_images.npy").shape == (1000, 28, 28, 1)
    assert "outputs are here, as dvc.lock says" in second.sh("make check")

    part = second.path / "data/train_images.npy/00003.npy"
    whole = part.read_bytes()
    part.unlink()  # it may be a link to the cache
    part.write_bytes(whole[:-1] + b"x")
    os.utime(part, ns=(0, 0))
    said = second.sh("make check", check=False)
    assert "data/train_images.npy is not what dvc.lock says, it was edited" in said
    second.sh("make repro")
    assert part.read_bytes() == whole
    assert "outputs are here, as dvc.lock says" in second.sh("make check")

    md5 = hashlib.md5(whole).hexdigest()
    stored_object = second.path / f".dvc/cache/files/md5/{md5[:2]}/{md5[2:]}"
    stored_object.chmod(0o644)
    stored_object.write_bytes(b"broken")
    said = second.sh("make check", check=False)
    assert f"{md5[2:]}, which is data/train_embedding.npy/00003.npy, is not what its name says" in said


def test_an_interrupted_push_of_a_large_array_sends_the_rest(
    first: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "MOST_BYTES_PER_FILE", MB)
    array = Stored.create(first.path / "data/large.npy", (32, MB), np.uint8)
    array[:] = np.random.default_rng(0).integers(0, 256, array.shape, np.uint8)
    with open_remote("ssh", tmp_path, monkeypatch) as remote:
        between = remote.relay
        assert between is not None
        remote.set_in(first)
        first.dvc("add", "data/large.npy")
        between.kill_server_after(20 * MB)
        assert "failed to push" in first.dvc("push", "--jobs", "2", "data/large.npy.dvc", check=False)
        between.restart_server()
        between.kill_server_after(64 * MB)
        first.dvc("push", "--jobs", "2", "data/large.npy.dvc")
        assert 64 * MB - between.left < 16 * MB
        assert first.dvc("push", "data/large.npy.dvc").strip() == "Everything is up to date."


def test_a_corrupted_object_is_named_and_stays_out(first: Clone, remote: Remote) -> None:
    remote.set_in(first)
    first.sh("make push")
    md5 = locked_md5(first, "models/kmeans.joblib")
    remote.replace_object(md5, b"not a model")

    second = clone_of(first)
    second.sh("dvc remote modify --unset storage verify")
    fails_in_one_line(second, "python -m tools.runs pull", "missing or corrupted", "models/kmeans.joblib", md5)
    assert not list((second.path / "models").glob("kmeans*"))
    second.sh("dvc remote modify storage verify true")
    done = second.call("dvc", "pull", check=False)
    assert done.returncode != 0
    assert "models/kmeans.joblib" in done.stdout
    assert not list((second.path / "models").glob("kmeans*"))
    assert wrong_files(second) == []

    remote.replace_object(md5, None)
    first.sh("make push")
    second.sh("make pull")
    assert second.repro() == []


def test_a_read_only_folder_gives_one_error(first: Clone, tmp_path: Path) -> None:
    remote = Remote("folder", tmp_path / "storage")
    remote.set_in(first)
    remote.folder.mkdir(mode=0o555)
    # root may write anywhere, unless its capabilities are taken away
    bare = "setpriv --bounding-set=-all --inh-caps=-all " if os.geteuid() == 0 else ""
    fails_in_one_line(first, f"{bare}python -m tools.runs push", "remote storage", "Permission denied")
    assert first.repro() == []


@pytest.mark.parametrize("ssh_server", [sftp_server, openssh_server])
def test_a_read_only_ssh_server_gives_one_error(
    first: Clone,
    ssh_server: Callable[..., AbstractContextManager[Server]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with ssh_server(tmp_path, read_only=True) as server:
        monkeypatch.setenv("HOME", ssh_environment(tmp_path, server.port)["HOME"])
        Remote("ssh", tmp_path / "storage").set_in(first)
        fails_in_one_line(first, "python -m tools.runs push", "remote storage", "Permission denied")
    assert first.repro() == []


def test_a_read_only_bucket_gives_one_error(first: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with read_only_s3_server(tmp_path) as variables:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        Remote("s3", tmp_path / "storage").set_in(first)
        fails_in_one_line(first, "python -m tools.runs push", "remote storage", "Access Denied")
    assert first.repro() == []


def test_a_full_folder_gives_one_error_and_room_lets_the_retry_complete(first: Clone, tmp_path: Path) -> None:
    mount = ("unshare", "--map-root-user", "--mount", "sh", "-c")
    if shutil.which("unshare") is None or first.call(*mount, "mount -t tmpfs none /mnt", check=False).returncode:
        pytest.skip("mounting a small file system needs user namespaces")
    remote = Remote("folder", tmp_path / "storage")
    remote.set_in(first)
    remote.folder.mkdir()
    script = f"""
        mount -t tmpfs -o size=2m none {remote.folder}
        python -m tools.runs push && exit 99
        mount -o remount,size=64m {remote.folder}
        python -m tools.runs push
    """
    said = first.call(*mount, script).stdout
    errors = [line for line in said.splitlines() if line.startswith(("runs:", "ERROR"))]
    assert len(errors) == 1, said
    assert "remote storage" in errors[0]
    assert "No space left on device" in errors[0]
    assert "files pushed" in said


def swap_model(clone: Clone, path: str) -> Path:
    """Put a file in a model's place that leaves a marker when it is loaded."""
    marker = clone.path.parent / "executed"
    file = clone.path / path
    file.unlink()
    joblib.dump(Malicious(marker), file)
    return marker


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def test_the_swapped_model_would_run_code(clone: Clone) -> None:
    marker = swap_model(clone, "models/logreg.joblib")
    joblib.load(clone.path / "models/logreg.joblib")
    assert marker.exists()


@pytest.mark.parametrize("path", MODELS)
def test_a_swapped_model_is_not_loaded(clone: Clone, path: str) -> None:
    load_model(path, clone.path)
    marker = swap_model(clone, path)
    with pytest.raises(InputError, match=f"{path} has MD5 .* dvc.lock says {locked_md5(clone, path)}: not loaded"):
        load_model(path, clone.path)
    assert not marker.exists()


def test_a_model_that_dvc_lock_does_not_name_is_not_loaded(clone: Clone) -> None:
    (clone.path / "models/other.joblib").write_bytes((clone.path / "models/kmeans.joblib").read_bytes())
    with pytest.raises(InputError, match=r"models/other\.joblib .* dvc.lock says nothing of it"):
        load_model("models/other.joblib", clone.path)


@pytest.mark.parametrize("command", ["dvc repro", "dvc checkout --force", "dvc exp run -S percentile=25"])
def test_dvc_puts_the_right_model_back_before_a_stage_loads_it(clone: Clone, command: str) -> None:
    for path in MODELS:
        marker = swap_model(clone, path)
    assert sorted(wrong_files(clone)) == list(MODELS)
    assert executed(clone.sh(command)) == []
    assert not marker.exists()
    assert wrong_files(clone) == []


def test_no_stage_writes_into_a_file_that_the_cache_links_to(clone: Clone) -> None:
    clone.sh("dvc config cache.type hardlink")
    clone.sh("dvc checkout --relink")
    outputs = [out for stage in clone.lock()["stages"].values() for out in stage.get("outs", [])]
    linked = [out for out in outputs if (clone.path / out["path"]).stat().st_nlink > 1]
    assert len(linked) == 35

    for stage in clone.lock()["stages"].values():
        clone.sh(stage["cmd"])  # without DVC, which would take the old outputs away first

    for out in linked:
        cached = clone.path / ".dvc/cache/files/md5" / out["md5"][:2] / out["md5"][2:]
        assert hashlib.md5(cached.read_bytes()).hexdigest() == out["md5"]
        assert cached.stat().st_nlink == 1, out["path"]  # the output is another file now
    assert clone.repro() == []
