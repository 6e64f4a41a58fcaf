"""Labels leave for Label Studio or a table and come back the same, once; what cannot be understood changes nothing."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image

from few_labels.artifacts import Classes, save_array, save_classes, save_names
from few_labels.errors import InputError
from few_labels.ledger import append_answer, read_ledger
from tests.datasets import digits, write_folder
from tools.exchange import CONTROL, Direction, main

PROJECT = Path(__file__).parent.parent
# What folders may be called, and what trips readers of XML, of tables, of HTML and of Label Studio's variables.
CLASSES = [
    "$x^2$",
    '<b>"a" & b</b>',
    "say 'x', y; z",
    "ünï 日本",
    "=1+1",
    " lead",
    "NA",
    "costs $5",
    "\u202egpj.exe",
    "1",
]
NAMES = ["a b+c#1%.png", "ünï/x.png", "q?&d=1.png", "../own/y.png", "'\"<b>.png"]


@dataclass(frozen=True)
class Project:
    """The files of a project that has ten digits, as photos of one's own or as an array."""

    path: Path
    dataset: str
    names: list[str]
    images: NDArray[np.uint8]

    @property
    def ledger(self) -> Path:
        return self.path / "labels" / f"{self.dataset}.csv"

    def answer(self, row: int, label: str, annotator: str = "Ann", round: int = 1) -> None:
        append_answer(self.ledger, image=self.names[row], label=label, annotator=annotator, round=round)

    def lines(self) -> list[str]:
        lines = self.ledger.read_text().splitlines()[1:] if self.ledger.exists() else []
        # What comes from elsewhere is no decision about many images.
        assert all(line.endswith(",") for line in lines)
        return [line.removesuffix(",") for line in lines]

    def answers(self) -> dict[str, tuple[str, str]]:
        """Say what counts: label and annotator by image."""
        answers, warnings = read_ledger(self.ledger)
        assert not warnings
        return dict(zip(answers.image, zip(answers.label, answers.annotator, strict=True), strict=True))

    def ask(self, *queries: tuple[int, str, str]) -> None:
        """Write the queries: row, guess and sureness of each."""
        table = pd.DataFrame([(self.names[row], 0, *guess, False) for row, *guess in queries], dtype=object)
        table.columns = pd.Index(["image", "cluster", "guess", "sureness", "audit"])
        table.to_csv(self.path / "data/queries.csv", index=False)

    def audit(self, *rows: int) -> None:
        table = pd.DataFrame({"index": rows, "image": [self.names[row] for row in rows]})
        table.to_csv(self.path / "data/audit_images.csv", index=False)

    def export(self, name: str = "exchange/tasks.json", **options: Any) -> Any:
        file = self.path / name
        main(Direction.EXPORT, file, project=self.path, **options)
        return json.loads(file.read_text()) if file.suffix == ".json" else file

    def take(self, content: Any, name: str = "answers.json", **options: Any) -> None:
        """Import a file with a content: text as it is, anything else as JSON."""
        file = self.path / name
        file.write_text(content if isinstance(content, str) else json.dumps(content))
        main(Direction.IMPORT, file, project=self.path, **options)


def make_project(path: Path, dataset: str, class_names: list[str] = CLASSES) -> Project:
    """Make a project whose queries are about the first image; five photos of one's own have odd names."""
    images, _ = digits(slice(10))
    names = [f"train/{row:05}" for row in range(len(images))]
    if dataset == "own":
        names = list(write_folder(path / "data/own", "train", images, range(len(images)), flat=True))
        for row, name in enumerate(NAMES):
            photo = (path / "data/own/train" / name).resolve()
            photo.parent.mkdir(parents=True, exist_ok=True)
            names[row] = photo.relative_to(Path.resolve(path / "data/own")).as_posix()
            Image.fromarray(images[row]).save(photo)
    save_array(path / "data/train_images.npy", images[..., None])
    save_names(path / "data/train_names.csv", names)
    save_classes(path / "data/classes.json", Classes(class_names, [8, 8, 1], 0))
    settings = yaml.safe_load((PROJECT / "params.yaml").read_text())
    settings["download"]["dataset"] = dataset
    (path / "params.yaml").write_text(yaml.safe_dump(settings))
    project = Project(path, dataset, names, images)
    project.ask((0, "", ""))
    project.audit()
    return project


