"""The ledger of the labels that people gave: CSV in git, to which lines are added and in which none is ever changed.

The last line about an image counts, so a correction is one more line, and who said what when stays in the file. An
append is one write under a lock: several people or processes may append at once, and a crash costs the line that it
cut at most. What cannot be read is left where it is and said, never repaired: a person's work is not for a program to
discard.

One decision may answer for many images: the lines that it made have the same id in the column ``decision``. A line
whose decision is ``-`` and an id says that this decision does not hold for that image: it was taken back, or the person
took the image out before deciding. Such a line's label is the one that counts instead, so that who reads nothing but
the first four columns is not misled. Ledgers older than the column have no header for it: there it stands at the end.
"""

import csv
import fcntl
import io
import os
import re
import secrets
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from few_labels.artifacts import UNKNOWN
from few_labels.errors import InputError, look_at, quote

COLUMNS = ["image", "label", "annotator", "round"]
DECISION = "decision"
NOT_HELD = "-"
CANNOT_TELL = ""
LONGEST_TEXT = 200
MOST_WARNINGS = 10
# More than any name of a file; from 128 KiB on the csv module would not read a field again.
LONGEST_IMAGE_NAME = 65_536
LARGEST_ROUND = 999_999_999
# Surrogates stand for bytes that are no text, and cannot be written.
NO_TEXT = re.compile("[\x00\ud800-\udfff]")
NO_LINE_OF_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


@dataclass(frozen=True)
class Answers:
    """What the ledger says, one entry an image: the last line about it.

    Attributes
    ----------
    image : list of str
        Names, each once, in the order in which they were first answered.
    label : list of str
        The name of a class as it was written; empty where the annotator cannot tell.
    annotator : list of str
    round : list of int
        0 to 999,999,999.
    """

    image: list[str]
    label: list[str]
    annotator: list[str]
    round: list[int]


@dataclass(frozen=True)
class Line:
    """What one person said about one image, once.

    Attributes
    ----------
    image, label, annotator : str
    round : int
    decision : str
        The id of the decision that it was a part of; with ``-`` before it where that does not hold for this image;
        empty in a line that was a decision of its own.
    """

    image: str
    label: str
    annotator: str
    round: int
    decision: str = ""


@dataclass
class History:
    """What holds of the lines of a ledger, and how it came about.

    Attributes
    ----------
    held : dict of str to list of Line
        By image, in the order in which images were first answered: the lines that hold, of which the last one counts.
        An image of which all was taken back has none.
    n_decisions : int
        All that people decided, also what was taken back later: each label or group of labels, and each image that was
        taken out of a group.
    last_round : int
        0 before the first one.
    n_lines_of : dict of str to int
        By label, in the order in which labels were first given: how many lines that hold give it.
    """

    held: dict[str, list[Line]] = field(default_factory=dict)
    n_decisions: int = 0
    last_round: int = 0
    n_lines_of: dict[str, int] = field(default_factory=dict)
    _made: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    _seen: set[str] = field(default_factory=set)

    def add(self, lines: Iterable[Line]) -> None:
        """Let more lines count, in the order of the file."""
        for line in lines:
            self.last_round = max(self.last_round, line.round)
            if line.decision.startswith(NOT_HELD):
                self._withdraw(line)
            else:
                self._hold(line)

    def label(self, image: str) -> str | None:
        """Give the label that counts, empty for "cannot tell"; None where nobody answered."""
        lines = self.held.get(image)
        return lines[-1].label if lines else None

    def last_decision(self, annotator: str) -> tuple[str, list[str]] | None:
        """Give the id and the images of what a person decided last and did not take back; None where nothing is."""
        made = self._made.get(annotator)
        return (last := next(reversed(made)), list(made[last])) if made else None

    def answers(self) -> Answers:
        """Give what counts, one entry an image."""
        last = {image: lines[-1] for image, lines in self.held.items() if lines}
        return Answers(
            image=list(last),
            label=[line.label for line in last.values()],
            annotator=[line.annotator for line in last.values()],
            round=[line.round for line in last.values()],
        )

    def disagreements(self) -> dict[str, dict[str, str]]:
        """List the images to which annotators gave different labels, with the label by each.

        Whoever answers once more settles it. "Cannot tell" contradicts nobody.
        """
        found = {}
        for image, lines in self.held.items():
            said: dict[str, str] = {}
            for line in lines:
                said = {line.annotator: line.label} if _differ(said) else said | {line.annotator: line.label}
            if _differ(said):
                found[image] = said
        return found

    def _hold(self, line: Line) -> None:
        self.held.setdefault(line.image, []).append(line)
        self.n_lines_of[line.label] = self.n_lines_of.get(line.label, 0) + 1
        self.n_decisions += not line.decision or line.decision not in self._seen
        if line.decision:
            self._seen.add(line.decision)
        # A line of its own is found again by its image, which no id looks like.
        made = self._made.setdefault(line.annotator, {})
        key = line.decision or f"{NOT_HELD}{line.image}"
        images = made.pop(key, [])
        images.append(line.image)
        made[key] = images

    def _withdraw(self, line: Line) -> None:
        decision = line.decision.removeprefix(NOT_HELD)
        lines = self.held.get(line.image, [])
        place = next((i for i in reversed(range(len(lines))) if lines[i].decision == decision), None)
        if place is None:
            self.n_decisions += 1
            return
        withdrawn = lines.pop(place)
        self.n_lines_of[withdrawn.label] -= 1
        if not self.n_lines_of[withdrawn.label]:
            del self.n_lines_of[withdrawn.label]
        made = self._made[withdrawn.annotator]
        key = decision or f"{NOT_HELD}{line.image}"
        made[key].remove(line.image)
        if not made[key]:
            del made[key]


