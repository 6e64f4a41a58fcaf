"""A bad parameter ends the run with one line that says what was seen and what is allowed, and nothing good is lost."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from few_labels.artifacts import load_labels, save_array
from few_labels.errors import InputError, explain, quote, shorten
from few_labels.ledger import read_ledger, resolve
from tests.conftest import PROJECT, Clone

# Parameter, bad value, what the line must say.
BAD: list[tuple[str, Any, list[str]]] = [
    ("percentile", 150, ["propagate:", "percentile", "'150'", "less than or equal to 100"]),
    ("percentile", -1, ["propagate:", "percentile", "'-1'", "greater than or equal to 0"]),
    ("n_clusters", 0, ["kmeans:", "n_clusters", "'0'", "greater than or equal to 1"]),
    ("n_clusters", "many", ["kmeans:", "n_clusters", "'many'", "valid integer"]),
    ("select_labels.strategy", "best", ["select-labels:", "strategy", "'best'", "representative", "random", "first"]),
    ("select_labels.n_labels", 2.5, ["select-labels:", "n_labels", "'2.5'", "valid integer"]),
    ("kmeans.n_iter_pixles", 3, ["kmeans:", "n_iter_pixles", "n_iter_pixels"]),
    ("featurize.representation", "pixel", ["featurize:", "representation", "'pixel'", "embedding", "distances"]),
    ("embed.method", "vae", ["embed:", "method", "'vae'", "pixels", "patches"]),
    ("download.dataset", "cifar", ["download:", "dataset", "'cifar'", "fashion-mnist, own"]),
    ("download.image_size", 3, ["download:", "image_size", "'3'", "greater than or equal to 4"]),
    ("download.channels", "blue", ["download:", "channels", "'blue'", "auto", "grey", "rgb"]),
    ("select_labels.oracle", "parrot", ["select-labels:", "oracle", "'parrot'", "dataset", "person"]),
    ("select_labels.n_audit", 1000, ["select-labels:", "n_audit", "1000", "auto and 0 to 999"]),
    ("select_labels.n_queries", 0, ["select-labels:", "n_queries", "'0'", "greater than or equal to 1"]),
    ("propagate.n_steps", 0, ["propagate:", "n_steps", "'0'", "greater than or equal to 1"]),
    ("train_nn.precision", "auto", ["train-nn:", "precision", "'auto'", "float32", "bfloat16"]),
    ("propagate.method", "magic", ["propagate:", "method", "'magic'", "cluster", "graph", "linear"]),
    ("propagate.alpha", 1, ["propagate:", "alpha", "'1'", "less than or equal to 0.999"]),
    ("train_nn.mixup", -1, ["train-nn:", "mixup", "'-1'", "greater than or equal to 0"]),
    ("train_logreg.C", 0, ["select-labels:", "C", "'0'", "greater than or equal to 0.000001"]),
    ("train_nn.architecture", "huge", ["train-nn:", "architecture", "'huge'", "compact", "published"]),
    ("download.limit", "half", ["download:", "limit", "half", "60 to 60000"]),
    ("download.source", "/no/such/folder", ["download:", "source", "/no/such/folder", "auto"]),
]


def cached_files(clone: Clone) -> set[Path]:
    return {file.relative_to(clone.path) for file in (clone.path / ".dvc/cache/files").rglob("*") if file.is_file()}


@pytest.mark.parametrize(("name", "value", "said"), BAD, ids=[f"{name}={value}" for name, value, _ in BAD])
def test_a_bad_value_is_named_in_one_line(clone: Clone, name: str, value: Any, said: list[str]) -> None:
    good_params, good_files = (clone.path / "params.yaml").read_text(), cached_files(clone)
    clone.set_params({name: value})

    done = clone.call("dvc", "repro", check=False)

    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    naming = [line for line in done.stdout.splitlines() if line.startswith(said[0])]
    assert len(naming) == 1
    assert all(word in naming[0] for word in said)

    assert good_files <= cached_files(clone)
    (clone.path / "params.yaml").write_text(good_params)
    assert clone.repro() == []
    assert clone.git("status", "--porcelain") == ""


def test_a_patch_that_does_not_fit_is_named_in_one_line(clone: Clone) -> None:
    for patch_size in (29, 28):
        clone.set_params({"embed.method": "patches", "embed.patch_size": patch_size})
        done = clone.call("dvc", "repro", "embed", check=False)
        assert f"embed: patch_size is {patch_size} and n_regions 3: an image of 28 x 28 has" in done.stdout
        assert "Traceback" not in done.stdout


@pytest.mark.parametrize(
    ("file", "stage", "said"),
    [
        ("data/train_embedding.npy", "select-labels", "embedding.npy: 900 images are embedded, there are 1000"),
        ("data/clustering.npz", "select-labels", "clustering.npz: 900 images are clustered, there are 1000"),
        ("data/train_names.csv", "select-labels", "train_names.csv: 900 names, there are 1000 images"),
        ("data/nn_test_scores.npy", "evaluate", "scores are float32 of shape (167, 10)"),
    ],
)
def test_files_of_other_lengths_are_named_in_one_line(clone: Clone, file: str, stage: str, said: str) -> None:
    path = clone.path / file
    if path.suffix == ".npz":
        with np.load(path) as arrays:
            shorter = {name: array[:900] if name != "representative" else array for name, array in arrays.items()}
        path.unlink()
        np.savez(path, **shorter)
    else:
        content = path.read_text().splitlines()[:901] if path.suffix == ".csv" else np.load(path)[:900]
        path.unlink()
        if isinstance(content, list):
            path.write_text("\n".join(content) + "\n")
        else:
            np.save(path, content[:100] if "scores" in file else content)
    # By hand: dvc would bring the right file back.
    clone.set_params({"select_labels.strategy": "margin"})
    command = clone.lock()["stages"][stage]["cmd"].replace("--strategy representative", "--strategy margin")
    done = clone.call("sh", "-c", command.replace("--n_labels 50", "--n_labels 60"), check=False)
    assert done.returncode == 2
    assert said in done.stdout
    assert "Traceback" not in done.stdout


def test_a_misspelt_name_is_missed_where_it_is_used(clone: Clone) -> None:
    params = clone.path / "params.yaml"
    params.write_text(params.read_text().replace("percentile:", "percentil:"))
    done = clone.call("dvc", "repro", check=False)
    assert done.returncode != 0
    assert "ERROR: failed to parse 'stages.propagate.cmd' in 'dvc.yaml': Could not find 'percentile'" in done.stdout


def test_a_misspelt_parameter_on_the_command_line_is_refused(clone: Clone) -> None:
    done = clone.call("dvc", "exp", "run", "-S", "percentil=50", check=False)
    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    assert "Could not override 'percentil'" in done.stdout


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_ledger_that_never_ends_is_refused(tmp_path: Path, kind: str) -> None:
    ledger = tmp_path / "own.csv"
    if kind == "pipe":
        os.mkfifo(ledger)
    else:
        ledger.symlink_to("/dev/zero")
    # In a process of its own: one that opens it waits for good.
    program = (
        "import sys; from pathlib import Path; from few_labels.ledger import append_answer, read_ledger\n"
        "append = lambda path: append_answer(path, image='a', label='b', annotator='c', round=1)\n"
        "for attempt in (read_ledger, append):\n"
        "    try:\n"
        "        attempt(Path(sys.argv[1]))\n"
        "    except ValueError as error:\n"
        "        print(error)\n"
    )
    command = [sys.executable, "-c", program, str(ledger)]
    done = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, timeout=30, check=True)
    assert done.stdout.splitlines() == 2 * [
        f"{shorten(ledger)} is neither a file nor a folder, but a pipe, a socket or a device"
    ]


@pytest.mark.parametrize("length", [100, 199, 10_000])
def test_a_long_line_of_the_ledger_does_not_fill_the_screen(tmp_path: Path, length: int) -> None:
    (tmp_path / "own.csv").write_text(
        f"image,label,annotator,round\n{'a' * length},Yak,A,1\nb,{'Yak' * (length // 3)},A,1\nc,{'d' * length},A,1,\n"
        f"d,{'yak' * (length // 3)},A,1\n"
    )
    answers, warnings = read_ledger(tmp_path / "own.csv")
    _, more_warnings = resolve(answers, ["Yak" * (length // 3)], ["b", "d"])
    assert len(warnings + more_warnings) >= 3
    assert max(map(len, warnings)) < 300 + len(str(tmp_path))
    assert max(map(len, more_warnings)) < 250


def test_what_is_shown_of_a_value_is_short_and_has_both_ends() -> None:
    assert quote("no more than this") == "'no more than this'"
    for value in ("start" + 10_000 * "-" + "end", ["start"] + 10_000 * ["-" * 100], {"start": 10_000 * "\x1b"}):
        assert len(quote(value)) < 1000
        assert quote(value).isprintable()
    assert shorten("no more than this") == "no more than this"
    for longest in (5, 6, 100):
        assert len(shorten("start" + 10_000 * "-" + "end", longest)) == longest
    assert shorten("0123456789", 5) == "01…89"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("is 3"), "is 3"),
        (OSError(30, "Read-only file system", "data/x"), "[Errno 30] Read-only file system: 'data/x'"),
        (MemoryError(), "out of memory or threads"),
        (MemoryError("std::bad_alloc"), "out of memory or threads: std::bad_alloc"),
        (ImportError("libx.so: failed to map segment from shared object"), "out of memory or threads: libx.so: failed"),
        (RuntimeError("can't start new thread"), "out of memory or threads: can't start new thread"),
        (RuntimeError("a mistake of ours"), None),
        (ValueError("a mistake of ours"), None),
    ],
)
def test_only_what_a_user_can_mend_is_one_line(error: Exception, line: str | None) -> None:
    said = explain(error)
    assert said is None if line is None else said is not None and said.startswith(line)


@pytest.mark.parametrize(("limit", "refused"), [(2**29, True), (2**30, False), (2**40, False), (None, False)])
def test_a_limit_on_memory_is_seen_before_it_hurts(limit: int | None, refused: bool) -> None:
    program = "from few_labels.errors import require_memory; require_memory(1, 'kmeans')"
    command = [f'ulimit -v {limit // 1024 if limit else "unlimited"}; exec {sys.executable} -c "{program}"']
    done = subprocess.run(["sh", "-c", *command], cwd=PROJECT, stderr=subprocess.PIPE, text=True, check=False)
    said = "memory is limited to 0.50 GB (ulimit -v), kmeans needs 1 GB or more"
    assert (done.returncode != 0) == (said in done.stderr) == refused


def test_what_cannot_be_written_is_said_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data/x.npy").mkdir()
    (tmp_path / "data/x.npy/full").touch()
    with pytest.raises(OSError, match="x") as error:
        save_array(tmp_path / "data/x.npy", np.zeros(3))
    assert error.value.filename == str(tmp_path / "data/x.npy")
    assert not list(tmp_path.glob("data/.*"))


def test_labels_of_any_number_are_checked_too(tmp_path: Path) -> None:
    save_array(tmp_path / "x.npy", np.zeros(3, np.int16))
    assert len(load_labels(tmp_path / "x.npy")) == len(load_labels(tmp_path / "x.npy", 3)) == 3
    with pytest.raises(InputError, match=r"labels are int16 of shape \(4,\)"):
        load_labels(tmp_path / "x.npy", 4)
    save_array(tmp_path / "x.npy", np.zeros((3, 1), np.int16))
    with pytest.raises(InputError, match=r"labels are int16 of shape \(n,\)"):
        load_labels(tmp_path / "x.npy")
    (tmp_path / "x.npy").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"x\.npy: not an array"):
        load_labels(tmp_path / "x.npy")