@pytest.fixture(params=["own", "digits"])
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Project:
    return make_project(tmp_path, request.param)


@pytest.fixture
def small(tmp_path: Path) -> Project:
    return make_project(tmp_path, "digits", ["Coat", "Shirt"])


def find_picture(url: str, root: Path) -> Path:
    """Find what Label Studio serves at an address."""
    address = urlsplit(url)
    assert address.path == "/data/local-files/"
    return root / parse_qs(address.query)["d"][0]


def choose(label: str) -> list[dict[str, Any]]:
    return [{"from_name": CONTROL, "to_name": "image", "type": "choices", "value": {"choices": [label]}}]


def annotate(tasks: list[dict[str, Any]], labels: dict[str, str | None]) -> list[dict[str, Any]]:
    """Do what Label Studio does: number everything, and add answers, None for a task that is skipped, of user 1."""
    done = []
    for number, task in enumerate(tasks, start=1):
        annotations = [{**annotation, "completed_by": 1} for annotation in task.get("annotations", [])]
        if (name := task["data"]["name"]) in labels:
            label = labels[name]
            result = [] if label is None else choose(label)
            annotations.append({"result": result, "was_cancelled": label is None, "completed_by": 1})
        for place, annotation in enumerate(annotations):
            second = f"2026-01-0{1 + place}T00:00:{number:02}.000000Z"
            annotation |= {"id": 10 * number + place, "created_at": second, "updated_at": second}
        done.append({"id": number, **task, "annotations": annotations})
    return done


def import_sdk(module: str) -> Any:
    """Give a module of Label Studio's own, or skip the test."""
    return pytest.importorskip(f"label_studio_sdk.{module}", reason="label-studio-sdk is not installed")


def answer_everything(project: Project) -> tuple[list[dict[str, Any]], dict[str, tuple[str, str]]]:
    """Answer some in the project and the others in Label Studio: what that exports, and what the ledger is to say."""
    for row in range(5):
        project.answer(row, CLASSES[row])
    project.answer(4, "", "Bob")
    project.ask(*((row, CLASSES[row], "0.9") for row in range(5, 10)))
    at_home = {project.names[row]: (CLASSES[row] if row < 4 else "", "Ann" if row < 4 else "Bob") for row in range(5)}
    # One of them is answered again.
    elsewhere = {project.names[row]: CLASSES[row] for row in (0, *range(5, 10))} | {project.names[1]: CLASSES[9]}
    expected = at_home | {name: (label, "Label Studio user 1") for name, label in elsewhere.items()}
    return annotate(project.export(), dict(elsewhere)), expected


def test_a_task_shows_the_image_that_it_names(project: Project) -> None:
    project.ask(*((row, "", "") for row in range(10)))
    for task, name, image in zip(project.export(), project.names, project.images, strict=True):
        assert task["data"]["name"] == name
        picture = find_picture(task["data"]["image"], project.path)
        if project.dataset == "own":
            assert picture.samefile(project.path / "data/own" / name)
        with Image.open(picture) as opened:
            np.testing.assert_array_equal(np.array(opened), image)


def test_a_photo_that_is_gone_is_shown_as_it_was_read(tmp_path: Path) -> None:
    project = make_project(tmp_path, "own")
    (tmp_path / "data/own" / project.names[0]).unlink()
    with Image.open(find_picture(project.export()[0]["data"]["image"], tmp_path)) as picture:
        np.testing.assert_array_equal(np.array(picture), project.images[0])


def test_images_are_served_from_below_the_document_root(project: Project) -> None:
    task = project.export(document_root=project.path.parent)[0]
    assert find_picture(task["data"]["image"], project.path.parent).is_file()
    with pytest.raises(
        InputError, match=r"is not below .*, from which Label Studio serves: choose with --document-root"
    ):
        project.export(document_root=project.path / "labels")


