"""Ask a person about one image after the other, in the terminal, and keep each answer in the ledger.

A page in a browser is to show the images later. So what is asked next, what an answer means and how it is kept are a
class without any input or output of its own, `Session`; the functions that show and ask stand apart from it.

An answer is in the ledger before the next image is shown, and there is nothing to save: to stop at any time, also by a
crash, loses nothing. Undo is one more line as well, because no line of a ledger is ever taken out: the image counts as
"cannot tell" until it is answered again, and stays so if it never is.
"""

import getpass
import io
import math
import shutil
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from typer import Option

from few_labels.artifacts import load_classes, load_images, load_names
from few_labels.errors import InputError
from few_labels.ledger import CANNOT_TELL, append_answer, find_text_problem, fold_spelling, read_ledger, resolve
from stages import run

QUERY_COLUMNS = ["image", "guess", "sureness"]
WIDEST_PICTURE = 64
# As many as leave the picture on the screen; more are listed once, and when asked for.
MOST_CLASSES_BESIDE_PICTURE = 30
WIDEST_CLASS_NAME = 30
HELP = """\
the name or the number of a class   this class; a new name makes a new class, after a question
Enter                               the guess
-                                   cannot tell
u                                   undo: ask about the image before again; until answered, it is "cannot tell"
?                                   this, and all classes
q, Ctrl-D or Ctrl-C                 stop; every answer is kept already
The name of a class wins over a command or number that reads alike; with : before it, a command is one (:q)."""


class Intent(Enum):
    """What a typed line asks for."""

    ANSWER = auto()
    NEW_CLASS = auto()
    UNDO = auto()
    HELP = auto()
    STOP = auto()
    REJECTED = auto()


COMMANDS = {"-": Intent.ANSWER, "u": Intent.UNDO, "?": Intent.HELP, "q": Intent.STOP}


@dataclass(frozen=True)
class Query:
    """An image to ask about.

    Attributes
    ----------
    image : str
        Its name.
    guess : str
        The class that the model takes it for; empty where there is none yet.
    sureness : float
        Of the guess, in 0-1; NaN where it is not known.
    """

    image: str
    guess: str
    sureness: float


class Session:
    """The queries that are open, and the answers to them.

    Parameters
    ----------
    queries : sequence of Query
        In the order in which they are asked.
    class_names : sequence of str
    ledger : Path
    annotator : str
    round : int

    Attributes
    ----------
    class_names : list of str
        In the order of their numbers, which start at 1; new ones come last.
    n_answered : int
        How many of ``queries``, from the first on.
    """

    def __init__(
        self, queries: Sequence[Query], class_names: Sequence[str], *, ledger: Path, annotator: str, round: int
    ) -> None:
        self.queries = queries
        self.class_names = list(dict.fromkeys([*class_names, *(query.guess for query in queries if query.guess)]))
        self.n_answered = 0
        self._ledger, self._annotator, self._round = ledger, annotator, round

    def next_query(self) -> Query | None:
        """Give what to ask about now; None when nothing is left."""
        return self.queries[self.n_answered] if self.n_answered < len(self.queries) else None

    def interpret(self, typed: str) -> tuple[Intent, str]:
        """Say what a typed line means.

        Parameters
        ----------
        typed : str

        Returns
        -------
        Intent
        str
            Of an answer its label, empty for "cannot tell"; of a new class its name; of what is rejected why.
        """
        text, query = typed.strip(), self.next_query()
        command = COMMANDS.get(text.removeprefix(":"))
        if query is None:
            # Nothing is there to be answered: a line either goes back or ends.
            return (Intent.UNDO if command is Intent.UNDO else Intent.STOP), ""
        if not text:
            return (Intent.ANSWER, query.guess) if query.guess else (Intent.REJECTED, "there is no guess to take")
        if text in self.class_names:
            return Intent.ANSWER, text
        if command:
            return command, CANNOT_TELL
        numbered = {str(number): name for number, name in enumerate(self.class_names, start=1)}
        if text in numbered:
            return Intent.ANSWER, numbered[text]
        for name in self.class_names:
            if fold_spelling(name) == fold_spelling(text):
                return Intent.ANSWER, name
        problem = find_text_problem(text)
        return (Intent.REJECTED, problem) if problem else (Intent.NEW_CLASS, text)

    def answer(self, label: str) -> None:
        """Keep the answer to the next query and go on to the one after it.

        Parameters
        ----------
        label : str
            A class's name, also a new one; empty for "cannot tell".
        """
        self._append(self.queries[self.n_answered].image, label)
        self.n_answered += 1
        if label not in {CANNOT_TELL, *self.class_names}:
            self.class_names.append(label)

    def undo(self) -> bool:
        """Take back the answer before and ask for it again; False when this session has given none."""
        if self.n_answered == 0:
            return False
        self._append(self.queries[self.n_answered - 1].image, CANNOT_TELL)
        self.n_answered -= 1
        return True

    def _append(self, image: str, label: str) -> None:
        append_answer(self._ledger, image=image, label=label, annotator=self._annotator, round=self._round)


