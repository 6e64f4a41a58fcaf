"""What is asked, what a key means and what an answer writes, without a page; and where one stands."""

import io
import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from app import rounds, session
from app.dataset import Dataset, Query, Suspect, Unlikeness, load_dataset, nearest_of_cluster
from app.label import find_annotator
from app.pictures import Pictures
from app.standing import (
    Record,
    advise,
    agreement,
    cohen_kappa,
    compare_last,
    from_json,
    record_training,
    to_json,
    trace_curve,
)
from few_labels.artifacts import Clustering, save_array, save_clustering, save_names
from few_labels.calibration import apply_temperature, average, wilson_interval
from few_labels.errors import InputError
from few_labels.ledger import History, Line

NAMES = [f"{i}.png" for i in range(8)]


def history(*lines: Line) -> History:
    told = History()
    told.add(lines)
    return told


def given(**labels: str) -> History:
    return history(*(Line(f"{image[1:]}.png", label, "Ann", 1) for image, label in labels.items()))


def dataset(cluster: Sequence[int], audit: Sequence[str] = ()) -> Dataset:
    values = np.arange(8, dtype=np.float32)[:, None]
    return Dataset(
        names=NAMES,
        images=np.zeros((8, 4, 4, 1), np.uint8),
        cluster=np.array(cluster, np.int32),
        distance=np.array([7, 6, 5, 4, 3, 2, 1, 0], np.float32),
        embedding=values,
        known_classes=[],
        audit=frozenset(audit),
        queries=[],
        suspects=[],
        unlikeness=Unlikeness(np.array([[values[cluster.index(k)][0]] for k in range(max(cluster) + 1)])),
        row_of={name: row for row, name in enumerate(NAMES)},
    )


def test_classes_keep_their_keys_as_more_are_added_and_taken_back() -> None:
    told = given(_5="yak", _3="Cat ", _0="emu")
    assert session.list_classes(["dog", "cat"], told) == ["dog", "cat", "yak", "emu"]
    told.add([Line("5.png", "ant", "Ann", 2)])
    assert session.list_classes(["dog", "cat"], told) == ["dog", "cat", "yak", "emu", "ant"]
    assert session.count_labels(["dog", "cat", "yak", "ant"], told) == {"dog": 0, "cat": 1, "yak": 0, "ant": 1}


def test_a_query_about_an_image_that_is_not_there_is_one_short_line(tmp_path: Path) -> None:
    save_array(tmp_path / "train_images.npy", np.zeros((8, 4, 4, 1), np.uint8))
    save_names(tmp_path / "train_names.csv", NAMES)
    clustering = Clustering(np.zeros(8, np.int32), np.zeros(8, np.float32), np.zeros(1, np.int64))
    save_clustering(tmp_path / "clustering.npz", clustering)
    (tmp_path / "queries.csv").write_text(f"image,guess,sureness\n{'long' * 10_000},,\n")
    with pytest.raises(InputError, match="1 images are not there, the first is 'longlong") as error:
        load_dataset(tmp_path)
    assert len(str(error.value)) < 250 + len(str(tmp_path))


def test_each_key_is_one_class_and_x_is_none() -> None:
    many = [str(i) for i in range(50)]
    keys = [session.class_of_key(key, many) for key in "123456789abcdefghijklmnopqrstuvwyz"]
    assert keys == many[:34]
    assert session.class_of_key("A", many) == "9"
    for key in ("x", "0", " ", "Enter", "12", ""):
        assert session.class_of_key(key, many) is None
    assert session.class_of_key("3", many[:2]) is None


@pytest.mark.parametrize(
    ("typed", "meant"),
    [(" Cat", "cat"), ("yak", "yak"), ("cafe\u0301", "café"), ("2", "2")],
)
def test_a_typed_class_is_one_that_is_there_or_a_new_one(typed: str, meant: str) -> None:
    assert session.interpret(typed, ["cat", "dog"]) == (meant, "")


@pytest.mark.parametrize("typed", ["", "  ", "a\x1b[2J", "c" * 201])
def test_what_can_be_no_class_is_said(typed: str) -> None:
    assert session.interpret(typed, ["cat"])[1]


def test_queries_leave_out_what_is_answered_or_before_others() -> None:
    queries = [Query(name) for name in NAMES[:5]]
    left = session.next_queries(queries, given(_1="cat", _2=""), {"3.png"}, ["4.png", "7.png", "1.png"])
    assert [query.image for query in left] == ["4.png", "7.png", "0.png"]