def test_a_guess_is_shown_where_nobody_answered_and_nothing_is_graded(small: Project) -> None:
    small.ask((0, "Coat", "0.913"), (1, "Coat", ""), (2, "", ""), (3, "Coat", "0.5"), (5, "", ""), (6, "", ""))
    small.answer(4, "Shirt")
    small.audit(3, 6)
    labels = ["Shirt"] * 5 + ["gone"] + ["Shirt"] * 4
    table = pd.DataFrame({"image": small.names, "label": labels, "confidence": "0.7", "source": "network"})
    table.to_csv(small.path / "data/pool_labels.csv", index=False)
    shown = {}
    for task in small.export():
        for prediction in task.get("predictions", []):
            label = prediction["result"][0]["value"]["choices"][0]
            shown[small.names.index(task["data"]["name"])] = (label, prediction.get("score"))
    assert shown == {0: ("Coat", 0.913), 1: ("Coat", None), 2: ("Shirt", 0.7)}


def test_every_class_can_be_chosen_whatever_it_is_called(project: Project) -> None:
    project.export()
    choices = ElementTree.parse(project.path / "exchange/label_config.xml").findall(".//Choice")
    assert [choice.attrib["alias"] for choice in choices] == CLASSES


def test_nothing_to_label_is_one_line(small: Project) -> None:
    (small.path / "data/queries.csv").write_text("image,cluster,guess,sureness,audit\n")
    with pytest.raises(InputError, match="asks nothing"):
        small.export()
    assert not (small.path / "exchange").exists()


def test_tasks_are_what_label_studio_validates(project: Project) -> None:
    label_interface = import_sdk("label_interface")
    answer_everything(project)
    tasks = project.export()
    interface = label_interface.LabelInterface((project.path / "exchange/label_config.xml").read_text())
    interface.validate()
    assert sorted(interface.get_control(CONTROL).labels) == sorted(CLASSES)
    n_checked = 0
    for task in tasks:
        assert interface.validate_task({"data": task["data"]})
        for prediction in task.get("predictions", []):
            assert interface.validate_prediction(prediction, return_errors=True) == []
            n_checked += 1
        for annotation in task.get("annotations", []):
            assert interface.validate_annotation(annotation)
            n_checked += 1
        annotations = [{**annotation, "completed_by": 1} for annotation in task.get("annotations", [])]
        label_interface.objects.TaskValue.model_validate({**task, "annotations": annotations})
    assert n_checked == 10
    # It does not wave through what is wrong.
    assert interface.validate_prediction({"result": choose("no class"), "score": 0.5}, return_errors=True)


@pytest.mark.parametrize("export_format", ["JSON", "JSON_MIN"])
def test_what_label_studio_exports_comes_back(project: Project, export_format: str) -> None:
    converter_module = import_sdk("converter")
    annotated, expected = answer_everything(project)
    before = project.lines()
    (project.path / "annotated.json").write_text(json.dumps(annotated))
    converter = converter_module.Converter(str(project.path / "exchange/label_config.xml"), str(project.path))
    converter.convert(str(project.path / "annotated.json"), str(project.path / "out"), export_format, is_dir=False)
    exported = (project.path / "out/result.json").read_text()
    project.take(exported)
    assert project.answers() == expected
    assert len(project.lines()) == len(before) + 7
    assert project.lines()[: len(before)] == before

    # Into a ledger of its own, from which only JSON-MIN leaves out what was skipped.
    project.ledger.unlink()
    project.take(exported)
    skipped = [name for name, (label, _) in expected.items() if not label]
    kept = expected if export_format == "JSON" else {name: expected[name] for name in expected if name not in skipped}
    assert project.answers() == kept


