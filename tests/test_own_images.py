"""Anyone's images, by the real dvc: digits and colour photos, in folders of classes, all together, or as IDX files.

Where no edge of the graph is in question, the stages' command lines run in this process, which spares their imports.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from few_labels.errors import InputError
from few_labels.ledger import Line, append_answer, append_lines, new_decision
from few_labels.sheets import LONGEST_CAPTION, shorten
from stages.download import check_limit
from tests.conftest import PROJECT, Clone, clone_project, executed, run_stage
from tests.datasets import digits, noise_patterns, tiles, to_idx, write_folder

# Seconds for a whole run.
SMALL: dict[str, Any] = {
    "download.dataset": "own",
    "download.image_size": 8,
    "n_clusters": 50,
    "kmeans.n_components": 16,
    "train_nn.max_steps": 60,
}
PERSON = {"select_labels.oracle": "person"}
LEARNING = {"refine", "propagate", "train-logreg", "train-nn", "evaluate"}
METRICS = {"labels", "propagation", "logreg", "nn", "audit", "calibration"}


def start(path: Path, changes: dict[str, Any]) -> Clone:
    """Make a project with other settings, in which nobody has answered anything."""
    clone = clone_project(path)
    for ledger in (path / "labels").glob("*.csv"):
        ledger.write_text("")
    clone.set_params(changes)
    return clone


def read(clone: Clone, table: str) -> pd.DataFrame:
    return pd.read_csv(clone.path / "data" / table, keep_default_na=False)


def answer(clone: Clone, images: Iterable[str], truth: dict[str, str], round: int = 1) -> None:
    for image in images:
        append_answer(clone.path / "labels/own.csv", image=image, label=truth[image], annotator="A", round=round)


def count_labelling(clone: Clone) -> dict[str, int]:
    return json.loads((clone.path / "metrics/labelling.json").read_text())["labelling"]


def said_by(stage: str, output: str) -> list[str]:
    """Give the lines of one stage, and see that there is nothing that only a programmer understands."""
    assert "Traceback" not in output
    assert "Warning" not in output
    return [line for line in output.splitlines() if line.startswith(f"{stage}: ")]


def check_pictures(folder: Path) -> None:
    """See that every picture has something in it, and is of a size that a person can look at."""
    plots = folder / "metrics/plots"
    pictures = [plots / f"{sheet}.png" for sheet in ("bought_labels", "least_sure", "suspects")]
    pictures += [
        plots / f"evaluation/{model}_{what}.png"
        for model in ("logreg", "nn")
        for what in ("confusion", "class_accuracy", "reliability")
    ]
    for picture in pictures:
        with Image.open(picture) as opened:
            assert max(opened.size) < 2000, picture.name
            assert len(np.unique(np.asarray(opened.convert("L")))) > 10, picture.name


def run_stages(folder: Path, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the command lines of all stages in this process, on images in ``folder/data/own``."""
    settings = [part for name, value in changes.items() for part in ("--set", f"{name}={value}")]
    (folder / "params.yaml").symlink_to(PROJECT / "params.yaml")
    (folder / "datasets").symlink_to(PROJECT / "datasets")
    monkeypatch.chdir(folder)
    for name, stage in yaml.safe_load((PROJECT / "dvc.yaml").read_text())["stages"].items():
        run_stage(name, *(settings if "params" in stage else ()))


def load(folder: Path, name: str) -> NDArray[np.generic]:
    return np.load(folder / "data" / name)


