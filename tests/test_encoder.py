"""Any ONNX model embeds images, in colour too, by what stands beside it; what is wrong with one is said in one line."""

import hashlib
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image

from few_labels.blocks import open_array
from few_labels.encoder import SPREAD, fit_scale, read_encoder
from few_labels.errors import InputError
from few_labels.folds import cut_folds, grade_out_of_fold
from few_labels.stored import Stored
from stages.evaluate import choose
from tests.conftest import PROJECT, Clone, executed
from tests.datasets import tiles, write_folder
from tests.onnx_models import LINEAR, MEAN, N_FEATURES, NODES, SIDE, STD, WEIGHTS, node, save, write_model
from tests.test_own_images import SMALL, start
from tools.convert_efficientnet import read_checkpoint
from tools.predict import Model, main


@pytest.fixture
def images() -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, (70, SIDE, SIDE, 3), np.uint8)


def normalise(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return (images / 255 - MEAN) / STD


def test_an_image_becomes_what_the_model_makes_of_it(tmp_path: Path, images: NDArray[np.uint8]) -> None:
    rows = read_encoder(save(tmp_path / "encoders"), "tiny").transform(images)
    expected = np.maximum(normalise(images).transpose(0, 3, 1, 2).reshape(70, -1) @ WEIGHTS, 0)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-3)


def test_grey_images_are_shown_in_three_channels(tmp_path: Path, images: NDArray[np.uint8]) -> None:
    encoder = read_encoder(save(tmp_path / "encoders"), "tiny")
    grey = images[..., :1]
    np.testing.assert_array_equal(encoder.transform(grey), encoder.transform(np.repeat(grey, 3, axis=-1)))


def test_channels_may_come_last_and_another_output_may_be_named(tmp_path: Path, images: NDArray[np.uint8]) -> None:
    nhwc = write_model(
        [node("Flatten", ["image"], "flat"), node("Relu", ["flat"], "row")],
        {"image": (1, SIDE, SIDE, 3)},
        {"row": (1, 192), "flat": (1, 192)},
    )
    encoder = read_encoder(save(tmp_path / "encoders", nhwc, layout="nhwc", output="flat"), "tiny")
    np.testing.assert_allclose(encoder.transform(images), normalise(images).reshape(70, -1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("resize", ["bicubic", "bilinear"])
def test_images_of_another_size_are_resized_as_the_description_says(tmp_path: Path, resize: str) -> None:
    large = np.random.default_rng(2).integers(0, 256, (3, 19, 19, 3), np.uint8)
    small = [Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling[resize.upper()]) for image in large]
    encoder = read_encoder(save(tmp_path / "encoders", resize=resize), "tiny")
    np.testing.assert_array_equal(encoder.transform(large), encoder.transform(np.array(small)))


def test_what_an_image_becomes_depends_on_no_other(tmp_path: Path, images: NDArray[np.uint8]) -> None:
    encoder = read_encoder(save(tmp_path / "encoders"), "tiny")
    together = encoder.transform(images)
    for row in (0, 15, 16, 69):
        assert encoder.transform(images[row : row + 1]).tobytes() == together[row].tobytes()
    assert encoder.transform(images[:0]).shape == (0, N_FEATURES)


def test_images_in_a_file_become_the_same_bytes(tmp_path: Path, images: NDArray[np.uint8]) -> None:
    np.save(tmp_path / "images.npy", images)
    stored = Stored.of(np.load(tmp_path / "images.npy", mmap_mode="r"))
    encoder = read_encoder(save(tmp_path / "encoders"), "tiny")
    (here, embedded), (there, nothing) = (fit_scale(encoder, rows, seed=3) for rows in (images, stored))
    assert nothing is None
    assert embedded is not None
    assert there.transform(stored[:]).tobytes() == embedded.tobytes() == here.transform(images).tobytes()
    assert open_array(images) is images


def test_the_embedding_spreads_alike_whatever_the_model(tmp_path: Path, images: NDArray[np.uint8]) -> None:
    for name, weights in (("tiny", WEIGHTS), ("huge", 1000 * WEIGHTS)):
        model = write_model(NODES, {"image": (1, 3, SIDE, SIDE)}, {"row": (1, N_FEATURES)}, {"weights": weights})
        _, embedded = fit_scale(read_encoder(save(tmp_path / "encoders", model, name), name), images, seed=0)
        assert embedded is not None
        assert embedded.var(axis=0).sum() == pytest.approx(SPREAD, rel=1e-3)


# A hundred images in colour, by whatever the processors share among them.
ENCODE = """
import stages, hashlib, sys
import numpy as np
from pathlib import Path
from few_labels.encoder import fit_scale, read_encoder
images = np.random.default_rng(0).integers(0, 256, (100, 11, 11, 3), np.uint8)
encoder, rows = fit_scale(read_encoder(Path(sys.argv[1]), "tiny"), images, seed=0)
print(hashlib.md5(rows).hexdigest(), repr(encoder.scale))
"""
ELSEWHERE = {
    "one processor": "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})",
    "two threads": "import stages, joblib; joblib.cpu_count = lambda: 2",
    "four threads": "import stages, joblib; joblib.cpu_count = lambda: 4",
}


@pytest.mark.parametrize("where", ELSEWHERE)
def test_any_number_of_threads_gives_the_same_bytes(tmp_path: Path, where: str) -> None:
    folder = save(tmp_path / "encoders")

    def run(script: str) -> str:
        command = [sys.executable, "-c", script, str(folder)]
        environment = os.environ | {"OMP_NUM_THREADS": "4"}
        return subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True).stdout

    assert run(f"{ELSEWHERE[where]}\n{ENCODE}") == run(ENCODE) != ""