# As Label Studio 1.23 exported them, without some of what is not read: two tasks that were loaded with an answer of
# Ann's, of which a user then answered the first once more, and changed the second.
EXPORTED = json.loads("""[
 {"id": 5, "annotations": [
   {"id": 12, "completed_by": 1, "result": [{"from_name": "label", "to_name": "image", "type": "choices",
     "value": {"choices": ["Shirt"]}}], "was_cancelled": false, "ground_truth": false,
     "created_at": "2026-11-25T00:50:44.247311Z", "updated_at": "2026-11-25T00:50:44.247339Z", "prediction": {}},
   {"id": 2, "completed_by": 1, "result": [{"id": "label", "from_name": "label", "to_name": "image", "type": "choices",
     "value": {"choices": ["Coat"]}}], "was_cancelled": false, "ground_truth": false,
     "created_at": "2026-11-25T00:50:42.892043Z", "updated_at": "2026-11-25T00:50:42.892050Z", "prediction": {}}],
  "drafts": [], "predictions": [], "meta": {}, "data": {"image": "\\/data\\/local-files\\/?d=images\\/00000.png",
  "name": "train\\/00000", "answer": "Coat", "answered_by": "Ann"}},
 {"id": 4, "annotations": [
   {"id": 1, "completed_by": {"id": 1, "email": "eve@example.com", "first_name": "", "last_name": ""},
     "result": [{"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": ["Shirt"]}}],
     "was_cancelled": false, "created_at": "2026-11-25T00:50:42.891973Z", "updated_at": "2026-11-25T00:50:43.975110Z"}],
  "drafts": [], "predictions": [], "meta": {}, "data": {"image": "\\/data\\/local-files\\/?d=images\\/00001.png",
  "name": "train\\/00001", "answer": "Coat", "answered_by": "Ann"}}]""")
EXPORTED_MIN = json.loads("""[
 {"image": "\\/data", "name": "train\\/00000", "answer": "Coat", "answered_by": "Ann", "id": 5, "label": "Shirt",
  "annotator": 1, "annotation_id": 12, "created_at": "2026-11-25T00:50:44.247311Z",
  "updated_at": "2026-11-25T00:50:44.247339Z", "lead_time": null},
 {"image": "\\/data", "name": "train\\/00000", "answer": "Coat", "answered_by": "Ann", "id": 5, "label": "Coat",
  "annotator": 1, "annotation_id": 2, "created_at": "2026-11-25T00:50:42.892043Z",
  "updated_at": "2026-11-25T00:50:42.892050Z", "lead_time": null},
 {"image": "\\/data", "name": "train\\/00001", "answer": "Coat", "answered_by": "Ann", "id": 4, "label": "Shirt",
  "annotator": "eve@example.com", "annotation_id": 1, "created_at": "2026-11-25T00:50:42.891973Z",
  "updated_at": "2026-11-25T00:50:43.975110Z", "lead_time": 1.5},
 {"image": "\\/data", "name": "train\\/00002", "id": 6, "annotator": "None", "annotation_id": null,
  "created_at": null, "updated_at": null, "lead_time": null}]""")


@pytest.mark.parametrize("exported", [EXPORTED, EXPORTED_MIN], ids=["JSON", "JSON-MIN"])
def test_the_newest_answer_counts_and_each_keeps_its_annotator(small: Project, exported: Any) -> None:
    small.answer(0, "Coat")
    small.answer(1, "Coat")
    small.take(exported)
    assert small.lines()[2:] == [
        "train/00001,Shirt,eve@example.com,2",
        "train/00000,Shirt,Label Studio user 1,2",
    ]
    # Elsewhere, Ann's answers are not there yet.
    small.ledger.unlink()
    small.take(exported)
    assert small.answers() == {
        "train/00000": ("Shirt", "Label Studio user 1"),
        "train/00001": ("Shirt", "eve@example.com"),
    }
    assert "train/00000,Coat,Ann,1" in small.lines()


@pytest.mark.parametrize("exported", [EXPORTED, EXPORTED_MIN], ids=["JSON", "JSON-MIN"])
def test_a_file_imported_again_adds_nothing(small: Project, exported: Any, capsys: pytest.CaptureFixture[str]) -> None:
    small.take(exported)
    before = small.lines()
    small.take(exported)
    assert small.lines() == before
    assert "0 answers added, 3 were there, 1 of them answered otherwise since" in capsys.readouterr().out

    # Not even what a person took back since.
    small.answer(1, "Coat", "Ann", 3)
    before = small.lines()
    small.take(exported)
    assert small.lines() == before
    assert "3 were there, 2 of them answered otherwise since" in capsys.readouterr().out