@dataclass(frozen=True)
class Resolved:
    """Answers by row and by class.

    Attributes
    ----------
    class_names : list of str
        The known classes at their positions, then those that only the ledger names, sorted.
    row : ndarray of shape (n_answers,), int64
        Positions among the names of the images, ascending.
    label : ndarray of shape (n_answers,), int16
        Positions in ``class_names``; -1 where the annotator cannot tell.
    """

    class_names: list[str]
    row: NDArray[np.int64]
    label: NDArray[np.int16]


def read_ledger(path: Path) -> tuple[Answers, list[str]]:
    """Read what people answered.

    Parameters
    ----------
    path : Path
        A missing or an empty file holds no answers.

    Returns
    -------
    Answers
    list of str
        A warning for each of the first ten lines that are not used, where, what was seen, what is allowed; and how many
        more there are.

    Raises
    ------
    InputError
        If the first line does not start with the four columns, or it is no file at all.
    """
    history, warnings = read_history(path)
    return history.answers(), warnings


def read_history(path: Path) -> tuple[History, list[str]]:
    """Read what people answered, and how it came about: as `read_ledger`, with decisions and what was taken back."""
    lines, _, warnings = read_lines(path)
    history = History()
    history.add(lines)
    # A file spoilt as a whole, as by a merge or a spreadsheet, is told by its first lines.
    if n_more := len(warnings[MOST_WARNINGS:]):
        warnings[MOST_WARNINGS:] = [f"{path}: how many more lines are not used: {n_more}"]
    return history, warnings


def read_lines(path: Path, start: int = 0) -> tuple[list[Line], int, list[str]]:
    """Read the lines of a ledger, or those that were added since.

    Parameters
    ----------
    path : Path
        A missing or an empty file has none.
    start : int
        Where an earlier call ended; 0 for all.

    Returns
    -------
    list of Line
    int
        Where the file ends, in bytes.
    list of str
        A warning for each line that is not used: where, what was seen, what is allowed.

    Raises
    ------
    InputError
        If the first line does not start with the four columns.
    """
    header, raw, end = _read_raw(path, start)
    if not header:
        return [], end, []
    found, warnings = [], []
    plain, _ = _count_columns(path, header)
    for number, fields, no_record in _split_records(raw, plain):
        decision = fields[plain] if len(fields) > plain else ""
        image, label, annotator, round_ = fields[: len(COLUMNS)] if fields else [""] * len(COLUMNS)
        if problem := no_record or _find_problem(image, label, annotator, round_, decision):
            seen = raw[number - 1].decode("utf-8", "backslashreplace").rstrip("\r\n")
            where = f"line {number}" if not start else f"a line after byte {start}"
            warnings.append(f"{path}, {where} is not used: {problem}; seen: {quote(seen)}")
        else:
            found.append(Line(image, label, annotator, int(round_), decision))
    return found, end, warnings


def new_decision() -> str:
    """Give an id that no other decision has, whoever makes it and wherever."""
    return secrets.token_hex(6)


def append_answer(path: Path, *, image: str, label: str, annotator: str, round: int) -> None:
    """Add one line to the ledger, a decision of its own; when this returns, it is on the disk.

    Parameters and errors are those of `append_lines`.
    """
    append_lines(path, [Line(image, label, annotator, round)])