def test_a_grid_is_the_cluster_with_most_to_label_without_the_audit() -> None:
    data = dataset([0, 0, 0, 0, 1, 1, 1, 2], audit=["1.png"])
    grid = session.next_grid(data, history())
    assert grid == session.Grid(0, [3, 2, 0], 0, is_new=True)
    assert session.next_grid(data, given(_0="cat")) == session.Grid(2, [7], 0, is_new=True)
    assert session.next_grid(data, history(), {0, 2}) == session.Grid(1, [6, 5, 4], 0, is_new=True)
    assert session.next_grid(data, history(), {0}, cluster=0) == grid
    everything = given(**{f"_{i}": "cat" for i in range(8) if i != 1})
    assert session.next_grid(data, everything) is None


def test_a_huge_cluster_comes_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "MOST_IN_GRID", 3)
    assert session.next_grid(dataset([0] * 8), history()) == session.Grid(0, [7, 6, 5], 5, is_new=True)


def test_each_cluster_is_shown_once_before_one_is_shown_again() -> None:
    data = dataset([0, 0, 0, 0, 0, 1, 1, 2], audit=["7.png"])
    assert session.next_grid(data, given(_0="cat")) == session.Grid(1, [6, 5], 0, is_new=True)
    # That nobody can tell is an answer; one about an audit image tells nothing of its cluster.
    told = given(_0="cat", _5="", _7="cat")
    assert session.next_grid(data, told) == session.Grid(0, [4, 3, 2, 1], 0, is_new=False)
    assert session.next_grid(data, told, {0}) == session.Grid(1, [6], 0, is_new=False)


def test_the_next_cluster_is_large_and_unlike_those_before() -> None:
    # At 0, 3, 5 and 7, of 3, 2, 2 and 1 images: 2 times 5 squared is most, then 2 times 2 squared; 1 times 2 squared.
    data, told, asked = dataset([0, 0, 0, 1, 1, 2, 2, 3]), history(), []
    while (grid := session.next_grid(data, told)) is not None:
        asked.append(grid.cluster)
        coming = session.next_grid(data, told, {grid.cluster})
        told.add(session.decide([NAMES[row] for row in grid.rows], "cat", "Ann", 1, history=told))
        assert coming == session.next_grid(data, told)
    assert asked == [0, 2, 1, 3]
    # What is taken back is new again.
    told.add(session.undo("Ann", 1, told))
    told.add(session.undo("Ann", 1, told))
    assert [grid.cluster for grid in [session.next_grid(data, told)] if grid] == [1]


def test_unlikeness_is_to_the_nearest_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.dataset.BLOCK", 3)
    points = np.random.default_rng(0).random((30, 5), np.float32)
    unlikeness, squared = Unlikeness(points), ((points[:, None] - points[None]) ** 2).sum(axis=2)
    for ones in ([1, 2, 3, 4, 5, 6, 7], [1, 2, 3, 4, 5, 6, 7, 20], [9]):
        nearest = unlikeness.to_nearest(np.isin(np.arange(30), ones))
        np.testing.assert_allclose(nearest, squared[:, ones].min(axis=1), atol=1e-5)
    assert np.isinf(unlikeness.to_nearest(np.zeros(30, bool))).all()


def test_a_suspect_is_done_with_when_it_was_changed_or_given_twice() -> None:
    suspects = [Suspect("0.png", "cat", "dog", 0.9), Suspect("1.png", "cat", "dog", 0.8)]
    told = given(_0="cat", _1="cat")
    assert [review.image for review in session.next_reviews(suspects, told)] == ["0.png", "1.png"]
    told.add([Line("0.png", "dog", "Ann", 1), Line("1.png", "cat", "Ann", 1)])
    assert session.next_reviews(suspects, told) == []
    # Contradicted once more, in the new label, it is asked about again.
    again = session.next_reviews([Suspect("0.png", "dog", "cat", 0.7)], told)
    assert [(review.label, review.suggested, review.is_suspect) for review in again] == [("dog", "cat", True)]


def test_disagreements_come_first() -> None:
    told = given(_0="cat", _1="cat")
    told.add([Line("1.png", "dog", "Bob", 1)])
    reviews = session.next_reviews([Suspect("0.png", "cat", "dog", 0.9), Suspect("1.png", "dog", "cat", 0.9)], told)
    assert [(review.image, review.is_suspect) for review in reviews] == [("1.png", False), ("0.png", True)]
    assert (reviews[0].label, reviews[0].suggested, reviews[0].reason) == ("dog", "cat", "Ann says cat, Bob says dog")