def test_answers_leave_as_a_table_and_come_back(project: Project) -> None:
    for row, label in enumerate(CLASSES):
        project.answer(row, label)
    project.answer(3, "")
    table = pd.read_csv(project.export("answers.csv"), keep_default_na=False)
    labels = [*CLASSES[:3], "", *CLASSES[4:]]
    assert table.to_dict("list") == {"image": project.names, "label": labels}

    before = project.lines()
    main(Direction.IMPORT, project.path / "answers.csv", project=project.path)
    assert project.lines() == before
    project.ledger.unlink()
    main(Direction.IMPORT, project.path / "answers.csv", project=project.path)
    assert project.answers() == {
        name: (label, "answers.csv") for name, label in zip(project.names, labels, strict=True)
    }


def test_a_table_may_say_who_answered(small: Project) -> None:
    small.take("\ufeffannotator,label,x,image\nBob,Coat,1,train/00000\n,shirt,2,train/00001\n", "a.csv")
    assert small.answers() == {"train/00000": ("Coat", "Bob"), "train/00001": ("shirt", "a.csv")}
    small.take("image,label\ntrain/00000,Coat\ntrain/00002,Coat\n", "a.csv", annotator="Eve")
    assert small.lines()[2:] == ["train/00000,Coat,Eve,2", "train/00002,Coat,Eve,2"]


def test_the_last_line_about_an_image_counts(small: Project) -> None:
    small.take("image,label\ntrain/00000,Coat\ntrain/00000,Shirt\ntrain/00000,Coat\ntrain/00001,Coat\n", "a.csv")
    assert small.lines() == ["train/00000,Coat,a.csv,1", "train/00001,Coat,a.csv,1"]
    head = "image,label,annotator\n"
    small.take(f"{head}train/00002,Shirt,Ann\ntrain/00002,Coat,Bob\ntrain/00002,Shirt,Ann\n", "b.csv")
    assert small.answers()["train/00002"] == ("Shirt", "Ann")


def test_a_new_class_has_to_be_meant(tmp_path: Path) -> None:
    project = make_project(tmp_path, "own", [])
    content = f"image,label\n{project.names[7]},Hat\n"
    with pytest.raises(InputError, match=r"line 2: label 'Hat' is no class, there are none yet; .*--new-classes takes"):
        project.take(content, "a.csv")
    assert project.lines() == []
    project.take(content, "a.csv", new_classes=True)
    project.take(content.replace(project.names[7], project.names[8]), "a.csv")
    assert project.answers() == dict.fromkeys(project.names[7:9], ("Hat", "a.csv"))
    project.export()
    assert 'alias="Hat"' in (tmp_path / "exchange/label_config.xml").read_text()


