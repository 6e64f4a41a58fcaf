"""Exchange labels with other tools: tasks for Label Studio out and its answers in, or plain CSV both ways.

``python -m tools.exchange export tasks.json`` writes what is asked and what was answered as Label Studio's tasks, with
the labelling configuration beside them; ``python -m tools.exchange import export.json`` adds to the ledger what its
export, JSON or JSON-MIN, says more than the ledger. A name that ends in .csv stands for a table ``image,label``.

A task carries the name of its image, because paths differ from machine to machine, and the answer that it was exported
with, so that this answer comes back as its annotator's and not as that of whoever loaded the tasks.
"""

import csv
import json
import math
import os
import shlex
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, Field, ValidationError, model_validator
from tqdm import tqdm
from typer import Argument, Option

from few_labels.artifacts import UNKNOWN, load_classes, load_images, load_names, replacing
from few_labels.errors import InputError, shorten
from few_labels.ledger import (
    CANNOT_TELL,
    LARGEST_ROUND,
    Answers,
    append_answer,
    find_text_problem,
    fold_spelling,
    read_ledger,
    read_lines,
    resolve,
)
from stages import read_parameters, run

# The names of the two tags of the labelling configuration: what is chosen, and what it is chosen for.
CONTROL = "label"
OBJECT = "image"
MODEL = "few-labels"
CSV_COLUMNS = ["image", "label"]

IMAGES = "data/train_images.npy"
NAMES = "data/train_names.csv"
CLASSES = "data/classes.json"
QUERIES = "data/queries.csv"
AUDIT_IMAGES = "data/audit_images.csv"
POOL_LABELS = "data/pool_labels.csv"


class Direction(StrEnum):
    """Out of the project, or into it."""

    EXPORT = "export"
    IMPORT = "import"


@dataclass(frozen=True)
class Answer:
    """What a file says about an image.

    Attributes
    ----------
    where : str
        The line or the task that says so, for messages.
    image : str
        Its name.
    label : str
        The name of a class, empty for "cannot tell".
    annotator : str or None
        None where the file does not say who answered.
    """

    where: str
    image: str
    label: str
    annotator: str | None


@dataclass(frozen=True)
class Guess:
    """What the model takes an image for, and how sure it is of that, in 0-1; NaN where that is not known."""

    label: str
    sureness: float


class Choices(BaseModel):
    """The value of a choice; one is chosen."""

    choices: list[str] = Field(min_length=1, max_length=1)


class Result(BaseModel):
    """What an annotation holds."""

    from_name: Literal["label"]
    type: Literal["choices"]
    value: Choices


class User(BaseModel):
    """Who annotated."""

    email: str


class Annotation(BaseModel):
    """One person's answer to a task."""

    result: list[Result] = Field(max_length=1)
    was_cancelled: bool = False
    completed_by: User | int | str | None = None
    created_at: str | None = None
    updated_at: str | None = None

    @model_validator(mode="after")
    def _is_answer(self) -> "Annotation":
        if not self.result and not self.was_cancelled:
            raise ValueError("nothing is chosen, allowed is one choice, or a task that is skipped")
        return self

    @property
    def label(self) -> str:
        """The class that was chosen; a task that was skipped is one about which the annotator cannot tell."""
        return CANNOT_TELL if self.was_cancelled else self.result[0].value.choices[0]


class TaskData(BaseModel):
    """What the export wrote about an image: its name, and the answer that the ledger had."""

    name: str
    answer: str | None = None
    answered_by: str | None = None


class Task(BaseModel):
    """An image with all answers to it, as Label Studio exports it in JSON."""

    data: TaskData
    annotations: list[Annotation]


class Record(TaskData):
    """One answer, as Label Studio exports it in JSON-MIN, which leaves out skipped tasks."""

    id: int
    annotation_id: int | None
    label: str | None = None
    annotator: int | str | None = None
    created_at: str | None = None
    updated_at: str | None = None

    @model_validator(mode="after")
    def _is_answer(self) -> "Record":
        if self.annotation_id is not None and self.label is None:
            raise ValueError("nothing is chosen, allowed is one choice")
        return self

    @property
    def annotations(self) -> list[Annotation]:
        """The answer as JSON has it; none where nobody has answered yet."""
        if self.label is None:
            return []
        result = Result(from_name="label", type="choices", value=Choices(choices=[self.label]))
        dates = self.model_dump(include={"created_at", "updated_at"})
        return [Annotation(result=[result], completed_by=self.annotator, **dates)]