def append_lines(path: Path, lines: Sequence[Line]) -> None:
    """Add lines to the ledger, all or none of them; when this returns, they are on the disk.

    Parameters
    ----------
    path : Path
        Created with its folder where it is missing.
    lines : sequence of Line
        Of each, ``image`` is a name; ``label`` the name of a class, at most 200 characters without a control character,
        or empty for "cannot tell"; ``annotator`` at most 200 such characters; ``round`` 0 to 999,999,999; ``decision``
        empty, or an id of `new_decision`, with ``-`` before it where that does not hold.

    Raises
    ------
    InputError
        If a value is not allowed, or the file is no ledger or no file at all.
    OSError
        If the lines cannot be written, and then none of them stays.
    """
    for line in lines:
        if problem := _find_problem(line.image, line.label, line.annotator, str(line.round), line.decision):
            raise InputError(f"{path}: no answer can be added: {problem}")
    path.parent.mkdir(parents=True, exist_ok=True)
    look_at(path)
    # Without a buffer, a line is one write, and nothing is left to be written again after an error.
    with path.open("a+b", buffering=0) as ledger:
        fcntl.flock(ledger, fcntl.LOCK_EX)
        size = ledger.seek(0, os.SEEK_END)
        ledger.seek(0)
        header = ledger.readline()
        if len(header) == size and header.strip() in (b"", _to_line(COLUMNS).strip()):
            # Nothing was answered yet, and so an older header can still get the column for decisions.
            ledger.truncate(size := 0)
            header = _to_line([*COLUMNS, DECISION])
            addition = header
        else:
            ledger.seek(-1, os.SEEK_END)
            # What a crash cut stays a line of its own, and does not spoil these.
            addition = b"" if ledger.read(1) == b"\n" else b"\n"
        plain, has_decision = _count_columns(path, header)
        for line in lines:
            fields = [line.image, line.label, line.annotator, str(line.round), *[""] * (plain - len(COLUMNS))]
            addition += _to_line([*fields, line.decision] if has_decision or line.decision else fields)
        _write_whole(ledger, addition, size)
        os.fsync(ledger.fileno())
    if size == 0:
        _sync_folder(path.parent)


def resolve(answers: Answers, known_classes: list[str], names: Sequence[str]) -> tuple[Resolved, list[str]]:
    """Find the rows and the classes that answers are about.

    A label that differs from a class by case or surrounding blanks alone is taken for that class. Among the classes
    that only the ledger names, the most frequent spelling counts, of equally frequent ones the first.

    Parameters
    ----------
    answers : Answers
    known_classes : list of str
        Of the data set.
    names : sequence of str
        Of the images, by row.

    Returns
    -------
    Resolved
    list of str
        Warnings, one of each misspelt label, and one of the answers about images that are not there.

    Raises
    ------
    InputError
        If there are more classes than labels can number.
    """
    row_of = {name: row for row, name in enumerate(names)}
    absent = [image for image in answers.image if image not in row_of]
    warnings = (
        [
            f"answers about {len(absent)} images that are not in the data set are not used, "
            f"the first is {quote(absent[0])}"
        ]
        if absent
        else []
    )

    answered = zip(answers.image, answers.label, strict=True)
    labels = {row_of[image]: label for image, label in answered if image in row_of}
    spelling = _choose_spellings(list(labels.values()), known_classes)
    new_classes = sorted(set(spelling.values()) - {CANNOT_TELL} - set(known_classes))
    class_names = [*known_classes, *new_classes]
    if len(class_names) > np.iinfo(np.int16).max:
        raise InputError(f"{len(class_names)} classes, labels number at most {np.iinfo(np.int16).max}")
    warnings += [
        f"label {quote(label)} is taken for class {quote(class_name)}"
        for label, class_name in spelling.items()
        if label != class_name and class_name != CANNOT_TELL
    ]

    position = {name: position for position, name in reversed(list(enumerate(class_names)))} | {CANNOT_TELL: UNKNOWN}
    rows = sorted(labels)
    label = [position[spelling[labels[row]]] for row in rows]
    return Resolved(class_names, np.array(rows, np.int64), np.array(label, np.int16)), warnings


def fold_spelling(label: str) -> str:
    """Give what labels have in common that differ by case, surrounding blanks or the encoding of accents alone."""
    return unicodedata.normalize("NFC", label.strip()).casefold()


def find_text_problem(text: str) -> str:
    """Say why a text can be no label and no annotator; empty if it can."""
    if len(text) > LONGEST_TEXT:
        return f"{len(text)} characters, allowed are {LONGEST_TEXT}"
    if NO_LINE_OF_TEXT.search(text):
        return f"{quote(text)} holds a line break or another control character, allowed is a line of text"
    return ""


def _differ(said: dict[str, str]) -> bool:
    return len({fold_spelling(label) for label in said.values()} - {CANNOT_TELL}) > 1


def _choose_spellings(labels: Sequence[str], known_classes: Sequence[str]) -> dict[str, str]:
    """Give each label the name of its class."""
    class_of = {CANNOT_TELL: CANNOT_TELL} | {fold_spelling(name): name for name in reversed(known_classes)}
    # Of spellings counted alike, a counter gives the first one first.
    for spelling, _ in Counter(label.strip() for label in labels).most_common():
        class_of.setdefault(fold_spelling(spelling), spelling)
    known = set(known_classes)
    return {label: label if label in known else class_of[fold_spelling(label)] for label in labels}