def main(
    queries: Annotated[Path, Option()],
    dataset: Annotated[Path, Option(help="the names of the classes")],
    images: Annotated[Path, Option()],
    names: Annotated[Path, Option(help="of the images")],
    ledger: Annotated[Path, Option(help="where the answers are kept")],
    annotator: Annotated[str, Option(help="who answers; by default, git's user.name")] = "",
) -> None:
    annotator = annotator or find_annotator()
    if problem := find_text_problem(annotator):
        raise InputError(f"annotator: {problem}")
    pixels = load_images(images)
    row_of = {name: row for row, name in enumerate(load_names(names, len(pixels)))}
    all_queries = load_queries(queries)
    if absent := [query.image for query in all_queries if query.image not in row_of]:
        raise InputError(f"{queries}: {len(absent)} images are not in {names}, the first is {absent[0]!r}")
    answers, warnings = read_ledger(ledger)
    resolved, more_warnings = resolve(answers, load_classes(dataset).class_names, list(row_of))
    for warning in warnings + more_warnings:
        print(f"label: {warning}", file=sys.stderr)

    answered = set(answers.image)
    session = Session(
        [query for query in all_queries if query.image not in answered],
        resolved.class_names,
        ledger=ledger,
        annotator=annotator,
        round=1 + max(answers.round, default=0),
    )
    if not all_queries:
        print(f"{queries} asks nothing; a person is asked where select_labels.oracle is person")
        return
    if not session.queries:
        print(f"all {len(all_queries)} images are answered; now: make repro")
        return
    # A byte that is no text is a mistyped line or a strange name, and no reason to end.
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
    with suppress(EOFError, KeyboardInterrupt):
        talk(session, pixels, row_of, n_queries=len(all_queries))
    print(f"\n{session.n_answered} answered, {len(session.queries) - session.n_answered} left; now: make repro")


def talk(session: Session, pixels: NDArray[np.uint8], row_of: dict[str, int], *, n_queries: int) -> None:
    """Show and ask until the person stops.

    Parameters
    ----------
    session : Session
    pixels : ndarray of shape (n_images, height, width, channels), uint8
    row_of : dict
        From the name of an image to its row.
    n_queries : int
        Of all queries, also those that earlier sessions answered.

    Raises
    ------
    EOFError, KeyboardInterrupt
        When the person stops by Ctrl-D or Ctrl-C.
    """
    shown: Query | None = None
    while True:
        query = session.next_query()
        if query is None:
            typed = input("all answered; Enter ends, u goes back: ")
        else:
            if query is not shown:
                n_done = n_queries - len(session.queries) + session.n_answered
                print(f"\n{n_done + 1} of {n_queries}: {escape(query.image)}")
                if sys.stdout.isatty():
                    width = min(WIDEST_PICTURE, shutil.get_terminal_size().columns)
                    print(to_half_blocks(pixels[row_of[query.image]], width))
                if shown is None or len(session.class_names) <= MOST_CLASSES_BESIDE_PICTURE:
                    print(list_classes(session.class_names))
            typed = input(prompt(query))
        shown = query
        intent, text = session.interpret(typed)
        if intent is Intent.NEW_CLASS and not is_confirmed(f"new class '{escape(text)}'?"):
            continue
        if intent in {Intent.ANSWER, Intent.NEW_CLASS}:
            session.answer(text)
        elif intent is Intent.UNDO:
            if not session.undo():
                print("there is no answer of this session to undo")
        elif intent is Intent.HELP:
            print(f"{HELP}\n{list_classes(session.class_names)}")
        elif intent is Intent.REJECTED:
            print(text)
        else:
            return