def broken(change: Callable[[dict[str, Any]], object]) -> list[dict[str, Any]]:
    """Change the second of the tasks."""
    tasks = json.loads(json.dumps(EXPORTED))
    change(tasks[1])
    return tasks


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (
            broken(lambda task: task["data"].update(name="train/99999")),
            "task 2: image 'train/99999' is not in the pool",
        ),
        (broken(lambda task: task["data"].pop("name")), r"task 2: data\.name: Field required"),
        (
            broken(lambda task: task["annotations"][0].update(result=choose("Hat"))),
            "task 2: label 'Hat' is no class, there are 'Coat', 'Shirt'",
        ),
        (
            broken(lambda task: task["annotations"][0]["result"][0].update(from_name="other")),
            r"task 2: annotations\.0\.result\.0\.from_name: Input should be 'label'; seen: 'other'",
        ),
        (
            broken(lambda task: task["annotations"][0]["result"][0].update(type="rectanglelabels")),
            r"task 2: annotations\.0\.result\.0\.type: Input should be 'choices'",
        ),
        (
            broken(lambda task: task["annotations"][0]["result"][0]["value"].update(choices=["Coat", "Shirt"])),
            r"task 2: annotations\.0\.result\.0\.value\.choices: List should have at most 1 item",
        ),
        (
            broken(lambda task: task["annotations"][0].update(result=choose("Coat") * 2)),
            "List should have at most 1 item",
        ),
        (broken(lambda task: task["annotations"][0].update(result=[])), "task 2: .*nothing is chosen, allowed is one"),
        (
            broken(lambda task: task["annotations"][0].update(completed_by="a\nb")),
            r"task 2: annotator: 'a\\nb' holds a",
        ),
        (broken(lambda task: task.pop("annotations")), "task 2: annotations: Field required"),
        ([*EXPORTED_MIN[:2], EXPORTED_MIN[2] | {"label": [{"choices": ["Coat", "Shirt"]}]}], "task 3: label: Input"),
        ([{**EXPORTED_MIN[0], "label": None}], "task 1: .*nothing is chosen"),
        ([EXPORTED[0], "task"], "task 2: its shape: "),
        ({"tasks": EXPORTED}, "holds dict, allowed is a list of tasks"),
        ("[", r"answers\.json: not JSON \("),
    ],
)
def test_what_is_not_understood_changes_nothing(small: Project, content: Any, problem: str) -> None:
    small.answer(3, "Coat")
    before = small.ledger.read_bytes()
    with pytest.raises(InputError, match=problem) as refusal:
        small.take(content)
    assert str(refusal.value).isprintable()
    assert small.ledger.read_bytes() == before


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"image,label\ntrain/00000,Coat\ntrain/99999,Coat\n", "line 3: image 'train/99999' is not in the pool"),
        (b"image,label\ntrain/00000,Coat\ntrain/00001,Hat\n", "line 3: label 'Hat' is no class"),
        (b"image,class\ntrain/00000,Coat\n", "the columns are 'image,class', label is missing"),
        (b"image;label\ntrain/00000;Coat\n", "the columns are 'image;label', image,label is missing"),
        (b"", "the columns are '', image,label is missing"),
        (b"image,label\ntrain/00000\n", "line 2: more or fewer fields than the 2 columns"),
        (b"image,label\ntrain/00000,Coat,Shirt\n", "line 2: more or fewer fields than the 2 columns"),
        (b'image,label\ntrain/00000,Coat\n"train/00001"x,Coat\n', "line 3: not CSV"),
        ("image,label\ntrain/00000,ü\n".encode("latin-1"), "not UTF-8"),
    ],
)
def test_a_table_that_is_not_understood_changes_nothing(small: Project, content: bytes, problem: str) -> None:
    (small.path / "a.csv").write_bytes(content)
    with pytest.raises(InputError, match=problem):
        main(Direction.IMPORT, small.path / "a.csv", project=small.path)
    assert small.lines() == []


def test_with_new_classes_a_label_is_still_a_line_of_text(small: Project) -> None:
    with pytest.raises(InputError, match=r"line 3: label: .* holds a line break"):
        small.take('image,label\ntrain/00000,"a\nb"\n', "a.csv", new_classes=True)
    with pytest.raises(InputError, match=r"line 2: annotator: .* holds a line break"):
        small.take("image,label\ntrain/00000,Coat\n", "a.csv", annotator="a\nb")
    assert small.lines() == []


def test_a_mistake_is_one_line_of_a_command(small: Project) -> None:
    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "tools.exchange", *map(str, arguments), "--project", str(small.path)]
        return subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)

    done = run("export", small.path / "tasks.txt")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"exchange: {small.path}/tasks.txt: allowed is a name that ends in .json or .csv\n"
    assert run("export", small.path / "tasks.json").stdout.startswith(f"{small.path}/tasks.json: 1 tasks, 0 of them")
    assert run("export", small.path / "answers.csv").stdout == f"{small.path}/answers.csv: 0 answers\n"
    assert run("import", small.path / "answers.csv").stdout == f"{small.ledger}: 0 answers added, 0 were there\n"