def test_a_decision_and_its_undoing_leave_things_as_they_were() -> None:
    told = given(_0="cat")
    told.add(session.decide(["0.png", "1.png"], "dog", "Bob", 2, left_out=["2.png"], history=told))
    assert (told.label("0.png"), told.label("1.png"), told.label("2.png")) == ("dog", "dog", None)
    assert told.n_decisions == 3
    taken_back = session.undo("Bob", 2, told)
    # Who reads the first columns alone is told what counts now.
    assert [line.label for line in taken_back] == ["cat", ""]
    told.add(taken_back)
    assert (told.label("0.png"), told.label("1.png")) == ("cat", None)
    assert session.undo("Bob", 2, told) == []
    told.add(session.undo("Ann", 2, told))
    assert told.label("0.png") is None


def test_a_round_goes_on_after_a_restart() -> None:
    told = history(Line("0.png", "cat", "Ann", 3), Line("5.png", "cat", "Ann", 4))
    assert session.find_round([Query("0.png"), Query("1.png")], told) == 3
    assert session.find_round([Query("1.png")], told) == 5


def test_the_nearest_of_a_cluster_are_its_own_members_alone() -> None:
    assert nearest_of_cluster(dataset([0, 1, 0, 0, 0, 0, 1, 0]), 4, 3) == [3, 5, 2]
    assert nearest_of_cluster(dataset([0, 1, 0, 0, 0, 0, 2, 0]), 6, 3) == []


def record(audit: dict[str, str], stop_set: str = "aabb", n_labels: int = 10, pool: str = "p") -> Record:
    classes = sorted(set(stop_set))
    return Record(pool, n_labels, n_labels, audit, classes, [classes.index(name) for name in stop_set], None, 0)


def test_all_trainings_are_graded_on_the_audit_images_known_by_now() -> None:
    told = given(_0="a", _1="b", _2="", _3="A")
    audit = {"0.png": "a", "1.png": "a", "2.png": "a", "3.png": "a", "4.png": "a"}
    records = [record({"0.png": "a"}, pool="other"), record(audit), record(audit | {"1.png": "b"}, n_labels=20)]
    points = trace_curve(records, told)
    assert [(point.n_labels, point.n) for point in points] == [(10, 3), (20, 3)]
    assert [point.accuracy for point in points] == pytest.approx([2 / 3, 1])
    assert (points[0].low, points[0].high) == wilson_interval(2, 3)
    gain = compare_last(records, told)
    assert gain is not None
    assert gain.difference == pytest.approx(1 / 3)
    assert gain.low < 1 / 3 < gain.high
    assert compare_last(records[:2], told) is None


def test_the_interval_of_a_gain_is_bonett_and_prices() -> None:
    # Their adjusted Wald interval, by hand: 8 gained and 2 lost of 50.
    images = [f"{i}.png" for i in range(50)]
    told = history(*(Line(image, "a", "Ann", 1) for image in images))
    before = {image: "b" if i < 8 else "a" for i, image in enumerate(images)}
    after = {image: "b" if 8 <= i < 10 else "a" for i, image in enumerate(images)}
    gain = compare_last([record(before), record(after, n_labels=20)], told)
    assert gain is not None
    middle, spread = 9 / 52 - 3 / 52, (9 / 52 + 3 / 52 - (6 / 52) ** 2) / 52
    assert (gain.low, gain.high) == pytest.approx((middle - 1.96 * spread**0.5, middle + 1.96 * spread**0.5), abs=1e-4)


def test_without_audit_images_the_test_set_grades() -> None:
    points = trace_curve([Record("p", 5, 5, {}, ["a"], [0], 0.8, 50)], history())
    assert (points[0].accuracy, points[0].n) == (0.8, 50)


def test_labels_stop_paying_when_three_pairs_of_models_agree() -> None:
    same = [record({}, "ab" * 500, n_labels) for n_labels in (10, 20, 30, 40)]
    assert agreement(same) == [1, 1, 1]
    assert advise(agreement(same))[0]
    assert not advise(agreement(same[:3]))[0]
    changed = "ab" * 485 + "ba" * 15
    assert not advise(agreement([*same[:3], record({}, changed, 40)]))[0]
    assert agreement([]) == []
    # A class that came in between moves the positions of the others, and not what was answered.
    moved = Record("p", 2, 2, {}, ["a", "b"], [1, 1], None, 0)
    assert agreement([Record("p", 1, 1, {}, ["b"], [0, 0], None, 0), moved]) == [1]
    assert "4 trainings, 4 more" in advise([])[1]
    assert "4 trainings, 2 more" in advise([1.0])[1]


def test_training_once_more_on_as_many_labels_tells_nothing() -> None:
    audit = {"0.png": "a"}
    records = [record(audit, n_labels=10), *[record(audit, n_labels=20) for _ in range(5)]]
    assert len(agreement(records)) == 1
    assert len(trace_curve(records, given(_0="a"))) == 2


