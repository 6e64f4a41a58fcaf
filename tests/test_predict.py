"""A file gets the answer that the same image got in the pipeline, whatever its name, and from trusted models only."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from few_labels.artifacts import load_classes
from few_labels.calibration import apply_temperature
from few_labels.errors import InputError
from few_labels.photos import prepare
from tests.conftest import Clone
from tools.predict import CLASSES, PARTS, Model, draw_least_sure, main, read_images


def save_images(folder: Path, images: NDArray[np.uint8], names: list[str] | None = None) -> Path:
    """Save images without loss, the first as ``00000.png``, or under these names."""
    for row, name in enumerate(names or [f"{row:05}.png" for row in range(len(images))]):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[row].squeeze()).save(file, format="PNG")
    return folder


def predict(run: Path, images: Path, out: Path, model: Model = Model.LOGREG) -> pd.DataFrame:
    main(images=images, out=out, model=model, project=run)
    return pd.read_csv(out, dtype={"image": str, "label": str}, keep_default_na=False)


def expect(run: Path, model: Model) -> tuple[NDArray[np.object_], NDArray[np.float32]]:
    """Give labels and confidences of the test images, as the stages wrote them."""
    temperature = json.loads((run / "models/nn_calibration.json").read_text())["temperature"]
    logreg, network = (np.load(run / f"data/{name}_test_scores.npy") for name in ("logreg", "nn"))
    network = apply_temperature(network, temperature)
    scores = {Model.LOGREG: logreg, Model.NN: network, Model.MEAN: (logreg + network) / 2}[model]
    names = np.array(load_classes(run / CLASSES).class_names, object)
    return names[scores.argmax(axis=1)], scores.max(axis=1)


def assert_as_in_pipeline(run: Path, tmp_path: Path, model: Model) -> None:
    images = np.load(run / "data/test_images.npy")
    answers = predict(run, save_images(tmp_path / "new", images), tmp_path / "out.csv", model)
    labels, confidences = expect(run, model)
    assert answers["image"].tolist() == [f"{row:05}.png" for row in range(len(images))]
    assert answers["label"].tolist() == labels.tolist()
    np.testing.assert_allclose(answers["confidence"], confidences, atol=1e-3)
    assert len(set(labels)) > 3


@pytest.fixture
def trained(small_run: Clone, tmp_path: Path) -> Path:
    """What `predict` needs of the small run and no more, to change at will."""
    project = tmp_path / "project"
    shutil.copytree(small_run.path / "models", project / "models")
    (project / "data").mkdir()
    for name in ("dvc.lock", CLASSES):
        shutil.copy2(small_run.path / name, project / name)
    return project


@pytest.fixture(scope="module")
def images(small_run: Clone) -> NDArray[np.uint8]:
    return np.load(small_run.path / "data/test_images.npy")


@pytest.mark.data_set  # by fixtures that it asks for by name, which marks no test
@pytest.mark.parametrize("model", Model)
@pytest.mark.parametrize("run", ["small_run", "recipe_run"])
def test_the_answers_are_those_of_the_pipeline(
    run: str, model: Model, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    assert_as_in_pipeline(request.getfixturevalue(run).path, tmp_path, model)


def test_distances_are_measured_once_all_stages_have_run_again(clone: Clone, tmp_path: Path) -> None:
    clone.set_params({"featurize.representation": "distances"})
    clone.dvc("repro", "featurize")
    with pytest.raises(
        InputError, match=r"^models/logreg\.joblib was made from data/test_features\.npy as it was before.*make repro$"
    ):
        assert_as_in_pipeline(clone.path, tmp_path, Model.LOGREG)
    clone.dvc("repro", "train-logreg")
    assert_as_in_pipeline(clone.path, tmp_path, Model.LOGREG)


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


@pytest.mark.parametrize(
    ("model", "path"), [(model, path) for model, parts in PARTS.items() for path in (CLASSES, *parts)]
)
def test_nothing_swapped_is_used(
    trained: Path, model: Model, path: str, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    marker, file = tmp_path / "executed", trained / path
    content = file.read_bytes()
    file.unlink()
    if file.suffix == ".json":
        file.write_bytes(content.replace(b"a", b"b"))
    else:
        joblib.dump(Malicious(marker), file)
    new = save_images(tmp_path / "new", images[:2])
    with pytest.raises(InputError, match=f"^{path} has MD5 .*: not loaded$"):
        predict(trained, new, tmp_path / "out.csv", model)
    assert not marker.exists()
    assert not (tmp_path / "out.csv").exists()

    file.unlink()
    with pytest.raises(InputError, match=f"^{path} is missing: run make repro"):
        predict(trained, new, tmp_path / "out.csv", model)


def test_without_a_run_it_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="run make repro"):
        predict(tmp_path, tmp_path / "new", tmp_path / "out.csv")


def test_any_printable_name_gets_its_answer(trained: Path, images: NDArray[np.uint8], tmp_path: Path) -> None:
    names = ["=1+1.png", "a, b.png", 'say "x".png', "$x^2$.png", "--help.png", "ünï/日本.png", " .png", "NA", "<b>.png"]
    names += ["same bytes as a, b.png", "../new/x.png", "%s{0}.png", "a\\b.png"]
    answers = predict(trained, save_images(tmp_path / "new", images, names), tmp_path / "out.csv")
    labels, _ = expect_rows(trained, tmp_path, images[: len(names)])
    clean = [name.removeprefix("../new/") for name in names]
    assert answers.set_index("image")["label"].to_dict() == dict(zip(clean, labels, strict=True))
    assert answers["image"].tolist() == sorted(clean)


def expect_rows(trained: Path, tmp_path: Path, images: NDArray[np.uint8]) -> tuple[list[str], list[float]]:
    """Give the answers for images under harmless names."""
    answers = predict(trained, save_images(tmp_path / "plain", images), tmp_path / "plain.csv")
    return answers["label"].tolist(), answers["confidence"].tolist()


def test_a_copy_gets_the_answer_of_its_original(trained: Path, images: NDArray[np.uint8], tmp_path: Path) -> None:
    new = save_images(tmp_path / "new", images, ["one/a, b.png", "one/c.png", "d.png"])
    copies = {"one/z.png": "one/a, b.png", "two/a, b.png": "one/a, b.png", "two/c, d.png": "one/c.png"}
    (new / "two").mkdir()
    for copy, original in copies.items():
        shutil.copy(new / original, new / copy)
    answers = predict(trained, new, tmp_path / "out.csv").set_index("image").to_dict("index")
    assert set(answers) == {*copies, "one/a, b.png", "one/c.png", "d.png"}
    for copy, original in copies.items():
        assert answers[copy] == answers[original]
    assert not (tmp_path / "out_rejected.csv").exists()


def test_what_is_rejected_stands_beside_the_answers_with_the_reason(
    trained: Path, images: NDArray[np.uint8], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new, out, rejected = save_images(tmp_path / "new", images[:3]), tmp_path / "out.csv", tmp_path / "out_rejected.csv"
    broken = {"notes.txt": b"hello", "two\nlines.png": (new / "00000.png").read_bytes(), "none.png": b""}
    for name, content in broken.items():
        (new / name).write_bytes(content)
    os.mkfifo(new / "pipe.png")
    assert len(predict(trained, new, out)) == 3
    refused = pd.read_csv(rejected)
    assert refused["image"].tolist() == ["none.png", "notes.txt", "pipe.png", "two\\nlines.png"]
    assert refused["reason"].str.len().min() > 5
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"not classified: 4, {rejected} says why; the first is none.png: an empty file"
    assert lines[1].startswith(f"{out}: 3 answers by logreg, ")
    assert len(lines) == 2

    for name in (*broken, "pipe.png"):
        (new / name).unlink()
    predict(trained, new, out)
    assert not rejected.exists()


@pytest.mark.parametrize("name", ["one, file.png", "same bytes as x.PNG", "no suffix"])
def test_one_file_is_enough(trained: Path, images: NDArray[np.uint8], tmp_path: Path, name: str) -> None:
    save_images(tmp_path / "new", images[:2], ["other.png", name])
    answers = predict(trained, tmp_path / "new" / name, tmp_path / "out.csv")
    labels, confidences = expect_rows(trained, tmp_path, images[:2])
    assert answers.to_numpy().tolist() == [[name, labels[1], confidences[1]]]


def test_a_photo_of_any_size_and_colour_is_read_as_training_images_were(trained: Path, tmp_path: Path) -> None:
    photo = np.random.default_rng(0).integers(0, 256, (600, 400, 3), np.uint8)
    (tmp_path / "new").mkdir()
    Image.fromarray(photo).save(tmp_path / "new/photo.jpg")
    with Image.open(tmp_path / "new/photo.jpg") as picture:
        prepared = prepare(picture, 28, 1)
    answers = predict(trained, tmp_path / "new", tmp_path / "out.csv")
    labels, confidences = expect_rows(trained, tmp_path, prepared[None])
    assert answers.to_numpy().tolist() == [["photo.jpg", *labels, *confidences]]


def test_nothing_to_classify_is_one_line(trained: Path, tmp_path: Path) -> None:
    new, out = tmp_path / "new", tmp_path / "out.csv"
    with pytest.raises(InputError, match=r"new: neither a folder nor a file"):
        predict(trained, new, out)
    new.mkdir()
    with pytest.raises(InputError, match=r"new has no usable image$"):
        predict(trained, new, out)
    (new / "a.txt").write_text("hello")
    with pytest.raises(InputError, match=r"new has no usable image; of 1 files the first is a\.txt: not an image"):
        predict(trained, new, out)
    assert not out.exists()


@pytest.mark.parametrize("leads_to", ["pipe", "/dev/zero"])
def test_what_never_ends_is_not_waited_for(trained: Path, tmp_path: Path, leads_to: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "new.png").symlink_to(leads_to)
    for path in (tmp_path / leads_to, tmp_path / "new.png"):
        with pytest.raises(InputError, match="neither a file nor a folder, but a pipe, a socket or a device"):
            predict(trained, path, tmp_path / "out.csv")


def test_a_long_name_does_not_fill_the_screen(
    trained: Path, images: NDArray[np.uint8], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(InputError, match="File name too long") as error:
        predict(trained, Path("a" * 10_000), tmp_path / "out.csv")
    assert len(str(error.value)) < 300
    deep = tmp_path / "new" / "/".join(["d" * 250] * 10)
    deep.mkdir(parents=True)
    (deep / f"{'f' * 250}.png").write_text("none")
    with pytest.raises(InputError, match=r"of 1 files the first is ddd.*…") as error:
        predict(trained, tmp_path / "new", tmp_path / "out.csv")
    assert len(str(error.value)) < 500
    save_images(tmp_path / "new", images[:1])
    predict(trained, tmp_path / "new", tmp_path / "out.csv")
    assert max(map(len, capsys.readouterr().out.splitlines())) < 500
    assert len(pd.read_csv(tmp_path / "out_rejected.csv")["image"][0]) > 2500


def test_images_that_are_not_square_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="images of 28 x 30 pixels, photos are read as squares only"):
        read_images(tmp_path, [28, 30, 1])


@pytest.mark.parametrize(
    ("images", "out"), [("new", "new/out.csv"), ("new/a.png", "new/a.csv"), ("new/a_rejected.csv", "new/a.csv")]
)
def test_no_output_gets_among_the_images(trained: Path, tmp_path: Path, images: str, out: str) -> None:
    with pytest.raises(InputError, match="would be among the images"):
        predict(trained, tmp_path / images, tmp_path / out)


def test_the_answers_are_written_as_csv_only(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="allowed is a name that ends in"):
        predict(trained, tmp_path / "new", tmp_path / "out.png")


def test_when_one_output_cannot_be_written_the_answers_stay_as_they_were(
    trained: Path, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    new, out = save_images(tmp_path / "new", images[:2]), tmp_path / "out.csv"
    out.write_text("of the last time")
    (tmp_path / "out.png").mkdir()
    with pytest.raises(OSError, match=r"out\.png"):
        predict(trained, new, out)
    assert out.read_text() == "of the last time"
    assert not list(tmp_path.glob(".*"))


def test_the_sheet_shows_the_least_sure_first(trained: Path, images: NDArray[np.uint8], tmp_path: Path) -> None:
    confidence = np.linspace(1, 0.3, len(images), dtype=np.float32)
    figure = draw_least_sure(images, np.full(len(images), "Coat", object), confidence)
    captions = [text.get_text() for text in figure.axes[0].texts]
    assert len(captions) == 60
    assert captions[0] == "Coat\n30%"

    predict(trained, save_images(tmp_path / "new", images[:3]), tmp_path / "out.csv")
    with Image.open(tmp_path / "out.png") as sheet:
        assert min(sheet.size) > 200


def test_logistic_regression_does_without_tensorflow(trained: Path, images: NDArray[np.uint8], tmp_path: Path) -> None:
    new = save_images(tmp_path / "new", images[:3])
    script = "import sys; sys.modules['tensorflow'] = sys.modules['keras'] = None; from tools.predict import main, run"
    options = ["--images", str(new), "--out", str(tmp_path / "out.csv"), "--model", "logreg", "--project", str(trained)]
    subprocess.run([sys.executable, "-c", f"{script}; run(main)", *options], check=True)
    assert len(pd.read_csv(tmp_path / "out.csv")) == 3


def test_it_is_one_command(clone: Clone, images: NDArray[np.uint8], tmp_path: Path) -> None:
    save_images(tmp_path / "my $(new) 'photos'", images[:3])
    said = clone.sh(f"make predict \"IMAGES={tmp_path}/my $(new) 'photos'\" MODEL=logreg")
    assert "\npredictions.csv: 3 answers by logreg, " in said.replace("\r", "\n")
    assert pd.read_csv(clone.path / "predictions.csv")["image"].tolist() == ["00000.png", "00001.png", "00002.png"]
    assert clone.git("status", "--porcelain") == ""
    assert "which images?" in clone.sh("make predict", check=False)
    (clone.path / "dvc.lock").write_text(yaml.safe_dump({"stages": {}}))
    failed = clone.sh("make predict IMAGES=/nowhere MODEL=logreg OUT=other.csv", check=False)
    assert failed.startswith("predict: data/classes.json has MD5 ")
    assert "Traceback" not in failed
