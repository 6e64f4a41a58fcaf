"""What all who label at once share: the data set, the ledger, and the round that runs in the background."""

import asyncio
import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from app import session
from app.dataset import Dataset, Settings, load_dataset, load_settings
from app.pictures import Pictures
from app.standing import Record, from_json
from few_labels.errors import InputError
from few_labels.ledger import History, Line, append_lines, read_lines

# The next queries are chosen when a quarter of these is left, so that nobody waits for them.
ROUND_ENDS_AT = 1 / 4
# Somebody else's dvc may hold its lock; a round that failed is tried again after so many seconds.
RETRY_AFTER = 30
TAIL = 64


@dataclass(frozen=True)
class Paths:
    """Where the files are.

    Attributes
    ----------
    data : Path
        The folder of the stages' files.
    own : Path
        Of one's own photos.
    ledger, metrics, params : Path
    records : Path
        What each training answered, for the learning curve.
    """

    data: Path
    own: Path
    ledger: Path
    metrics: Path
    params: Path
    records: Path


class Desk:
    """The state that all tabs share.

    Parameters
    ----------
    paths : Path
    train : bool
        Whether a round also trains.

    Attributes
    ----------
    data : Dataset
    history : History
    classes : list of str
        In the order of their keys.
    round : int
        Of the queries that are asked now.
    version : int
        Grows whenever anything changed.
    warnings : list of str
        Lines of the ledger that are not used.
    unsaved : list of Line
        What could not be written yet; nothing else is answered until it is.
    trouble : str
        Why it could not.
    status : str
        What the background does: empty, ``choosing`` or ``training``.
    failure : str
        Why the last round failed, empty where it did not.
    since : float
        When the background began it, by the monotonic clock.
    """

    def __init__(self, paths: Paths, *, train: bool) -> None:
        self.paths, self.train = paths, train
        self.settings: Settings = load_settings(paths.params)
        self.data: Dataset = load_dataset(paths.data)
        self.pictures = self._make_pictures()
        self.history, self.warnings = History(), list[str]()
        self.version = 0
        self.unsaved: Sequence[Line] = []
        self.trouble = ""
        self.status, self.failure, self.since = "", "", 0.0
        self.shown: dict[str, object] = {}
        self._end, self._inode, self._tail = 0, 0, b""
        self._process: asyncio.subprocess.Process | None = None
        self.sync()
        self.round = session.find_round(self.data.queries, self.history)
        self._n_decisions_chosen, self._not_before = self.history.n_decisions, 0.0
        self._stamps = self._read_stamps()

    def sync(self) -> bool:
        """Read what was added to the ledger, by whomever; say whether anything was.

        Raises
        ------
        OSError, InputError
            If the file cannot be read, or is no ledger any more.
        """
        path = self.paths.ledger
        try:
            status = path.stat()
            with path.open("rb") as ledger:
                ledger.seek(max(0, self._end - TAIL))
                tail = ledger.read(min(TAIL, self._end))
        except FileNotFoundError:
            status, tail = None, b""
        size, inode = (status.st_size, status.st_ino) if status else (0, 0)
        is_same = inode == self._inode and size >= self._end and tail == self._tail
        if is_same and size == self._end and self.version:
            return False
        if not is_same or not self._end:
            # Another file than before, by a merge or a checkout: nothing that was read of the old one counts.
            self.history, self.warnings, self._end = History(), [], 0
        lines, self._end, warnings = read_lines(path, self._end)
        self.history.add(lines)
        self.warnings += warnings
        self._inode = inode
        if self._end:
            with path.open("rb") as ledger:
                ledger.seek(max(0, self._end - TAIL))
                self._tail = ledger.read(min(TAIL, self._end))
        else:
            self._tail = b""
        self.classes = session.list_classes(self.data.known_classes, self.history)
        self.version += 1
        return True

    def write(self, lines: Sequence[Line]) -> bool:
        """Put lines into the ledger, and say whether they are on the disk; if not, they are kept in `unsaved`."""
        if self.unsaved and lines is not self.unsaved:
            return False
        try:
            append_lines(self.paths.ledger, lines)
        except (OSError, InputError) as error:
            self.unsaved, self.trouble = lines, str(error)
            self.version += 1
            return False
        self.unsaved, self.trouble = [], ""
        self.sync()
        return True

    def retry(self) -> bool:
        """Try again to write what could not be written."""
        return not self.unsaved or self.write(self.unsaved)

    def give_up(self) -> None:
        """Drop what could not be written."""
        self.unsaved, self.trouble = [], ""
        self.version += 1

    def describe_unused(self) -> str:
        """Say how many lines of the ledger are not used, and why the first is not; empty where all are."""
        n = len(self.warnings)
        return f"lines of the ledger that are not used: {n}; the first: {self.warnings[0]}" if n else ""

    def taken(self, seat: str) -> set[object]:
        """Give what others are looking at."""
        return {what for other, what in self.shown.items() if other != seat}

    def is_round_over(self) -> bool:
        """Say whether it is time to choose the next queries; a training is not waited for when nothing is left."""
        n_new = self.history.n_decisions - self._n_decisions_chosen
        n_open, n_all = len(session.next_queries(self.data.queries, self.history)), len(self.data.queries)
        if not n_new or self.status == "choosing" or time.monotonic() < self._not_before:
            return False
        if self.status:
            return bool(n_all) and not n_open
        return n_new >= self.settings.n_queries or (bool(n_all) and n_open <= ROUND_ENDS_AT * n_all)

    async def run_round(self) -> None:
        """Choose the next queries and train, in a process of its own, and take over what it wrote."""
        if self.status == "choosing":
            return
        training, self._process = self._process, None
        self._begin("choosing")
        self.failure = ""
        n_decisions_before, self._n_decisions_chosen = self._n_decisions_chosen, self.history.n_decisions
        if training and training.stdin:
            training.stdin.close()
            await training.wait()
        paths = self.paths
        options = {"data": paths.data, "metrics": paths.metrics, "ledger": paths.ledger, "records": paths.records}
        process = await asyncio.create_subprocess_exec(
            *("nice", sys.executable, "-m", "app.rounds"),
            *(word for name, path in options.items() for word in (f"--{name}", str(path))),
            "--train" if self.train else "--no-train",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
        self._process = process
        assert process.stdout is not None
        last = ""
        async for line in process.stdout:
            last = line.decode(errors="replace").strip() or last
            if last == "chosen":
                n_decisions_before = self._n_decisions_chosen
                await self._take_over_or_say()
                self._begin("")
            elif last == "training":
                self._begin("training")
        status = await process.wait()
        if process is not self._process:
            # The next round has begun.
            return
        self._process = None
        if status:
            self.failure = last.removeprefix("failed: ")
            self._n_decisions_chosen, self._not_before = n_decisions_before, time.monotonic() + RETRY_AFTER
        elif last == "trained":
            await self._take_over_or_say()
        self._begin("")

    async def follow(self) -> None:
        """Take over what another page, or a person by dvc, wrote since."""
        if not self.status and self._read_stamps() != self._stamps:
            # While files are being written some are missing; they are looked for again then.
            with suppress(InputError, OSError):
                await self._take_over()

    def stop(self) -> None:
        """End what runs in the background."""
        if self._process and self._process.stdin:
            self._process.stdin.close()

    def load_records(self) -> list[Record]:
        """Read what each training answered; a line that a crash cut is left out."""
        records = []
        with suppress(FileNotFoundError):
            for line in self.paths.records.read_text(encoding="utf-8").splitlines():
                with suppress(ValueError, TypeError):
                    records.append(from_json(json.loads(line)))
        return records

    async def _take_over_or_say(self) -> None:
        try:
            await self._take_over()
        except (InputError, OSError) as error:
            self.failure = str(error)

    async def _take_over(self) -> None:
        stamps = self._read_stamps()
        data = await asyncio.to_thread(load_dataset, self.paths.data)
        settings = await asyncio.to_thread(load_settings, self.paths.params)
        is_same_pool = data.names == self.data.names
        self.data, self.settings, self._stamps = data, settings, stamps
        if not is_same_pool:
            self.pictures = self._make_pictures()
        self.round = session.find_round(data.queries, self.history)
        self.classes = session.list_classes(data.known_classes, self.history)
        self.version += 1

    def _read_stamps(self) -> list[int]:
        files = [self.paths.data / name for name in ("queries.csv", "audit_images.csv", "suspects.csv")]
        return [file.stat().st_mtime_ns if file.exists() else 0 for file in files]

    def _begin(self, status: str) -> None:
        self.status, self.since = status, time.monotonic()
        self.version += 1

    def _make_pictures(self) -> Pictures:
        is_own = self.settings.dataset == "own"
        return Pictures(self.data.names, self.data.images, self.paths.own if is_own else None)