def test_folders_of_classes_need_no_person(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    truth = write_folder(tmp_path / "data/own", "train", *digits(slice(1200)))
    write_folder(tmp_path / "data/own", "test", *digits(slice(1200, None)))
    run_stages(tmp_path, SMALL | {"select_labels.n_labels": 150, "train_nn.max_steps": 300}, monkeypatch)

    project = Clone(tmp_path)
    metrics = project.metrics()
    assert metrics.keys() == METRICS
    assert metrics["labels"]["bought"] == 150
    assert metrics["labels"]["trained_on"] > 200
    assert metrics["propagation"]["accuracy"] > 0.8
    assert metrics["logreg"].keys() == {"accuracy", "macro_f1"}
    assert metrics["logreg"]["accuracy"] > 0.8
    assert metrics["nn"].keys() == {"accuracy", "macro_f1", "restarts"}
    assert metrics["nn"]["accuracy"] > 0.8
    # Who has a test set pays for no audit.
    assert metrics["audit"]["n"] == 0
    # Each known label is a decision of its own.
    assert count_labelling(project) == {"labels": 150, "decisions": 150, "cannot_tell": 0}

    bought, answers = read(project, "bought_labels.csv"), read(project, "pool_labels.csv")
    assert (bought["class"].astype(str) == bought["image"].map(truth)).all()
    assert (answers["label"].astype(str) == answers["image"].map(truth)).mean() > 0.8


def test_many_labels_of_one_decision_are_counted_as_labels_and_as_one_decision(tmp_path: Path) -> None:
    clone = start(tmp_path / "clone", SMALL | PERSON | {"select_labels.n_audit": 20, "select_labels.n_labels": 2})
    images = list(write_folder(clone.path / "data/own", "train", *digits(slice(100)), flat=True))
    clone.dvc("repro", "select-labels")
    assert count_labelling(clone) == {"labels": 0, "decisions": 0, "cannot_tell": 0}
    clone.git("add", "--all")
    clone.git("commit", "--quiet", "--message", "Nobody has answered")

    grid, taken_back = new_decision(), new_decision()
    lines = [
        *(Line(image, "round", "A", 1, grid) for image in images[:30]),
        Line(images[30], "", "A", 1, f"-{grid}"),  # taken out of the grid before it was decided
        Line(images[31], "straight", "A", 1),
        Line(images[32], "", "A", 1),
        *(Line(image, "straight", "A", 1, taken_back) for image in images[33:40]),
        *(Line(image, "", "A", 1, f"-{taken_back}") for image in images[33:40]),
        Line("train/gone.png", "round", "A", 1),
    ]
    append_lines(clone.path / "labels/own.csv", lines)
    clone.dvc("repro", "select-labels")

    assert count_labelling(clone) == {"labels": 31, "decisions": 6, "cannot_tell": 1}
    # The budget is the data set's alone: a person is asked about all that is left.
    assert set(read(clone, "queries.csv")["image"]) == set(images[40:]) | set(images[33:40]) | {images[30]}
    # Audit images have labels too.
    assert 0 < len(read(clone, "audit_labels.csv")) == 31 - len(read(clone, "bought_labels.csv"))
    changes = json.loads(clone.dvc("metrics", "diff", "--json"))["metrics/labelling.json"]
    assert {name: change["diff"] for name, change in changes.items()} == {
        "labelling.labels": 31,
        "labelling.decisions": 6,
        "labelling.cannot_tell": 1,
    }


def test_a_person_labels_a_flat_folder(tmp_path: Path) -> None:
    clone = start(tmp_path / "clone", SMALL | PERSON | {"percentile": 100, "train_nn.max_steps": 200})
    truth = write_folder(clone.path / "data/own", "train", *digits(slice(600)), flat=True)

    said = clone.sh("make repro", check=False)
    [line] = said_by("propagate", said)
    assert "make label" in line
    queries = read(clone, "queries.csv")
    assert len(queries) == 100
    assert set(queries["guess"]) == {""}
    assert [place % 4 == 3 for place in range(100)] == (queries["audit"].astype(str) == "True").tolist()

    # The nines are left for the second round, and are a new class then.
    first = [image for image in queries["image"] if truth[image] != "9"]
    answer(clone, first, truth)
    assert set(executed(clone.sh("make repro"))) == {"select-labels"} | LEARNING
    check_round(clone, truth, first)
    assert "9" not in read_class_names(clone)

    queries = read(clone, "queries.csv")
    assert len(queries) == 100
    assert not set(queries["image"]) & set(first)
    is_audit = queries["audit"].astype(str) == "True"
    assert (queries["guess"][is_audit] == "").all()
    right = queries["guess"][~is_audit].astype(str) == queries["image"][~is_audit].map(truth)
    assert right.mean() > 0.5

    second = queries["image"].tolist()
    answer(clone, second, truth, round=2)
    assert set(executed(clone.sh("make repro"))) == {"select-labels"} | LEARNING
    assert read_class_names(clone) == [str(digit) for digit in range(10)]
    check_round(clone, truth, first + second)
    answers = read(clone, "pool_labels.csv")
    assert (answers["label"].astype(str) == answers["image"].map(truth)).mean() > 0.85
    assert not set(read(clone, "queries.csv")["image"]) & {*first, *second}
    assert clone.sh("dvc metrics show").count("data/own") == 0


def read_class_names(clone: Clone) -> list[str]:
    return yaml.safe_load((clone.path / "data/classes.json").read_text())["class_names"]


def check_round(clone: Clone, truth: dict[str, str], answered: list[str]) -> None:
    """See that what was answered is used as it was given, and that nothing is missing from the answer for the pool."""
    metrics = clone.metrics()
    assert metrics["logreg"]["accuracy"] is metrics["nn"]["accuracy"] is metrics["propagation"]["accuracy"] is None
    audit = metrics["audit"]
    assert 0 <= audit["low"] < audit["accuracy"]
    # Where all are right there is nothing above.
    assert audit["accuracy"] < audit["high"] <= 1 or audit["accuracy"] == audit["high"] == 1
    audit_images, audited = read(clone, "audit_images.csv"), read(clone, "audit_labels.csv")
    assert len(audit_images) == 100
    assert audit["n"] == len(audited) == len(set(audit_images["image"]) & set(answered))
    bought = read(clone, "bought_labels.csv")
    assert sorted([*bought["image"], *audited["image"]]) == sorted(answered)
    assert metrics["labels"]["bought"] == len(bought)

    training = read(clone, "training_set.csv")
    # All of the pool but what is there to grade: a cluster without an answer excepted.
    assert 400 < len(training) <= 500
    assert not set(training["index"]) & set(audit_images["index"])

    pool = read(clone, "pool_labels.csv")
    assert pool["image"].tolist() == sorted(truth)
    assert set(pool["label"].astype(str)) <= set(read_class_names(clone))
    assert set(pool["source"]) == {"bought", "spread", "network"}
    given = pool[pool["source"] == "bought"]
    assert given["image"].tolist() == sorted(answered)
    assert (given["label"].astype(str) == given["image"].map(truth)).all()
    assert set(given["confidence"]) == {1.0}


def test_a_first_hour_as_the_readme_tells_it(tmp_path: Path) -> None:
    """The shipped settings, the commands of the README, and 40 answers about 150 photos."""
    home = tmp_path / "home"
    images, names = tiles(56)
    truth = write_folder(home, "photos", images[:150], names[:150], flat=True)
    truth = {f"train/{Path(image).name}": label for image, label in truth.items()}
    unseen = write_folder(home, "new", images[150:], names[150:], flat=True)
    clone = start(tmp_path / "clone", {})

    clone.sh("cp -r ~/photos data/own/train".replace("~", str(home)))
    clone.sh("dvc exp run -S download.dataset=own -S select_labels.oracle=person select-labels")
    # As a person does on the page, which a test of its own drives.
    answer(clone, read(clone, "queries.csv")["image"].tolist()[:40], truth)

    clone.sh("make repro")
    assert load(clone.path, "train_images.npy").shape == (150, 28, 28, 3)
    assert read_class_names(clone) == ["china", "flower"]
    metrics = clone.metrics()
    assert metrics["audit"]["n"] == 10
    assert metrics["labels"]["bought"] == 30
    answers = read(clone, "pool_labels.csv")
    assert (answers["label"] == answers["image"].map(truth)).mean() > 0.8

    clone.sh("make predict IMAGES=~/new".replace("~", str(home)))
    predictions = pd.read_csv(clone.path / "predictions.csv")
    assert len(predictions) == len(images) - 150
    assert (predictions["label"] == ("new/" + predictions["image"]).map(unseen)).mean() >= 0.75


def test_colour_by_every_other_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {
        "download.image_size": 16,
        "embed.method": "patches",
        "embed.patch_size": 5,
        "embed.n_words": 30,
        "featurize.representation": "distances",
        "propagate.method": "graph-and-logreg",
        "percentile": 100,
        "select_labels.n_labels": 50,
        "train_nn.max_steps": 120,
    }
    images, names = tiles(32)
    write_folder(tmp_path / "data/own", "train", images[::3], names[::3])
    write_folder(tmp_path / "data/own", "test", images[1::3], names[1::3])
    run_stages(tmp_path, SMALL | changes, monkeypatch)

    assert load(tmp_path, "train_images.npy").shape == (174, 16, 16, 3)
    assert load(tmp_path, "test_images.npy").shape == (173, 16, 16, 3)
    # One distance for each cluster, of which a pool of 174 has one for every four images.
    assert load(tmp_path, "train_features.npy").shape == (174, 43)
    assert load(tmp_path, "test_features.npy").shape == (173, 43)
    assert read_class_names(Clone(tmp_path)) == ["china", "flower"]
    metrics = Clone(tmp_path).metrics()
    assert metrics["propagation"]["accuracy"] > 0.8
    assert metrics["logreg"]["accuracy"] > 0.8
    assert metrics["nn"]["accuracy"] > 0.8
    check_pictures(tmp_path)


def test_two_hundred_classes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = noise_patterns(200, 1000, 8)
    write_folder(tmp_path / "data/own", "train", images[:800], [f"the pattern of number {n:03}" for n in labels[:800]])
    write_folder(tmp_path / "data/own", "test", images[800:], [f"the pattern of number {n:03}" for n in labels[800:]])
    run_stages(tmp_path, SMALL | {"n_clusters": 200, "select_labels.n_labels": 400, "percentile": 100}, monkeypatch)

    metrics = yaml.safe_load((tmp_path / "metrics/metrics.json").read_text())
    assert metrics["logreg"]["accuracy"] > 0.8
    assert len(pd.read_csv(tmp_path / "metrics/plots/evaluation/nn_class_accuracy.csv")) == 200
    check_pictures(tmp_path)


def test_long_names_that_differ_at_one_end_stay_apart() -> None:
    assert shorten("ankle boot") == "ankle boot"
    shown = [shorten(name) for name in ("the pattern of number 001", "the pattern of number 002", "her pattern of 001")]
    assert len(set(shown)) == 3
    assert max(map(len, shown)) == LONGEST_CAPTION


def test_one_image_is_no_pool(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_folder(tmp_path / "data/own", "train", *digits(slice(1)))
    with pytest.raises(SystemExit):
        run_stages(tmp_path, SMALL, monkeypatch)
    assert said_by("download", capsys.readouterr().err) == ["download: the pool has 1 image, allowed are 2 or more"]


def test_a_small_test_set_is_no_reason_to_refuse_a_limit() -> None:
    check_limit(30, n_classes=10, n_pool=60, n_test=3)
    check_limit(2, n_classes=0, n_pool=60, n_test=20)
    with pytest.raises(InputError, match="limit is 1, allowed are null and 2 to 60"):
        check_limit(1, n_classes=0, n_pool=60, n_test=20)


def test_twenty_images_of_many_pixels_run_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # 12,288 values each: what takes the cube of that, or a table of its square, does not come back.
    images, names = tiles(64)
    some = slice(50, 70)
    write_folder(tmp_path / "data/own", "train", images[some], names[some])
    changes = {"n_clusters": 2000, "download.image_size": 64, "train_nn.max_steps": 200}
    run_stages(tmp_path, SMALL | changes, monkeypatch)
    assert load(tmp_path, "train_images.npy").shape == (20, 64, 64, 3)
    assert len(pd.read_csv(tmp_path / "data/pool_labels.csv")) == 20


def test_a_slip_in_the_ledger_costs_its_line_alone(tmp_path: Path) -> None:
    clone = start(tmp_path / "clone", SMALL | PERSON)
    write_folder(clone.path / "data/own", "train", *digits(slice(30)), flat=True)
    (clone.path / "labels/own.csv").write_text(
        "image,label,annotator,round\n"
        "train/00000.png,Zero,A,1\n"
        "train/00010.png,Zero,A,1\n"
        "train/00020.png,zero,A,1\n"
        "train/00001.png,One,A,1\n"
        "train/gone.png,One,A,1\n"
        "train/00002.png;Two;A;1\n"
        "train/00003.png,,A,1\n"
        "train/00011.png,Zero,A,1\n"
        "train/00011.png,One,A,2\n"
    )
    lines = said_by("select-labels", clone.dvc("repro", "select-labels"))
    assert len(lines) == 3
    gone, misspelt, broken = sorted(lines)
    assert "'zero' is taken for class 'Zero'" in misspelt
    assert "train/gone.png" in gone
    assert "labels/own.csv, line 7 is not used" in broken

    bought, audited, queries = (read(clone, f"{what}.csv") for what in ("bought_labels", "audit_labels", "queries"))
    answers = pd.concat([bought, audited]).set_index("image")["class"].to_dict()
    assert answers == {f"train/000{row}.png": "Zero" for row in ("00", "10", "20")} | {
        f"train/000{row}.png": "One" for row in ("01", "11")
    }
    # Who cannot tell is not asked again; what was not read is.
    assert not {*answers, "train/00003.png"} & set(queries["image"])
    assert "train/00002.png" in set(queries["image"])


def test_junk_among_photos_is_listed(tmp_path: Path) -> None:
    clone = start(tmp_path / "clone", SMALL)
    own = clone.path / "data/own"
    write_folder(own, "train", *digits(slice(20)), flat=True)
    (own / "train/notes.txt").write_text("not a photo")
    (own / "train/cut.png").write_bytes((own / "train/00000.png").read_bytes()[:60])
    (own / "train/twin.png").write_bytes((own / "train/00001.png").read_bytes())
    said = clone.dvc("repro", "download")
    [line] = [line for line in said.splitlines() if "are not used" in line]
    assert line.startswith("3 files are not used, data/rejected.csv says why; the first is train/cut.png: ")
    rejected = read(clone, "rejected.csv")
    assert rejected["image"].tolist() == ["train/cut.png", "train/notes.txt", "train/twin.png"]
    assert "not an image" in rejected["reason"][1]
    assert "00001.png" in rejected["reason"][2]
    assert len(read(clone, "train_names.csv")) == 20

    for photo in own.glob("train/[0-9t]*.png"):
        photo.unlink()
    done = clone.call("dvc", "repro", "download", check=False)
    assert done.returncode != 0
    [line] = said_by("download", done.stdout)
    assert "data/own/train has no usable image" in line
    assert "of 2 files" in line


def test_a_photo_in_both_trees_stays_where_it_grades(tmp_path: Path) -> None:
    clone = start(tmp_path / "clone", SMALL)
    own = clone.path / "data/own"
    write_folder(own, "train", *digits(slice(20)))
    truth = write_folder(own, "test", *digits(slice(14, 24)))
    # Bytes count, not names.
    (own / "test/8/00004.png").rename(own / "test/8/another name.png")
    said = clone.dvc("repro", "download")

    rejected = read(clone, "rejected.csv").set_index("image")["reason"].to_dict()
    twins = {name: copy.split(", which")[0].removeprefix("same bytes as ") for name, copy in rejected.items()}
    assert twins == {
        "train/4/00014.png": "test/4/00000.png",
        "train/5/00015.png": "test/5/00001.png",
        "train/6/00016.png": "test/6/00002.png",
        "train/7/00017.png": "test/7/00003.png",
        "train/8/00018.png": "test/8/another name.png",
        "train/9/00019.png": "test/9/00005.png",
    }
    [line] = [line for line in said.splitlines() if "in the test set too" in line]
    assert line.startswith("6 images of the pool are in the test set too and are left out of the pool: train/4/00014")
    assert line.endswith("train/8/00018.png and 1 more")
    assert len(read(clone, "test_names.csv")) == len(truth)
    pool, labels = load(clone.path, "train_images.npy"), load(clone.path, "train_labels.npy")
    np.testing.assert_array_equal(labels, read(clone, "train_names.csv")["image"].str.split("/").str[1].astype(int))
    assert len(pool) == 14
    assert not {image.tobytes() for image in pool} & {image.tobytes() for image in load(clone.path, "test_images.npy")}

    for photo in (own / "train").glob("[0-3]/*.png"):
        photo.unlink()
    for label in range(4, 10):
        for photo in (own / f"train/{label}").glob("0000*.png"):
            photo.unlink()
    done = clone.call("dvc", "repro", "download", check=False)
    [line] = said_by("download", done.stdout)
    assert line.startswith(
        "download: data/own/train has no usable image; of 6 files the first is train/4/00014.png: same"
    )


def test_idx_files_of_ones_own_may_lack_labels_and_a_test_set(tmp_path: Path) -> None:
    clone = start(tmp_path / "clone", SMALL)
    images, labels = digits(slice(100))
    images_file, labels_file = (
        clone.path / "data/own" / name for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
    )
    images_file.write_bytes(to_idx(images))
    labels_file.write_bytes(to_idx(labels))
    clone.dvc("repro", "download")
    np.testing.assert_array_equal(load(clone.path, "train_images.npy")[..., 0], images)
    np.testing.assert_array_equal(load(clone.path, "train_labels.npy"), labels)
    assert load(clone.path, "test_images.npy").shape == (0, 8, 8, 1)

    labels_file.unlink()
    clone.dvc("repro", "download")
    np.testing.assert_array_equal(load(clone.path, "train_labels.npy"), np.full(100, -1))
    known = yaml.safe_load((clone.path / "data/known_classes.json").read_text())
    assert known == {"class_names": [], "image_shape": [8, 8, 1], "n_labelled_test_images": 0}


def test_a_further_data_set_is_one_more_file(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (images, labels), (test_images, test_labels) = digits(slice(1500)), digits(slice(1500, None))
    files = {}
    for part, array in (
        ("train_images", images),
        ("train_labels", labels),
        ("test_images", test_images),
        ("test_labels", test_labels),
    ):
        content = to_idx(array)
        (source / part).write_bytes(content)
        files[part] = {"name": part, "sha256": hashlib.sha256(content).hexdigest()}
    clone = start(tmp_path / "clone", SMALL | {"download.dataset": "digits", "download.source": str(source)})
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    description = {"title": "Digits", "format": "idx", "class_names": names, "files": files}
    (clone.path / "datasets/digits.yaml").write_text(yaml.safe_dump(description))
    clone.dvc("repro", "select-labels")
    np.testing.assert_array_equal(load(clone.path, "train_images.npy")[..., 0], images)
    np.testing.assert_array_equal(load(clone.path, "test_labels.npy"), test_labels)
    bought = read(clone, "bought_labels.csv")
    assert bought["class"].tolist() == [names[labels[row]] for row in bought["index"]]

    (source / "test_labels").write_bytes(to_idx(test_labels[::-1].copy()))
    clone.set_params({"download.limit": 1000})
    done = clone.call("dvc", "repro", "download", check=False)
    [line] = said_by("download", done.stdout)
    assert "Digits was not found" in line
    assert f"expected is {files['test_labels']['sha256']}" in line