def main(
    direction: Annotated[Direction, Argument()],
    file: Annotated[Path, Argument(help="tasks or Label Studio's export, .json; or a table of image,label, .csv")],
    dataset: Annotated[str, Option(help="whose ledger; by default that of params.yaml")] = "",
    annotator: Annotated[str, Option(help="of answers that do not say whose; by default the file's name")] = "",
    new_classes: Annotated[bool, Option("--new-classes", help="take labels that are no class yet")] = False,
    document_root: Annotated[Path | None, Option(help="LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT")] = None,
    project: Annotated[Path, Option(help="the folder of params.yaml")] = Path(),
) -> None:
    file = file.expanduser()
    if file.suffix not in {".json", ".csv"}:
        raise InputError(f"{file}: allowed is a name that ends in .json or .csv")
    dataset = dataset or read_parameters([project / "params.yaml"], []).download.dataset
    images = load_images(project / IMAGES)
    names = load_names(project / NAMES, len(images))
    ledger = project / "labels" / f"{dataset}.csv"
    answers, warnings = read_ledger(ledger)
    resolved, more_warnings = resolve(answers, load_classes(project / CLASSES).class_names, names)
    for warning in warnings + more_warnings:
        print(f"exchange: {warning}", file=sys.stderr)

    if direction is Direction.IMPORT:
        given = read_csv(file) if file.suffix == ".csv" else read_label_studio(file)
        whose = annotator or file.name
        check_answers(given, names, resolved.class_names, whose, new_classes=new_classes)
        new, n_overruled = find_new(given, read_given(ledger), answers, annotator)
        import_answers(ledger, new, whose, round=1 + max(answers.round, default=0))
        overruled = f", {n_overruled} of them answered otherwise since" if n_overruled else ""
        print(f"{ledger}: {len(new)} answers added, {len(given) - len(new)} were there{overruled}")
        return

    label_of = {
        names[row]: CANNOT_TELL if label == UNKNOWN else resolved.class_names[label]
        for row, label in zip(resolved.row, resolved.label, strict=True)
    }
    if file.suffix == ".csv":
        with replacing(file) as temporary:
            pd.DataFrame(list(label_of.items()), columns=CSV_COLUMNS, dtype=object).to_csv(temporary, index=False)
        print(f"{file}: {len(label_of)} answers")
        return

    queries = read_table(project / QUERIES, ["image", "guess", "sureness"])
    listed = list(dict.fromkeys([*queries["image"], *label_of]))
    row_of = {name: row for row, name in enumerate(names)}
    if not listed:
        raise InputError(f"{file} is not written: {project / QUERIES} asks nothing, and {ledger} answers nothing")
    if absent := [name for name in listed if name not in row_of]:
        raise InputError(
            f"{project / QUERIES}: {len(absent)} images are not in the pool, the first is {shorten(absent[0])!r}"
        )
    own, pictures = project / "data" / dataset, file.parent / "images"
    paths = [place_image(name, images[row_of[name]], own, pictures) for name in listed]
    root = Path(os.path.normpath((document_root or project).absolute()))
    urls = [to_url(path, root) for path in paths]
    guesses = find_guesses(queries, project / POOL_LABELS, project / AUDIT_IMAGES, resolved.class_names)
    annotator_of = dict(zip(answers.image, answers.annotator, strict=True))
    tasks = [
        to_task(name, url, label_of.get(name), annotator_of.get(name), guesses.get(name))
        for name, url in zip(listed, urls, strict=True)
    ]
    configuration = file.with_name("label_config.xml")
    with replacing(file) as tasks_file, replacing(configuration) as configuration_file:
        tasks_file.write_text(json.dumps(tasks, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
        configuration_file.write_text(configure(resolved.class_names) + "\n", encoding="utf-8")
    print(
        f"{file}: {len(tasks)} tasks, {len(label_of)} of them answered; {configuration} is for the labelling interface"
    )
    if not resolved.class_names:
        print(f"{configuration}: no class is known yet, add a Choice for each")
    storages = " and ".join(sorted({str(own if path.is_relative_to(own) else pictures) for path in paths}))
    print(
        "Label Studio finds the images with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
        f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={shlex.quote(str(root))}, once {storages} is among the local storages "
        "of its project; it needs no sync"
    )


def place_image(name: str, image: NDArray[np.uint8], own: Path, pictures: Path) -> Path:
    """Give the file of an image: the photo itself, or else a PNG file that is written for it."""
    if (own / name).is_file():
        return own / name
    picture = pictures / f"{name}.png"
    with replacing(picture) as temporary:
        Image.fromarray(image.squeeze(axis=-1) if image.shape[-1] == 1 else image).save(temporary)
    return picture


def to_url(path: Path, root: Path) -> str:
    """Give the address by which Label Studio serves a file of its local storage.

    Raises
    ------
    InputError
        If the file is not below the folder that Label Studio serves from.
    """
    # Not resolved: Label Studio joins root and path, and a folder may well be a link.
    absolute = Path(os.path.normpath(path.absolute()))
    if not absolute.is_relative_to(root):
        raise InputError(f"{path} is not below {root}, from which Label Studio serves: choose with --document-root")
    return f"/data/local-files/?d={quote(absolute.relative_to(root).as_posix())}"


def to_task(name: str, url: str, label: str | None, annotator: str | None, guess: Guess | None) -> dict[str, Any]:
    """Make an image a task of Label Studio's.

    Parameters
    ----------
    name, url : str
        Of the image.
    label : str or None
        The answer so far, empty for "cannot tell", which is a task that is skipped; None without.
    annotator : str or None
        Who gave it.
    guess : Guess or None
        Shown where there is no answer.

    Returns
    -------
    dict
    """
    task: dict[str, Any] = {"data": {"image": url, "name": name}}
    if label is not None:
        task["data"] |= {"answer": label, "answered_by": annotator}
        result = [] if label == CANNOT_TELL else [to_result(label)]
        task["annotations"] = [{"result": result, "was_cancelled": label == CANNOT_TELL}]
    elif guess is not None:
        prediction = {"model_version": MODEL, "result": [to_result(guess.label)]}
        task["predictions"] = [prediction if math.isnan(guess.sureness) else prediction | {"score": guess.sureness}]
    return task


def to_result(label: str) -> dict[str, Any]:
    """Say in Label Studio's words that a class was chosen."""
    return {"id": CONTROL, "from_name": CONTROL, "to_name": OBJECT, "type": "choices", "value": {"choices": [label]}}


def configure(class_names: Iterable[str]) -> str:
    """Write the labelling configuration: an image, and the classes to choose one from.

    Parameters
    ----------
    class_names : iterable of str

    Returns
    -------
    str
        XML.
    """
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name=OBJECT, value=f"${OBJECT}")
    control = ElementTree.SubElement(
        view, "Choices", name=CONTROL, toName=OBJECT, choice="single-radio", required="true", showInline="true"
    )
    for name in class_names:
        # An alias is what an annotation says; a value with a dollar in it may stand for a field of the task instead.
        ElementTree.SubElement(control, "Choice", value=name, alias=name)
    ElementTree.indent(view)
    return ElementTree.tostring(view, encoding="unicode")


def find_guesses(
    queries: pd.DataFrame, pool_labels: Path, audit_images: Path, class_names: Iterable[str]
) -> dict[str, Guess]:
    """Give the guess for each image: that of the queries, or else the label that the pipeline gave it.

    Parameters
    ----------
    queries : DataFrame
        ``image``, ``guess`` and ``sureness``, as text.
    pool_labels : Path
        The labels of the whole pool, where they are there.
    audit_images : Path
        What is to be answered without a guess to lean on: the guess is what it grades.
    class_names : iterable of str
        Label Studio refuses a prediction of any other, which an earlier run may have left.

    Returns
    -------
    dict of str to Guess
    """
    tables = [queries[["image", "guess", "sureness"]]]
    if pool_labels.exists():
        tables.insert(0, read_table(pool_labels, ["image", "label", "confidence"]))
    guesses = {
        image: Guess(label, float(sureness or "nan"))
        for table in tables
        for image, label, sureness in table.itertuples(index=False)
        if label
    }
    audit, known = set(read_table(audit_images, ["image"])["image"]), set(class_names)
    return {image: guess for image, guess in guesses.items() if image not in audit and guess.label in known}


def read_table(path: Path, columns: list[str]) -> pd.DataFrame:
    """Read columns of a table as the text that they are.

    Raises
    ------
    InputError
        If one is missing.
    """
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False)[columns]
    except (ValueError, KeyError) as error:
        raise InputError(f"{path}: not a table with the columns {','.join(columns)} ({error})") from error


