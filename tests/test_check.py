"""No command calls a state good that dvc.lock does not describe, and what it mends it names."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import PROJECT, Clone, environment, executed
from tests.test_remotes import locked_md5, wrong_files
from tools.check import Output, compare, hash_files, keep, runs_stages

BOUGHT = "data/bought_labels.csv"
MODEL = "models/kmeans.joblib"
RWLOCK = ".dvc/tmp/rwlock"


def cached(clone: Clone, path: str) -> Path:
    md5 = locked_md5(clone, path)
    return Path(".dvc/cache/files/md5", md5[:2], md5[2:])


def flip(file: Path) -> None:
    """Change one bit of a file in place, as a broken disk does: neither size nor time nor permissions tell."""
    before = file.stat()
    file.chmod(0o644)
    with file.open("r+b") as content:
        first = content.read(1)[0]
        content.seek(0)
        content.write(bytes([first ^ 1]))
    file.chmod(before.st_mode)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_ino, after.st_size, after.st_mtime_ns) == (before.st_ino, before.st_size, before.st_mtime_ns)


def edit(file: Path) -> bytes:
    """Take the last line away, and save by renaming, as editors do."""
    edited = "".join(file.read_text().splitlines(keepends=True)[:-1])
    saved = file.with_suffix(".swp")
    saved.write_text(edited)
    saved.replace(file)
    return edited.encode()


def said(output: str) -> list[str]:
    """The lines that the check printed."""
    return [line.removeprefix("check: ") for line in output.splitlines() if line.startswith("check: ")]


def fails(clone: Clone, command: str) -> list[str]:
    done = clone.call("sh", "-c", command, check=False)
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stdout
    return said(done.stdout)


def make(target: str) -> str:
    return f"make BIN={Path(sys.executable).parent} --old-file=.venv/installed --no-print-directory {target}"


CHECK = "python -m tools.check"


def test_a_run_is_as_its_lock_says(clone: Clone) -> None:
    output = clone.sh("make check")
    n_outputs = sum(len(stage.get("outs", [])) for stage in clone.lock()["stages"].values())
    n_objects = len(list((clone.path / ".dvc/cache/files/md5").glob("??/*")))
    assert f"{n_outputs} of {n_outputs} outputs are here, as dvc.lock says; " in output
    assert f"all {n_objects} objects" in output
    assert said(output) == []
    assert said(clone.sh("make repro")) == []
    assert list(clone.path.rglob("*.edited.*")) == []


def test_the_files_of_the_workspace_are_no_links_to_the_cache(clone: Clone) -> None:
    clone.dvc("checkout", "--relink")  # as the project's settings have it
    for stage in clone.lock()["stages"].values():
        for out in stage.get("outs", []):
            assert (clone.path / out["path"]).stat().st_nlink == 1
            assert not (clone.path / out["path"]).is_symlink()


def test_what_is_written_in_place_is_kept_and_made_again(clone: Clone) -> None:
    clone.repro()  # DVC knows the times, sizes and inodes of this copy now
    flip(clone.path / BOUGHT)
    edited = (clone.path / BOUGHT).read_bytes()
    assert "up to date" in clone.dvc("repro")  # why hashes are needed

    (line,) = fails(clone, CHECK)
    assert re.match(rf"{BOUGHT} is not what dvc\.lock says, it was edited.*make repro has select-labels make it", line)

    output = clone.sh("make repro")
    line, hint = said(output)
    assert line.startswith(f"{BOUGHT} was edited")
    assert "select-labels" in line
    assert "labels/<dataset>.csv" in hint
    assert executed(output) == []
    assert wrong_files(clone) == []
    assert (clone.path / "data/bought_labels.edited.csv").read_bytes() == edited
    assert clone.git("status", "--porcelain") == ""
    assert said(clone.sh("make check")) == []


def test_an_edit_by_hand_is_named_and_kept_whatever_runs_next(clone: Clone) -> None:
    first = edit(clone.path / BOUGHT)
    line, _ = said(clone.sh("make repro"))
    assert "written by select-labels and made again; what was there is kept as data/bought_labels.edited.csv" in line
    assert wrong_files(clone) == []

    (clone.path / BOUGHT).write_text("image,class\n")  # another edit, and one of a metric, which git holds
    metrics = clone.path / "metrics/metrics.json"
    metrics.write_text("{}")
    lines = said(clone.sh("make repro"))
    assert [line.split()[0] for line in lines[:-1]] == [BOUGHT, "metrics/metrics.json"]
    assert (clone.path / "data/bought_labels.edited.csv").read_bytes() == first
    assert (clone.path / "data/bought_labels.edited.2.csv").read_text() == "image,class\n"
    assert (clone.path / "metrics/metrics.edited.json").read_text() == "{}"
    assert wrong_files(clone) == []
    assert clone.git("status", "--porcelain") == ""


def test_an_edit_is_kept_where_the_cache_is_gone_too(clone: Clone) -> None:
    edited = edit(clone.path / BOUGHT)
    (clone.path / cached(clone, BOUGHT)).unlink()
    output = clone.sh("make repro")
    assert executed(output) == ["select-labels"]
    assert (clone.path / "data/bought_labels.edited.csv").read_bytes() == edited
    assert wrong_files(clone) == []


def test_a_pull_keeps_an_edit_too(clone: Clone, tmp_path: Path) -> None:
    clone.dvc("remote", "add", "--default", "storage", str(tmp_path / "storage"))
    clone.sh("make push")
    edited = edit(clone.path / BOUGHT)
    assert any(BOUGHT in line for line in fails(clone, make("push")))
    line, _ = said(clone.sh("make pull"))
    assert line.startswith(BOUGHT)
    assert (clone.path / "data/bought_labels.edited.csv").read_bytes() == edited
    assert wrong_files(clone) == []


def test_a_model_replaced_in_place_is_named_and_put_back(clone: Clone) -> None:
    clone.repro()
    flip(clone.path / MODEL)
    assert "up to date" in clone.dvc("repro")
    (line,) = fails(clone, CHECK)
    assert line.startswith(f"{MODEL} is not what dvc.lock says")
    line, _ = said(clone.sh("make repro"))
    assert re.match(rf"{MODEL} was edited.* written by kmeans and made again$", line)
    assert wrong_files(clone) == []


@pytest.mark.parametrize("target", ["repro", "few-labels", "label", "study", "bench", "pull"])
def test_a_command_that_runs_stages_or_takes_from_the_cache_looks_first(target: str) -> None:
    commands = re.findall(r"/(?:dvc|python) .*", Clone(PROJECT).sh(f"make --dry-run {target}"))
    assert commands[0] == "/python -m tools.check --mend"


def test_a_broken_object_stops_every_command_with_the_cure(clone: Clone, tmp_path: Path) -> None:
    clone.dvc("remote", "add", "--default", "storage", str(tmp_path / "storage"))
    broken = cached(clone, MODEL)
    flip(clone.path / broken)
    (clone.path / MODEL).unlink()

    for target in ("check", "push", "repro", "pull"):
        lines = fails(clone, make(target))
        (line,) = [line for line in lines if str(broken) in line]
        assert f"{broken}, which is {MODEL}, is not what its name says" in line
    assert not (clone.path / MODEL).exists()
    assert not (tmp_path / "storage").exists()

    cure = re.search(r"; (rm -f .+), then make repro or make pull$", line)
    assert cure
    clone.call("sh", "-c", cure[1])
    assert executed(clone.sh("make repro")) == ["kmeans"]
    assert wrong_files(clone) == []
    assert said(clone.sh("make push")) == []


def test_a_broken_object_of_an_earlier_run_stops_them_too(with_experiment: Clone, tmp_path: Path) -> None:
    clone = with_experiment.copy_to(tmp_path / "clone")
    now = {out["md5"] for stage in clone.lock()["stages"].values() for out in stage.get("outs", [])}
    clone.dvc("exp", "apply", "half")
    earlier = cached(clone, "data/training_set.csv")
    assert locked_md5(clone, "data/training_set.csv") not in now
    clone.git("checkout", ".")
    clone.dvc("checkout")
    flip(clone.path / earlier)
    clone.set_params({"percentile": 50})
    (line,) = fails(clone, make("repro"))
    assert f"{earlier}, which is of an earlier run, is not what its name says" in line


def test_root_writing_through_a_hard_link_is_noticed_and_healed(clone: Clone) -> None:
    clone.dvc("config", "--local", "cache.type", "hardlink")
    clone.dvc("checkout", "--relink")
    assert (clone.path / BOUGHT).samefile(clone.path / cached(clone, BOUGHT))
    flip(clone.path / BOUGHT)
    edited = (clone.path / BOUGHT).read_bytes()
    broken = cached(clone, BOUGHT)

    lines = fails(clone, make("repro"))
    assert [str(broken) in line for line in lines] == [True]
    clone.call("rm", "-f", str(broken))
    output = clone.sh("make repro")
    assert said(output)[0].startswith(f"{BOUGHT} was edited")
    assert executed(output) == ["select-labels"]
    assert (clone.path / "data/bought_labels.edited.csv").read_bytes() == edited
    assert wrong_files(clone) == []


def test_outputs_of_another_run_stop_nothing(with_experiment: Clone, tmp_path: Path) -> None:
    clone = with_experiment.copy_to(tmp_path / "clone")
    clone.dvc("exp", "apply", "half")
    clone.git("checkout", ".")
    wrong = wrong_files(clone)
    assert "data/training_set.csv" in wrong
    lines = fails(clone, CHECK)
    assert sorted(line.split()[0] for line in lines) == sorted(wrong)
    assert all("is not what dvc.lock says but what another run made: make repro" in line for line in lines)

    output = clone.sh("make repro")
    assert said(output) == []
    assert executed(output) == []
    assert wrong_files(clone) == []
    assert list(clone.path.rglob("*.edited.*")) == []


def test_what_an_interrupted_run_left_stops_nothing(clone: Clone) -> None:
    # A stage wrote one output, and was killed before it wrote the others.
    (clone.path / "models/nn.keras").write_bytes(b"another model")
    for name in ("models/nn_training.json", "data/nn_pool_scores.npy"):
        (clone.path / name).unlink()
    (line, _) = said(clone.sh("make repro"))
    assert line.startswith("models/nn.keras was edited, or left by an interrupted run")
    assert wrong_files(clone) == []
    assert said(clone.sh("make check")) == []


def test_what_is_missing_is_named_by_check_and_made_by_repro(clone: Clone) -> None:
    (clone.path / MODEL).unlink()
    assert fails(clone, CHECK) == [f"{MODEL} is missing: make repro or make pull"]
    assert said(clone.sh("make repro")) == []
    assert wrong_files(clone) == []


def test_a_fresh_clone_has_its_results_from_git_and_lacks_the_rest(clone: Clone) -> None:
    clone.git("clone", "--quiet", ".", "../second")
    second = Clone(clone.path.parent / "second")
    lines = fails(second, CHECK)
    assert lines
    assert all(line.endswith("is missing: make repro or make pull") for line in lines)
    second.git("rm", "--quiet", "dvc.lock")
    assert fails(second, CHECK) == ["there is no dvc.lock, so nothing is made yet: make repro"]


@contextmanager
def running_dvc(clone: Clone) -> Iterator[int]:
    """A dvc that runs a stage, which waits."""
    stages = clone.path / "waiting"
    stages.mkdir()
    (stages / "dvc.yaml").write_text("stages: {wait: {cmd: echo started > started; exec sleep 60}}\n")
    with subprocess.Popen(["dvc", "repro"], cwd=stages, env=environment(), stdout=subprocess.DEVNULL) as process:
        try:
            for _ in range(300):
                if (stages / "started").exists():
                    break
                time.sleep(0.1)
            assert (stages / "started").exists()
            yield process.pid
        finally:
            subprocess.run(["pkill", "-P", str(process.pid)], check=False)
            process.wait(30)


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_list_of_files_in_use_that_an_interrupt_broke_is_removed(clone: Clone, content: str) -> None:
    (clone.path / RWLOCK).write_text(content)
    assert "rwlock" in clone.dvc("repro", check=False)  # DVC is stuck
    (line,) = said(clone.sh("make repro"))
    assert line.startswith(f"{RWLOCK} was broken, as an interrupt leaves it; no dvc is running, so it was removed")


def test_nothing_is_mended_under_a_dvc_that_runs(clone: Clone) -> None:
    partial = clone.path / "data/.training_set.partial.csv"
    partial.write_text("half")
    with running_dvc(clone) as pid:
        assert (clone.path / RWLOCK).read_text()
        clone.call("python", "-m", "tools.check", "--mend")
        assert partial.exists()
        (clone.path / RWLOCK).write_text("")
        (line,) = fails(clone, make("repro"))
        assert line.startswith(f"{RWLOCK} is broken, and process {pid} (")
        assert (clone.path / RWLOCK).exists()
        assert (clone.path / RWLOCK).read_text() == ""
        (clone.path / RWLOCK).unlink()
        edited = edit(clone.path / BOUGHT)
        (line,) = fails(clone, make("repro"))
        assert line.startswith(f"{BOUGHT} is not what dvc.lock says, and process {pid} (")
        assert (clone.path / BOUGHT).read_bytes() == edited
        assert any(line.startswith(f"process {pid} (") for line in fails(clone, CHECK))


def test_what_killed_stages_left_is_removed_and_photos_are_not(clone: Clone) -> None:
    left = ["data/.train_images.partial.npy", "models/.nn.partial.keras", "metrics/plots/.a.partial.png"]
    for name in [*left, "study/results/.a.partial.json", "data/own/train/.dog.partial.jpg"]:
        (clone.path / name).parent.mkdir(parents=True, exist_ok=True)
        (clone.path / name).write_text("half")
    lines = said(clone.sh("make repro"))
    assert sorted(lines) == sorted(
        f"{name} was left by a killed run, and is removed" for name in [*left, "study/results/.a.partial.json"]
    )
    assert [str(file.relative_to(clone.path)) for file in clone.path.rglob(".*.partial*")] == [
        "data/own/train/.dog.partial.jpg"
    ]


@pytest.mark.parametrize(
    ("command", "runs"),
    [
        ("/usr/bin/python3 /opt/bin/dvc repro", True),
        ("python -m dvc exp run", True),
        ("dvc push", True),
        ("python -m stages.kmeans --seed 1", True),
        ("python -m study.run", True),
        ("python -m dvc daemon updater", False),
        ("python -m tools.check", False),
        ("vim dvc.yaml", False),
        ("git commit -m dvc", False),
        ("", False),
    ],
)
def test_processes_that_run_stages_are_told_by_their_command(command: str, runs: bool) -> None:
    assert runs_stages(command.split()) == runs


def test_the_comparison_sorts_outputs_by_what_became_of_them() -> None:
    good, other, flipped = "a" * 32, "b" * 32, "c" * 32
    outputs = [Output(Path(name), good, "stage") for name in ("same", "missing", "other", "edited", "as_flipped")]
    objects = [Path(md5[:2], md5[2:]) for md5 in (good, other, flipped)]
    found = {Path("same"): good, Path("other"): other, Path("edited"): "d" * 32, Path("as_flipped"): flipped}
    compared = compare(outputs, objects, found | dict(zip(objects, (good, other, "e" * 32), strict=True)))
    names = [
        [str(output.path) for output in group]
        for group in (compared.same, compared.missing, compared.of_another_run, compared.edited)
    ]
    assert names == [["same"], ["missing"], ["other"], ["edited", "as_flipped"]]
    assert compared.broken == {objects[2]: "of an earlier run"}


def test_files_are_hashed_once_for_all_their_names(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    (tmp_path / "c").symlink_to(tmp_path / "a")
    here = [tmp_path / name for name in "abc"]
    assert hash_files([*here, tmp_path / "d", tmp_path]) == dict.fromkeys(here, "900150983cd24fb0d6963f7d28e17f72")


def test_a_copy_is_never_written_over(tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    kept = []
    for content in ("1", "2", "1", "3"):
        file.write_text(content)
        kept.append(keep(file).name)
    assert kept == ["a.edited.csv", "a.edited.2.csv", "a.edited.csv", "a.edited.3.csv"]


def test_a_push_names_what_is_neither_here_nor_there(clone: Clone, tmp_path: Path) -> None:
    clone.dvc("remote", "add", "--default", "storage", str(tmp_path / "storage"))
    (clone.path / cached(clone, MODEL)).unlink()
    done = clone.call("sh", "-c", make("push"), check=False)
    assert done.returncode != 0
    lost = f"remote storage at {tmp_path / 'storage'}: {MODEL} (MD5 {locked_md5(clone, MODEL)}): run make repro"
    assert f"in neither DVC's cache nor {lost}" in done.stdout
    assert executed(clone.sh("make repro")) == ["kmeans"]
    clone.sh("make push")
    (clone.path / cached(clone, MODEL)).unlink()
    clone.sh("make push")  # the remote has it