def test_kappa_is_scikit_learns() -> None:
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(0)
    first, second = rng.choice(list("abc"), 300).tolist(), rng.choice(list("abd"), 300).tolist()
    assert cohen_kappa(first, second) == pytest.approx(cohen_kappa_score(first, second))


def test_a_record_holds_what_was_answered() -> None:
    scores = np.eye(3, dtype=np.float32)[[0, 1, 2, 0]]
    kept = record_training(
        ["a", "b", "c", "d"],
        ["x", "y", "z"],
        np.array([1, 3]),
        scores,
        scores[::-1],
        n_labels=2,
        n_decisions=3,
        test_accuracy=None,
        n_test=0,
    )
    assert kept.audit == {"b": "y", "d": "x"}
    assert (kept.classes, kept.stop_set) == (["x", "y", "z"], [0, 2, 1, 0])
    assert from_json(json.loads(json.dumps(to_json(kept)))) == kept


def test_what_stands_is_what_the_classifier_that_answers_says() -> None:
    network, logreg = np.array([[0.55, 0.45]], np.float32), np.array([[0.47, 0.53]], np.float32)
    said = {model: rounds.answer(model, network, logreg, 2.0) for model in ("nn", "logreg", "mean")}
    np.testing.assert_array_equal(said["nn"], apply_temperature(network, 2.0))
    np.testing.assert_array_equal(said["logreg"], logreg)
    # Less sure at this temperature, the network no longer outvotes logistic regression.
    np.testing.assert_array_equal(said["mean"], average(logreg, said["nn"]))
    assert [scores.argmax() for scores in said.values()] == [0, 1, 1]


@pytest.mark.parametrize(("name", "expected"), [("Gitta Name", "Gitta Name"), ("", "logname")])
def test_the_annotator_is_who_git_or_the_system_says(monkeypatch: pytest.MonkeyPatch, name: str, expected: str) -> None:
    git = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": name, "LOGNAME": "logname"}
    for variable, value in git.items():
        monkeypatch.setenv(variable, value)
    assert find_annotator() == expected


def open_picture(content: tuple[bytes, str]) -> Image.Image:
    return Image.open(io.BytesIO(content[0]))


def test_a_photo_is_shown_as_it_is_and_else_the_image_of_the_pipeline(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    Image.new("RGB", (3000, 1500), "red").save(tmp_path / "own/0.png")
    Image.new("RGB", (3000, 1500), "red").save(tmp_path / "secret.png")
    (tmp_path / "own/1.png").symlink_to(tmp_path / "secret.png")
    (tmp_path / "own/2.png").write_bytes(b"\x89PNG damaged")
    turned = Image.new("RGB", (3000, 1500), "blue")
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "own/3.jpg", exif=exif)
    images = np.zeros((5, 28, 28, 1), np.uint8)
    pictures = Pictures(["0.png", "1.png", "2.png", "3.jpg", "../secret.png"], images, tmp_path / "own")
    assert open_picture(pictures.large(0)).size == (1024, 512)
    assert open_picture(pictures.small(0)).size == (160, 80)
    assert open_picture(pictures.large(3)).size == (512, 1024)
    for row in (1, 2, 4):
        shown = open_picture(pictures.large(row))
        assert (shown.mode, shown.size) == ("L", (532, 532))


def test_few_pixels_are_enlarged_without_smoothing() -> None:
    image = np.random.default_rng(0).integers(0, 256, (1, 28, 28, 3), np.uint8)
    shown = np.asarray(open_picture(Pictures(["a"], image, None).large(0)))
    assert (shown == image[0].repeat(19, axis=0).repeat(19, axis=1)).all()


def test_a_round_that_is_ended_leaves_the_lock_file_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lock = tmp_path / "dvc.lock"
    whole = "schema: '2.0'\nstages:\n  kmeans:\n    cmd: a\n  select-labels:\n    cmd: b\n"
    lock.write_text(whole)

    def cut(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        lock.write_text(whole[:30])
        return subprocess.CompletedProcess([], -15, "", "")

    monkeypatch.setattr(rounds.subprocess, "run", cut)
    with pytest.raises(SystemExit):
        rounds.call_dvc("repro", "select-labels")
    assert lock.read_text() == whole
    rounds.forget("select-labels")
    assert yaml.safe_load(lock.read_text()) == {"schema": "2.0", "stages": {"kmeans": {"cmd": "a"}}}
    assert [path.name for path in tmp_path.iterdir()] == ["dvc.lock"]