def read_csv(path: Path) -> list[Answer]:
    """Read a table of answers, of which the last about an image counts.

    Parameters
    ----------
    path : Path
        CSV with the columns ``image`` and ``label``, and others that are not read but for ``annotator``.

    Returns
    -------
    list of Answer

    Raises
    ------
    InputError
        If it is no such table.
    """
    answers = []
    try:
        # Spreadsheets put a byte order mark in front.
        with path.open(encoding="utf-8-sig", newline="") as file:
            table = csv.DictReader(file, strict=True)
            if missing := set(CSV_COLUMNS) - set(table.fieldnames or []):
                seen = ",".join(table.fieldnames or [])
                raise InputError(f"{path}: the columns are {shorten(seen)!r}, {','.join(sorted(missing))} is missing")
            for row in table:
                where = f"{path}, line {table.line_num}"
                if None in row or None in row.values():
                    raise InputError(f"{where}: more or fewer fields than the {len(table.fieldnames or [])} columns")
                answers.append(Answer(where, row["image"], row["label"], row.get("annotator") or None))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 ({error.reason})") from error
    except csv.Error as error:
        raise InputError(f"{path}, line {table.reader.line_num}: not CSV ({error})") from error
    return keep_last(answers)


def read_label_studio(path: Path) -> list[Answer]:
    """Read Label Studio's export.

    Parameters
    ----------
    path : Path
        JSON or JSON-MIN of tasks that the export of this module wrote.

    Returns
    -------
    list of Answer
        The last of each annotator about an image, in the order in which they were given.

    Raises
    ------
    InputError
        If it is no such export.
    """
    try:
        tasks = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error})") from error
    if not isinstance(tasks, list):
        raise InputError(f"{path}: holds {type(tasks).__name__}, allowed is a list of tasks: JSON or JSON-MIN")
    answers: list[tuple[str, Answer]] = []
    for where, task in parse_tasks(tasks, path):
        # What was loaded with the task is older than what was answered there.
        oldest_first = sorted(task.annotations, key=lambda annotation: annotation.created_at or "")
        for position, annotation in enumerate(oldest_first):
            is_exported = position == 0 and annotation.label == task.data.answer
            whose = task.data.answered_by if is_exported else to_annotator(annotation.completed_by)
            date = annotation.updated_at or annotation.created_at or ""
            answers.append((date, Answer(where, task.data.name, annotation.label, whose)))
    # Sorting is stable: what has no date stays in the order of the file.
    return keep_last(answer for _, answer in sorted(answers, key=lambda dated: dated[0]))