RELU = [node("Relu", ["image"], "row")]
TWO_INPUTS = [node("Add", ["image", "other"], "sum"), node("Flatten", ["sum"], "row")]
SHAPE = (1, 3, SIDE, SIDE)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: None, "embed.encoder is 'tiny', allowed are : the files in "),
        (lambda folder: save(folder, name="other"), "embed.encoder is 'tiny', allowed are other: the files in "),
        (lambda folder: save(folder, sha256="0" * 64), f"SHA-256 {hashlib.sha256(LINEAR).hexdigest()}, "),
        (lambda folder: save(folder, file="gone.onnx"), "gone.onnx is missing: make encoder brings this project's"),
        (lambda folder: save(folder, file="../tiny.onnx"), "tiny.yaml: file: String should match pattern"),
        (lambda folder: save(folder, image_size=None), "tiny.yaml: image_size: Field required"),
        (lambda folder: save(folder, std=[1, 1, 0]), "tiny.yaml: std.2: Input should be greater than 0"),
        (lambda folder: save(folder, means=MEAN), "tiny.yaml: means: Extra inputs are not permitted"),
        (lambda folder: save(folder, layout="chw"), "tiny.yaml: layout: Input should be 'nchw' or 'nhwc'"),
        (lambda folder: (save(folder) / "tiny.yaml").write_text("file: [1"), "tiny.yaml: not YAML ("),
        (lambda folder: (save(folder) / "tiny.yaml").write_text("- 1"), "tiny.yaml: the whole: Input should be"),
        (lambda folder: save(folder, b"no model"), "tiny.onnx: onnxruntime does not run it as "),
        (lambda folder: save(folder, LINEAR[:-400]), "tiny.onnx: onnxruntime does not run it as "),
        (lambda folder: save(folder, image_size=9), "tiny.onnx: onnxruntime does not run it as "),
        (lambda folder: save(folder, output="rows"), "tiny.onnx: onnxruntime does not run it as "),
        (
            lambda folder: save(folder, write_model(TWO_INPUTS, {"image": SHAPE, "other": SHAPE}, {"row": (1, 192)})),
            "tiny.onnx: onnxruntime does not run it as ",
        ),
        (
            lambda folder: save(folder, write_model(RELU, {"image": SHAPE}, {"row": SHAPE})),
            "tiny.onnx: it makes float32 of shape (1, 3, 8, 8) of an image, allowed are finite numbers",
        ),
        (lambda folder: save(folder, std=[1e-38] * 3), "tiny.onnx: it makes float32 of shape (1, 24) of an image"),
    ],
)
def test_a_bad_encoder_is_one_line(tmp_path: Path, spoil: Callable[[Path], Any], said: str) -> None:
    folder = tmp_path / "encoders"
    folder.mkdir()
    spoil(folder)
    with pytest.raises(InputError) as caught:
        read_encoder(folder, "tiny")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_method_needs_the_name_of_an_encoder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^embed\.encoder is None, allowed are tiny: the files in "):
        read_encoder(save(tmp_path / "encoders"), None)