def _find_problem(image: str, label: str, annotator: str, round_: str, decision: str = "") -> str:
    if not 0 < len(image) <= LONGEST_IMAGE_NAME:
        return f"the image's name has {len(image)} characters, allowed are 1 to {LONGEST_IMAGE_NAME}"
    if NO_TEXT.search(image):
        return f"the image's name {quote(image)} holds a NUL or bytes that are no text, allowed is text"
    if problem := find_text_problem(label):
        return f"label: {problem}"
    if problem := find_text_problem(annotator):
        return f"annotator: {problem}"
    if not re.fullmatch("[0-9]{1,9}", round_):
        return f"round {quote(round_)}, allowed are 0 to {LARGEST_ROUND}"
    if not re.fullmatch("(-?[0-9a-f]{12})?|-", decision):
        return f"decision {quote(decision)}, allowed are 12 hexadecimal digits, - before them or alone, and nothing"
    return ""


def _read_raw(path: Path, start: int) -> tuple[bytes, list[bytes], int]:
    """Give the header, the lines from ``start`` on below a first one that is not read, and where the file ends."""
    look_at(path)
    try:
        with path.open("rb") as ledger:
            # Whoever appends is waited for: half a line is not a crash then.
            fcntl.flock(ledger, fcntl.LOCK_SH)
            header = ledger.readline()
            ledger.seek(start)
            lines = ledger.readlines()
            return header, lines if not start else [header, *lines], ledger.tell()
    except FileNotFoundError:
        return b"", [], 0


def _count_columns(path: Path, header: bytes) -> tuple[int, bool]:
    """Say how many columns there are beside the one for decisions, and whether the header has that, as its last."""
    try:
        # Spreadsheets put a byte order mark in front.
        columns = next(csv.reader([header.decode("utf-8-sig")], strict=True))
    except (UnicodeDecodeError, csv.Error):
        columns = []
    if columns[: len(COLUMNS)] != COLUMNS:
        seen = header.decode("utf-8", "backslashreplace").rstrip("\r\n")
        raise InputError(f"{path}: the first line is {quote(seen)}, a ledger's starts with {','.join(COLUMNS)}")
    has_decision = columns[-1] == DECISION
    return len(columns) - has_decision, has_decision


def _split_records(lines: Sequence[bytes], n_columns: int) -> Iterator[tuple[int, list[str], str]]:
    """Give each record below the header: the number of its first line, its fields, and why there are none.

    A quoted name may hold line breaks, so a quote that a crash left open seems to go on over all lines after it. An
    open quote ends, if at all, in the next line with an odd number of quotes; where that makes no record, the first
    line alone is broken and reading goes on behind it.
    """
    odd = [i for i, line in enumerate(lines) if line.count(b'"') % 2]
    next_odd = dict(pairwise(odd))
    start = 1
    while start < len(lines):
        end = start + 1
        fields, problem = _parse(lines[start:end], n_columns)
        if problem and start in next_odd:
            end_of_quote = next_odd[start] + 1
            joined, problem_of_joined = _parse(lines[start:end_of_quote], n_columns)
            if not problem_of_joined:
                fields, problem, end = joined, "", end_of_quote
        if fields or problem:
            yield start + 1, fields, problem
        start = end


def _parse(lines: Sequence[bytes], n_columns: int) -> tuple[list[str], str]:
    """Give the fields of one record, of which an empty line has none, or say why there are none."""
    if not lines[-1].endswith(b"\n"):
        return [], "it does not end, a line ends in a line break"
    try:
        records = list(csv.reader([line.decode() for line in lines], strict=True))
    except UnicodeDecodeError as error:
        return [], f"it is not UTF-8 ({error.reason})"
    except csv.Error as error:
        return [], f"it is not CSV ({error})"
    if len(records) != 1:
        return [], f"{len(records)} records, a line is one"
    # With or without a decision, so that lines from before and after there was one go together.
    if len(records[0]) not in (0, n_columns, n_columns + 1):
        return [], f"{len(records[0])} fields, allowed are {n_columns}, and one for the decision"
    return records[0], ""


def _to_line(fields: Sequence[str]) -> bytes:
    line = io.StringIO()
    # The csv module quotes the line breaks that its own line end is made of: both, for names that hold either.
    csv.writer(line, lineterminator="\r\n").writerow(fields)
    return line.getvalue().removesuffix("\r\n").encode() + b"\n"


def _write_whole(ledger: io.FileIO, addition: bytes, size: int) -> None:
    try:
        # A short write means that the disk is filling up; writing the rest says so, or ends well.
        while addition:
            addition = addition[ledger.write(addition) :]
    except OSError as error:
        ledger.truncate(size)
        error.filename = ledger.name
        raise


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