def prompt(query: Query) -> str:
    """Give the line that asks, with the guess where there is one."""
    sureness = "" if math.isnan(query.sureness) else f" ({query.sureness:.0%} sure)"
    guess = f", Enter for '{escape(query.guess)}'{sureness}" if query.guess else ""
    return f"class (? for help{guess}): "


def is_confirmed(question: str) -> bool:
    """Ask a question of which anything but yes is no."""
    return input(f"{question} [y/N] ").strip().lower() in {"y", "yes"}


def list_classes(class_names: Sequence[str]) -> str:
    """Put the classes and their numbers into as many columns as the terminal has room for.

    Parameters
    ----------
    class_names : sequence of str

    Returns
    -------
    str
        A class whose number is another class's name stands without it, since the name wins.
    """
    cells = []
    for number, name in enumerate(class_names, start=1):
        shown = escape(name)
        shown = shown if len(shown) <= WIDEST_CLASS_NAME else f"{shown[: WIDEST_CLASS_NAME - 1]}…"
        cells.append(shown if str(number) in class_names else f"{number} {shown}")
    width = 2 + max(map(len, cells), default=0)
    n_rows = -(-len(cells) // max(1, shutil.get_terminal_size().columns // width))
    rows = (cells[row::n_rows] for row in range(n_rows))
    return "\n".join("".join(cell.ljust(width) for cell in row).rstrip() for row in rows)


def escape(text: str) -> str:
    """Write what would move the cursor, colour or reorder the line by its code: names come from strangers."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def to_half_blocks(image: NDArray[np.uint8], max_width: int) -> str:
    """Draw an image in characters: each shows two pixels, one by its colour above and one by the one behind it.

    Parameters
    ----------
    image : ndarray of shape (height, width, channels), uint8
        One channel for grey, three for RGB.
    max_width : int
        In characters. A larger image is shrunk by the mean over squares of pixels; no image becomes higher than
        that many pixels either, which is half as many lines.

    Returns
    -------
    str
        Lines that end in the terminal's own colours.
    """
    height, width, n_channels = image.shape
    side = max(1, -(-max(height, width) // max_width))
    # Lines show pairs of pixels, and so the height becomes a multiple of two squares.
    padded = np.pad(image, [(0, -height % (2 * side)), (0, -width % side), (0, 0)], mode="edge")
    squares = padded.reshape(len(padded) // side, side, -1, side, n_channels).mean(axis=(1, 3)).astype(np.uint8)
    colours = np.broadcast_to(squares, (*squares.shape[:2], 3)).tolist()
    return "\n".join(
        "".join(
            f"\x1b[38;2;{r};{g};{b};48;2;{r2};{g2};{b2}m▀" for (r, g, b), (r2, g2, b2) in zip(above, below, strict=True)
        )
        + "\x1b[0m"
        for above, below in zip(colours[::2], colours[1::2], strict=True)
    )


def load_queries(path: Path) -> list[Query]:
    """Read what to ask, each image once.

    Raises
    ------
    InputError
        If a column is missing, or a sureness is neither empty nor a number.
    """
    try:
        # A name is what it says, also one that reads like a missing value.
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        sureness = pd.to_numeric(table["sureness"])
        queries = map(Query, table["image"], table["guess"], sureness)
    except (ValueError, KeyError) as error:
        raise InputError(f"{path}: not a table of queries, with {','.join(QUERY_COLUMNS)} ({error})") from error
    return list({query.image: query for query in queries}.values())


def find_annotator() -> str:
    """Give the name that git knows the person by, or else the login name.

    Raises
    ------
    InputError
        If there is neither.
    """
    try:
        git = subprocess.run(["git", "config", "user.name"], capture_output=True, text=True, check=False)
        if name := git.stdout.strip():
            return name
    except FileNotFoundError:
        pass
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        raise InputError("who answers is not known: neither git nor the system has a name, give --annotator") from None


if __name__ == "__main__":
    run(main)
