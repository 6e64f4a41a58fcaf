"""A bad parameter ends the run with one line that says what was seen and what is allowed, and nothing good is lost."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from few_labels.artifacts import load_labels, save_array
from few_labels.errors import InputError, explain, quote, shorten
from few_labels.ledger import read_ledger, resolve
from few_labels.parameters import MOST_PROBLEMS, parameter_names, validate_parameters
from tests.conftest import PROJECT, Clone, executed

# Parameter, bad value, what the line must say.
BAD: list[tuple[str, Any, list[str]]] = [
    ("seed", "$(touch x)", ["seed is '$(touch x)'", "valid integer"]),
    ("seed", True, ["seed is True", "valid integer"]),
    ("percentile", 150, ["percentile is 150", "less than or equal to 100"]),
    ("percentile", -1, ["percentile is -1", "greater than or equal to 0"]),
    ("percentile", float("nan"), ["percentile is nan", "finite"]),
    ("n_clusters", 1, ["n_clusters is 1", "greater than or equal to 2"]),
    ("n_clusters", "many", ["n_clusters is 'many'", "valid integer"]),
    ("a\nb", 50, [r"'a\nb' is no parameter"]),
    ("n_cluster", 50, ["n_cluster is no parameter", "n_clusters"]),
    ("train_nn.n_epochs", 5, ["train_nn.n_epochs is no parameter", "max_epochs"]),
    ("kmeans.n_iter_pixles", 3, ["kmeans.n_iter_pixles is no parameter", "kmeans.n_iter_pixels"]),
    ("kmeans.n_iter_components", 2**63, ["kmeans.n_iter_components is 9223372036854775808", "less than or equal to"]),
    ("kmeans", 3, ["kmeans is 3"]),
    ("select_labels.strategy", "best", ["select_labels.strategy is 'best'", "representative", "random", "first"]),
    ("select_labels.n_labels", 2.5, ["select_labels.n_labels is 2.5", "valid integer"]),
    ("select_labels.n_labels", 1, ["select_labels.n_labels is 1", "greater than or equal to 2"]),
    ("select_labels.oracle", "parrot", ["select_labels.oracle is 'parrot'", "dataset", "person"]),
    ("select_labels.n_audit", "some", ["select_labels.n_audit is 'some'", "'auto' or a valid integer"]),
    ("select_labels.n_queries", 0, ["select_labels.n_queries is 0", "greater than or equal to 1"]),
    ("featurize.representation", "pixel", ["featurize.representation is 'pixel'", "embedding", "distances"]),
    ("embed.method", "vae", ["embed.method is 'vae'", "pixels", "patches"]),
    ("download.dataset", "../secret", ["download.dataset is '../secret'"]),
    ("download.image_size", 3, ["download.image_size is 3", "greater than or equal to 4"]),
    ("download.channels", "blue", ["download.channels is 'blue'", "auto", "grey", "rgb"]),
    ("download.limit", "half", ["download.limit is 'half'", "valid integer"]),
    ("propagate.method", "magic", ["propagate.method is 'magic'", "cluster", "graph", "logreg"]),
    ("propagate.n_steps", 0, ["propagate.n_steps is 0", "greater than or equal to 1"]),
    ("propagate.alpha", 1, ["propagate.alpha is 1", "less than or equal to 0.999"]),
    ("train_logreg.C", 0, ["train_logreg.C is 0", "greater than or equal to"]),
    ("train_nn.architecture", "huge", ["train_nn.architecture is 'huge'", "compact", "published"]),
    ("train_nn.mixup", -1, ["train_nn.mixup is -1", "greater than or equal to 0"]),
]


def cached_files(clone: Clone) -> set[Path]:
    return {file.relative_to(clone.path) for file in (clone.path / ".dvc/cache/files").rglob("*") if file.is_file()}


@pytest.mark.parametrize(("name", "value", "said"), BAD, ids=[f"{name}={value}" for name, value, _ in BAD])
def test_a_bad_value_is_named(name: str, value: Any, said: list[str]) -> None:
    params = yaml.safe_load((PROJECT / "params.yaml").read_text())
    *groups, key = name.split(".")
    (params[groups[0]] if groups else params)[key] = value
    with pytest.raises(InputError) as caught:
        validate_parameters(params, "params.yaml")
    assert str(caught.value).startswith("params.yaml: ")
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in said)


# One that the table of parameters refuses, and those that depend on what else there is.
BAD_IN_A_RUN: list[tuple[str, Any, list[str]]] = [
    ("propagate.alpha", 1, ["params.yaml: propagate.alpha is 1", "less than or equal to 0.999"]),
    ("download.dataset", "cifar", ["dataset is 'cifar'", "fashion-mnist, own"]),
    ("download.limit", 59, ["download.limit is 59", "null and 60 to 60000"]),
    ("download.source", "/no/such/folder", ["source is", "/no/such/folder", "auto"]),
    ("select_labels.n_audit", 1000, ["select_labels.n_audit is 1000", "auto and 0 to 999"]),
]


@pytest.mark.parametrize(("name", "value", "said"), BAD_IN_A_RUN, ids=[name for name, _, _ in BAD_IN_A_RUN])
def test_a_bad_value_ends_a_run_with_one_line(clone: Clone, name: str, value: Any, said: list[str]) -> None:
    good_params, good_files = (clone.path / "params.yaml").read_text(), cached_files(clone)
    clone.set_params({name: value})

    done = clone.call("dvc", "repro", check=False)

    assert done.returncode != 0
    assert "Traceback" not in done.stdout
    naming = [line for line in done.stdout.splitlines() if all(word in line for word in said)]
    assert len(naming) == 1
    assert re.match(r"[a-z-]+: ", naming[0])

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
    clone.set_params({"select_labels.strategy": "margin", "select_labels.n_labels": 60})
    done = clone.call("sh", "-c", clone.lock()["stages"][stage]["cmd"], check=False)
    assert done.returncode == 2
    assert said in done.stdout
    assert "Traceback" not in done.stdout


def test_a_misspelt_name_stops_the_run_before_it_starts(clone: Clone) -> None:
    params = clone.path / "params.yaml"
    params.write_text(params.read_text().replace("percentile:", "percentil:"))
    done = clone.call("dvc", "repro", check=False)
    assert done.returncode != 0
    assert "percentile is missing" in done.stdout
    assert "percentil is no parameter" in done.stdout
    assert executed(done.stdout) == []


def test_no_value_and_no_name_reaches_a_shell(clone: Clone) -> None:
    """Every parameter holds what a shell would run, and so do names that are none; a source may be any text."""
    trap = "'; touch trapped; \"; touch trapped; `touch trapped` $(touch trapped)\n touch trapped\n"
    clone.set_params(dict.fromkeys(parameter_names(), trap) | {trap: 1, f"train_nn.{trap}": trap})

    # One by one: the first alone would keep the others from their commands.
    for stage in yaml.safe_load((clone.path / "dvc.yaml").read_text())["stages"]:
        done = clone.call("dvc", "repro", "--force", "--single-item", stage, check=False)
        assert not list(clone.path.rglob("trapped"))
        assert "Traceback" not in done.stdout
        if stage != "evaluate":
            assert done.returncode != 0
            told = [line for line in done.stdout.splitlines() if line.startswith(f"{stage}: params.yaml: ")]
            assert len(told) == 1
            assert told[0].endswith(f"and {len(parameter_names()) - 1 + 2 - MOST_PROBLEMS} more")


def test_no_command_holds_a_value() -> None:
    """What DVC puts into a command is read by a shell."""
    for stage in yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"].values():
        assert "$" not in stage["cmd"]


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
        f"image,label,annotator,round\n{'a' * length},Yak,A,1\nb,{'Yak' * (length // 3)},A,1\nc,{'d' * length},A,1,zz\n"
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


@pytest.mark.parametrize("stage", [path.stem for path in (PROJECT / "stages").glob("[a-z]*.py")])
@pytest.mark.parametrize("gigabytes", [0.3, 0.5, 1, 2.5])
def test_a_limit_on_memory_is_one_line(stage: str, gigabytes: float) -> None:
    if gigabytes > 2 and stage != "train_nn":
        pytest.skip("enough")
    command = f"ulimit -v {round(gigabytes * 2**20)}; exec {sys.executable} -m stages.{stage}"
    done = subprocess.run(
        ["sh", "-c", command], cwd=PROJECT, stderr=subprocess.PIPE, text=True, timeout=60, check=False
    )
    [line] = done.stderr.splitlines()
    user = "TensorFlow needs 3" if gigabytes > 2 else "a stage needs 2"
    name = stage.replace("_", "-")
    assert line == f"{name}: memory is limited to {gigabytes:.2f} GB (ulimit -v), {user} GB or more"


def test_memory_that_ends_in_a_stage_is_one_line(tmp_path: Path) -> None:
    for name in ("train", "test"):
        # Many images are worked on in parts, but not parts of an image. These are holes, on disk.
        np.lib.format.open_memmap(tmp_path / f"{name}.npy", "w+", np.uint8, (16, 4096, 4096, 3))
    files = [
        f"--{option.replace('_', '-')}={tmp_path / file}"
        for option, file in {"embedding": "train.npy", "model": "model.joblib", "clustering": "clustering.npz"}.items()
    ]
    command = shlex.join([sys.executable, "-m", "stages.kmeans", *files])
    done = subprocess.run(
        ["sh", "-c", f"ulimit -v {4 * 2**20}; exec {command}"],
        cwd=PROJECT,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("kmeans: out of memory or threads: Unable to allocate")
    assert "Traceback" not in done.stderr