@pytest.fixture(scope="module")
def colour_run(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """The real dvc, on a folder in colour, with an encoder, a network on its embedding, and labels that choose."""
    changes = {
        "download.image_size": 16,
        "embed.method": "encoder",
        "embed.encoder": "tiny",
        "percentile": 100,
        "select_labels.n_labels": 50,
        "train_nn.architecture": "dense",
        "train_nn.max_steps": 120,
        "evaluate.answer": "auto",
    }
    clone = start(tmp_path_factory.mktemp("colour_run") / "clone", SMALL | changes)
    save(clone.path / "encoders")
    images, names = tiles(32)
    write_folder(clone.path / "data/own", "train", images[::3], names[::3])
    write_folder(clone.path / "data/own", "test", images[1::3], names[1::3])
    clone.repro()
    return clone


def test_a_folder_in_colour_runs_through(colour_run: Clone) -> None:
    data = colour_run.path / "data"
    assert np.load(data / "train_images.npy").shape == (174, 16, 16, 3)
    for part, n_images in (("train", 174), ("test", 173)):
        embedding = np.load(data / f"{part}_embedding.npy")
        assert embedding.dtype == np.float32
        assert embedding.shape == (n_images, N_FEATURES)
    embedder = joblib.load(colour_run.path / "models/embedder.joblib")
    embedded = np.load(data / "test_embedding.npy")
    assert embedder.transform(np.load(data / "test_images.npy")).tobytes() == embedded.tobytes()
    metrics = colour_run.metrics()
    assert metrics["logreg"]["accuracy"] > 0.8
    assert metrics["nn"]["accuracy"] > 0.6
    assert colour_run.repro() == []


def test_bought_labels_choose_the_answer(colour_run: Clone) -> None:
    data, metrics = colour_run.path / "data", colour_run.metrics()
    bought = pd.read_csv(data / "bought_labels.csv")
    out_of_fold = np.load(data / "logreg_bought_scores.npy").argmax(axis=1) == bought["label"]
    assert metrics["logreg"]["out_of_fold"] == pytest.approx(out_of_fold.mean())
    network_is_better = metrics["nn"]["out_of_fold"] > metrics["logreg"]["out_of_fold"]
    assert metrics["answer"] == ("nn" if network_is_better else "logreg")
    answers = pd.read_csv(data / "pool_labels.csv")
    assert set(answers["source"]) <= {"bought", "spread", "network" if network_is_better else "logreg"}
    answered = answers[answers["source"] != "bought"]
    if metrics["answer"] == "logreg":
        names = json.loads((data / "classes.json").read_text())["class_names"]
        by_logreg = np.load(data / "logreg_pool_scores.npy").argmax(axis=1)[answered.index]
        assert answered["label"].tolist() == [names[label] for label in by_logreg]


@pytest.mark.parametrize("model", [None, Model.NN, Model.LOGREG])
def test_a_prediction_is_what_the_stages_say(colour_run: Clone, tmp_path: Path, model: Model | None) -> None:
    data = colour_run.path / "data"
    names = json.loads((data / "classes.json").read_text())["class_names"]
    main(colour_run.path / "data/own/test", tmp_path / "out.csv", model, colour_run.path)
    answers = pd.read_csv(tmp_path / "out.csv").set_index("image")["label"]
    asked = model or colour_run.metrics()["answer"]
    scores = np.load(data / f"{asked}_test_scores.npy")
    tests = pd.read_csv(data / "test_names.csv")["image"].str.removeprefix("test/")
    assert answers[tests].tolist() == [names[label] for label in scores.argmax(axis=1)]


def test_another_description_embeds_anew(colour_run: Clone, tmp_path: Path) -> None:
    clone = colour_run.copy_to(tmp_path / "clone")
    save(clone.path / "encoders", mean=[0.4, 0.4, 0.4])
    assert executed(clone.dvc("repro", "embed")) == ["embed"]
    save(clone.path / "encoders", sha256="0" * 64)
    said = clone.dvc("repro", "embed", check=False)
    (line,) = [line for line in said.splitlines() if line.startswith("embed: ")]
    assert line.endswith(f"encoders/tiny.yaml says {'0' * 64}: not loaded")
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("answer", "network", "logreg", "chosen"),
    [
        ("nn", 0.1, 0.9, "nn"),
        ("logreg", 0.9, 0.1, "logreg"),
        ("mean", 0.9, 0.1, "mean"),
        ("auto", 0.8, 0.7, "nn"),
        ("auto", 0.7, 0.8, "logreg"),
        ("auto", 0.8, 0.8, "logreg"),
        ("auto", None, 0.8, "nn"),
        ("auto", None, None, "nn"),
    ],
)
def test_the_answer_is_the_one_that_is_right_more_often(
    answer: str, network: float | None, logreg: float | None, chosen: str
) -> None:
    assert choose(answer, network, logreg) == chosen