def parse_tasks(tasks: list[Any], path: Path) -> list[tuple[str, Task]]:
    """Read tasks, or records of JSON-MIN, of which those of one task are put together.

    Parameters
    ----------
    tasks : list
        As JSON has them.
    path : Path
        For messages.

    Returns
    -------
    list of (str, Task)
        Where each stands, and what it is.

    Raises
    ------
    InputError
        If one is something else.
    """
    parsed: dict[Any, tuple[str, Task]] = {}
    for number, task in enumerate(tasks, start=1):
        where = f"{path}, task {number}"
        try:
            if isinstance(task, dict) and "annotation_id" in task:
                record = Record.model_validate(task)
                _, together = parsed.setdefault(record.id, (where, Task(data=record, annotations=[])))
                together.annotations.extend(record.annotations)
            else:
                parsed[where] = (where, Task.model_validate(task))
        except ValidationError as invalid:
            first = invalid.errors()[0]
            place = ".".join(map(str, first["loc"])) or "its shape"
            seen = ascii(first["input"])
            seen = seen if len(seen) <= 80 else f"{seen[:80]}..."
            raise InputError(f"{where}: {place}: {first['msg']}; seen: {seen}; nothing is imported") from invalid
    return list(parsed.values())


def to_annotator(user: User | int | str | None) -> str | None:
    """Name a user of Label Studio's."""
    if isinstance(user, User):
        return user.email
    return f"Label Studio user {user}" if isinstance(user, int) else user or None


def keep_last(answers: Iterable[Answer]) -> list[Answer]:
    """Keep the last answer of each annotator about each image, in the order in which these were given."""
    last: dict[tuple[str, str | None], Answer] = {}
    for answer in answers:
        # Taken out first, so that it goes to the end.
        last.pop((answer.image, answer.annotator), None)
        last[answer.image, answer.annotator] = answer
    return list(last.values())


def check_answers(
    answers: Iterable[Answer], names: Iterable[str], class_names: list[str], annotator: str, *, new_classes: bool
) -> None:
    """Make sure that every answer can be added, before any is.

    Parameters
    ----------
    answers : iterable of Answer
    names : iterable of str
        Of the images.
    class_names : list of str
        Of the data set and of the ledger.
    annotator : str
        Of answers that do not say whose.
    new_classes : bool
        Whether other labels are allowed.

    Raises
    ------
    InputError
        At the first that cannot.
    """
    known_names, known = set(names), {fold_spelling(name) for name in [*class_names, CANNOT_TELL]}
    for answer in answers:
        if answer.image not in known_names:
            raise InputError(f"{answer.where}: image {answer.image!a} is not in the pool; nothing is imported")
        if not new_classes and fold_spelling(answer.label) not in known:
            allowed = ", ".join(map(ascii, class_names[:10])) + (", ..." if len(class_names) > 10 else "")
            raise InputError(
                f"{answer.where}: label {answer.label!a} is no class, there are {allowed or 'none yet'}; "
                "nothing is imported, --new-classes takes it"
            )
        for what, text in (("label", answer.label), ("annotator", answer.annotator or annotator)):
            if problem := find_text_problem(text):
                raise InputError(f"{answer.where}: {what}: {problem}; nothing is imported")


def read_given(ledger: Path) -> set[tuple[str, str, str]]:
    """Give every answer that the ledger holds, also those that later ones overrule: image, folded label, annotator.

    A line that is broken counts as none, and so may be added once more.
    """
    lines, _, _ = read_lines(ledger)
    return {(line.image, fold_spelling(line.label), line.annotator) for line in lines}


def find_new(
    answers: Iterable[Answer], history: set[tuple[str, str, str]], counted: Answers, annotator: str
) -> tuple[list[Answer], int]:
    """Find the answers that were never given before.

    An answer that was given and then overruled is not given again: to import a file for the second time adds nothing,
    whatever happened between.

    Parameters
    ----------
    answers : iterable of Answer
    history : set of (str, str, str)
        What was ever answered: image, folded label, annotator.
    counted : Answers
        What counts by now.
    annotator : str
        Of answers that do not say whose; empty where nobody knows, and then anybody's answer is the same.

    Returns
    -------
    list of Answer
    int
        How many of the others were overruled.
    """
    anybodys = {(image, label) for image, label, _ in history}
    counts = {image: fold_spelling(label) for image, label in zip(counted.image, counted.label, strict=True)}
    new, n_overruled = [], 0
    for answer in answers:
        label, whose = fold_spelling(answer.label), answer.annotator or annotator
        if (answer.image, label, whose) in history if whose else (answer.image, label) in anybodys:
            n_overruled += counts.get(answer.image) != label
        else:
            new.append(answer)
    return new, n_overruled


def import_answers(ledger: Path, answers: list[Answer], annotator: str, *, round: int) -> None:
    """Add answers to the ledger; if that fails halfway, to import the same file again adds the others."""
    if round > LARGEST_ROUND:
        raise InputError(f"{ledger}: the last round is {round - 1}, after which there is none")
    for answer in tqdm(answers, desc="importing", unit="answer", disable=None):
        whose = answer.annotator or annotator
        append_answer(ledger, image=answer.image, label=answer.label, annotator=whose, round=round)


if __name__ == "__main__":
    run(main)