def test_every_label_has_its_turn_once_and_what_cannot_be_told_has_none() -> None:
    y = np.array([0] * 7 + [1] * 6 + [2], np.uint8)
    folds = list(cut_folds(y, seed=0))
    assert len(folds) == 5
    # The only one of its class is judged by none that was shown another.
    assert sorted(np.concatenate([judged for _, judged in folds])) == list(range(13))
    assert not any(set(shown) & set(judged) for shown, judged in folds)
    assert list(cut_folds(np.arange(4), seed=0)) == []
    assert list(cut_folds(np.array([], np.uint8), seed=0)) == []


def test_what_was_not_judged_is_neither_right_nor_wrong() -> None:
    scores = np.array([[0.9, 0.1], [0, 0], [0.4, 0.6], [0.7, 0.3]], np.float32)
    assert grade_out_of_fold(scores, np.array([0, 0, 1, 1])) == pytest.approx(2 / 3)
    assert grade_out_of_fold(scores[1:2], np.array([0])) is None


class Harm:
    def __reduce__(self) -> Any:
        return os.system, ("touch harm",)


def test_a_checkpoint_runs_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pickle.UnpicklingError, match="system is no part of a file of weights"):
        read_checkpoint(pickle.dumps(Harm()))
    assert not (tmp_path / "harm").exists()


def test_make_encoder_brings_what_its_description_names(tmp_path: Path) -> None:
    clone = start(tmp_path / "clone", {"select_labels.n_labels": 10, "percentile": 0, "train_nn.max_steps": 60})
    images, names = tiles(64)
    write_folder(clone.path / "data/own", "train", images[::2], names[::2])
    write_folder(clone.path / "data/own", "test", images[1::2], names[1::2])
    assert "encoders/efficientnet-lite0.onnx is here" in clone.sh("make encoder")
    assert (clone.path / "encoders/efficientnet-lite0.onnx.dvc").exists()

    settings = "-S download.dataset=own -S download.image_size=224 -S embed.method=encoder"
    settings += " -S embed.encoder=efficientnet-lite0 -S train_nn.architecture=dense -S evaluate.answer=auto"
    clone.sh(f"dvc exp run {settings}")
    assert np.load(clone.path / "data/test_embedding.npy").shape == (len(images[1::2]), 1280)
    # Parts of a photo of a temple and of one of a flower, told apart by five of each or so.
    assert clone.metrics()["logreg"]["accuracy"] > 0.9
