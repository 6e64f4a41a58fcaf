"""The ledger loses no answer that was acknowledged, and what it cannot read it says and leaves alone."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from few_labels.errors import InputError
from few_labels.ledger import (
    Answers,
    History,
    Line,
    append_answer,
    append_lines,
    new_decision,
    read_history,
    read_ledger,
    read_lines,
    resolve,
)

PROJECT = Path(__file__).parent.parent
OLD_HEADER = "image,label,annotator,round\n"
HEADER = "image,label,annotator,round,decision\n"
HOSTILE_NAMES = [
    "a,b.png",
    'say "cheese".png',
    '"',
    '""',
    "two\nlines.png",
    "\nfirst.png",
    "old\rmac\r\n.png",
    '",\n"x,y,z,1',
    "=1+1.png",
    " blanks .png",
    "NA",
    "../../etc/passwd",
    "été/猫 🐈.png",
    "\x1b[2J.png",
    "\u202egnp.exe",
]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    return tmp_path / "labels/own.csv"


def append(path: Path, image: str = "a.png", label: str = "cat", annotator: str = "ann", round_: int = 1) -> None:
    append_answer(path, image=image, label=label, annotator=annotator, round=round_)


def write(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def read_labels(path: Path) -> dict[str, str]:
    answers, _ = read_ledger(path)
    return dict(zip(answers.image, answers.label, strict=True))


def python(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_what_is_appended_is_read(ledger: Path) -> None:
    append(ledger, "a.png", "cat", "ann", 1)
    append(ledger, "b.png", "", "bob", 2)
    assert read_ledger(ledger) == (Answers(["a.png", "b.png"], ["cat", ""], ["ann", "bob"], [1, 2]), [])
    assert ledger.read_text() == HEADER + "a.png,cat,ann,1,\nb.png,,bob,2,\n"


def test_the_last_line_about_an_image_counts_and_the_others_stay(ledger: Path) -> None:
    for label in ["cat", "dog", "", "cow"]:
        append(ledger, label=label)
    assert read_labels(ledger) == {"a.png": "cow"}
    assert ledger.read_text().count("a.png") == 4


@pytest.mark.parametrize(
    "content",
    [None, "", HEADER, HEADER.rstrip(), OLD_HEADER, OLD_HEADER.rstrip()],
    ids=["missing", "empty", "header", "no end", "old header", "no end of an old header"],
)
def test_no_answers_yet(ledger: Path, content: str | None) -> None:
    if content is not None:
        write(ledger, content)
    assert read_ledger(ledger) == (Answers([], [], [], []), [])
    append(ledger)
    assert ledger.read_text() == HEADER + "a.png,cat,ann,1,\n"


@pytest.mark.parametrize(
    "header", [b"index,label\n", b"image,lab", b"\n", b"a.png,cat,ann,1\n", b"\xff\n", b'"image\n']
)
def test_another_header_is_the_users_to_mend(ledger: Path, header: bytes) -> None:
    content = header + b"a.png,cat,ann,1\n"
    write(ledger, content)
    for use in (read_ledger, append):
        with pytest.raises(
            InputError, match=r"own\.csv: the first line .* starts with image,label,annotator,round"
        ) as e:
            use(ledger)
        assert "\n" not in str(e.value)
    assert ledger.read_bytes() == content


def test_further_columns_stay_and_are_padded(ledger: Path) -> None:
    write(ledger, "image,label,annotator,round,when,note\na.png,cat,ann,1,today,blurred\n")
    append(ledger, "b.png")
    assert read_labels(ledger) == {"a.png": "cat", "b.png": "cat"}
    assert ledger.read_text().endswith("today,blurred\nb.png,cat,ann,1,,\n")


def test_a_spreadsheet_may_have_written_it(ledger: Path) -> None:
    write(ledger, "\ufeffimage,label,annotator,round\r\na.png,cat,ann,1\r\n\r\n")
    append(ledger, "b.png")
    assert read_labels(ledger) == {"a.png": "cat", "b.png": "cat"}
    assert read_ledger(ledger)[1] == []


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_a_name_is_read_as_it_was_written(ledger: Path, name: str) -> None:
    for image in ["before", name, "after"]:
        append(ledger, image)
    assert list(read_labels(ledger)) == ["before", name, "after"]
    assert read_ledger(ledger)[1] == []


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (b"a.png,cat,ann\n", "3 fields, allowed are 4"),
        (b"a.png,cat,ann,1,2\n", "decision '2', allowed are 12 hexadecimal digits"),
        (b"a.png,cat,ann,1,,\n", "6 fields, allowed are 4, and one for the decision"),
        (b"<<<<<<< HEAD\n", "1 fields"),
        (b"a.png,cat,ann,one\n", "round 'one', allowed are 0 to 999999999"),
        (b"a.png,cat,ann,\n", "round ''"),
        (b"a.png,cat,ann,-1\n", "round '-1'"),
        (b"a.png,cat,ann," + b"9" * 5000 + b"\n", "round '999"),
        (b"a.png,c\xe9t,ann,1\n", "UTF-8"),
        (b"a.png,c\0t,ann,1\n", "control character"),
        (b"a\0png,cat,ann,1\n", "NUL"),
        (b"\0\0\0\0\n", "1 fields"),
        (b",cat,ann,1\n", "0 characters"),
        (b"a.png,c\x1b[2Jt,ann,1\n", "control character"),
        (b"a.png," + b"c" * 201 + b",ann,1\n", "201 characters, allowed are 200"),
        (b"a" * 200_000 + b",cat,ann,1\n", "not CSV"),
        (b'"a,b.png,cat,ann,1\n', "not CSV"),
        (b'"a"b.png,cat,ann,1\n', "not CSV"),
        (b"a\rb.png,cat,ann,1\n", "not CSV"),
    ],
)
def test_a_broken_line_is_named_and_the_rest_goes_on(ledger: Path, broken: bytes, said: str) -> None:
    rest = b'c.png,dog,ann,1\n"d,e.png",cow,ann,1\n"f\ng.png",cow,ann,1\n'
    content = HEADER.encode() + b"b.png,cat,ann,1\n" + broken + rest
    write(ledger, content)
    answers, warnings = read_ledger(ledger)
    assert answers.image == ["b.png", "c.png", "d,e.png", "f\ng.png"]
    assert len(warnings) == 1
    assert f"{ledger}, line 3 is not used" in warnings[0]
    assert said in warnings[0]
    assert warnings[0].isprintable()
    assert len(warnings[0]) < 300 + len(str(ledger))
    assert ledger.read_bytes() == content


@pytest.mark.parametrize(
    "tail", [b"b.p", b"b.png,cat,ann,1", b'"b,', b'"b\nc.png"', b'"b\nc.png",cat,ann,1', b"\0\0\0"]
)
def test_what_a_crash_cut_stays_and_spoils_nothing(ledger: Path, tail: bytes) -> None:
    append(ledger)
    whole = ledger.read_bytes()
    write(ledger, whole + tail)
    answers, warnings = read_ledger(ledger)
    assert answers.image == ["a.png"]
    assert "line 3 is not used" in warnings[0]
    for image in ["d.png", "e,f.png", 'g"h.png']:
        append(ledger, image)
    assert ledger.read_bytes().startswith(whole + tail + b"\nd.png,cat,ann,1,\n")
    assert {"a.png", "d.png", "e,f.png", 'g"h.png'} <= set(read_labels(ledger))


def test_wherever_a_crash_cuts_the_lines_before_and_after_are_read(
    ledger: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Only the content matters here, and waiting for the disk at each of the lines would take a minute.
    monkeypatch.setattr("few_labels.ledger.os.fsync", lambda descriptor: None)
    for image in HOSTILE_NAMES:
        append(ledger, image)
    content = ledger.read_bytes()
    for cut in range(len(HEADER), len(content)):
        write(ledger, content[:cut])
        before = set(read_labels(ledger))
        after = ["x.png", "y,z.png", 'say "x".png', "x\ny.png"]
        for image in after:
            append(ledger, image)
        assert before | set(after) <= set(read_labels(ledger)), content[:cut]


def test_many_open_quotes_are_read_in_time(ledger: Path) -> None:
    write(ledger, HEADER + '"a\n' * 50_000 + "b.png,cat,ann,1\n" * 50_000)
    start = time.monotonic()
    answers, _ = read_ledger(ledger)
    assert answers.image == ["b.png"]
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    "wrong",
    [
        {"image": ""},
        {"image": "a\0"},
        {"image": "\udcff.png"},
        {"image": "a" * 70_000},
        {"label": "c\nat"},
        {"label": "\x1b[2J"},
        {"label": "c\u2028at"},
        {"label": "c" * 201},
        {"label": "\udcff"},
        {"annotator": "a\nnn"},
        {"round_": -1},
        {"round_": 10**9},
    ],
)
def test_what_could_not_be_read_again_is_not_written(ledger: Path, wrong: dict) -> None:
    with pytest.raises(InputError, match="no answer can be added") as error:
        append(ledger, **wrong)
    assert str(error.value).isprintable()
    assert not ledger.exists()


def test_the_longest_and_the_largest_that_are_allowed_are_read_again(ledger: Path) -> None:
    append(ledger, "a" * 65_536, "c" * 200, "n" * 200, 999_999_999)
    append(ledger, "b", "c", "", 0)
    answers, warnings = read_ledger(ledger)
    assert warnings == []
    assert answers == Answers(["a" * 65_536, "b"], ["c" * 200, "c"], ["n" * 200, ""], [999_999_999, 0])
    with pytest.raises(InputError, match="the image's name has 65537 characters, allowed are 1 to 65536"):
        append(ledger, "a" * 65_537)


def test_of_a_long_line_the_beginning_is_shown(ledger: Path) -> None:
    write(ledger, HEADER + "x" * 60 + "\n" + "y" * 1000 + "\n")
    _, warnings = read_ledger(ledger)
    short, long = (warning.split("seen: ")[1] for warning in warnings)
    assert short == f"'{'x' * 60}'"
    assert len(long) <= 80
    assert long.startswith("'yyy")


@pytest.mark.parametrize("n_more", [0, 1, 5000])
def test_of_many_broken_lines_the_first_are_shown_and_the_others_counted(ledger: Path, n_more: int) -> None:
    write(ledger, HEADER + "broken\n" * (10 + n_more) + "b.png,cat,ann,1\n")
    answers, warnings = read_ledger(ledger)
    assert answers.image == ["b.png"]
    assert [f"{ledger}, line {number} is not used" in warnings[number - 2] for number in range(2, 12)] == [True] * 10
    assert warnings[10:] == ([f"{ledger}: how many more lines are not used: {n_more}"] if n_more else [])
    # Who counts them, as the page does, reads all.
    assert len(read_lines(ledger)[2]) == 10 + n_more


APPEND_MANY = """
import sys
from pathlib import Path
from few_labels.ledger import append_answer
_, path, name, n = sys.argv
for i in range(int(n)):
    append_answer(Path(path), image=f"{name},{i}", label="cat", annotator=name, round=1)
    print(i, flush=True)
"""


def test_processes_append_at_once_and_none_loses_an_answer(ledger: Path) -> None:
    appending = [python(APPEND_MANY, ledger, name, 200) for name in "abcd"]
    for process in appending:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    answers, warnings = read_ledger(ledger)
    assert warnings == []
    assert set(answers.image) == {f"{name},{i}" for name in "abcd" for i in range(200)}
    assert ledger.read_text().count("\n") == 801


def test_a_killed_process_keeps_what_it_acknowledged(ledger: Path) -> None:
    appending = python(APPEND_MANY, ledger, "a", 1_000_000)
    assert appending.stdout is not None
    acknowledged = [int(appending.stdout.readline()) for _ in range(50)]
    appending.send_signal(signal.SIGKILL)
    acknowledged += [int(line) for line in appending.communicate(timeout=60)[0].split()]
    append(ledger, "after.png")
    answers, warnings = read_ledger(ledger)
    assert len(warnings) <= 1
    assert {f"a,{i}" for i in acknowledged} | {"after.png"} <= set(answers.image)


def test_a_full_disk_is_said_and_leaves_whole_lines(ledger: Path) -> None:
    append(ledger)
    whole = ledger.read_bytes()
    limit = len(whole) + 10
    script = f"""
import resource, sys
from pathlib import Path
from few_labels.ledger import append_answer
resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {resource.RLIM_INFINITY}))
try:
    append_answer(Path(sys.argv[1]), image="b.png", label="cat", annotator="ann", round=1)
except OSError as error:
    print(error)
"""
    said, errors = python(script, ledger).communicate(timeout=60)
    assert errors == ""
    assert "too large" in said
    assert str(ledger) in said
    assert ledger.read_bytes() == whole


def test_a_ledger_that_may_not_be_written_is_said(ledger: Path) -> None:
    append(ledger)
    whole = ledger.read_bytes()
    ledger.parent.chmod(0o755)
    ledger.chmod(0o444)
    # Permissions do not hold the superuser back, whom tests in a container run as.
    script = """
import os, sys
from pathlib import Path
from few_labels.ledger import append_answer, read_ledger
os.chdir(sys.argv[1])
print(read_ledger(Path("own.csv"))[0].image)
if os.geteuid() == 0:
    os.seteuid(65534)
append_answer(Path("own.csv"), image="b.png", label="cat", annotator="ann", round=1)
"""
    said, errors = python(script, ledger.parent).communicate(timeout=60)
    assert said == "['a.png']\n"
    assert "PermissionError" in errors
    assert "own.csv" in errors
    assert ledger.read_bytes() == whole


def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "labels").touch()
    with pytest.raises(OSError, match="labels"):
        append(tmp_path / "labels/own.csv")


def answer(**labels: str) -> Answers:
    return Answers(list(labels), list(labels.values()), ["ann"] * len(labels), [1] * len(labels))


def test_answers_get_rows_and_positions() -> None:
    resolved, warnings = resolve(answer(d="dog", a="ant", c="", b="cat"), ["dog", "cat"], ["a", "b", "c", "d", "e"])
    assert warnings == []
    assert resolved.class_names == ["dog", "cat", "ant"]
    assert (resolved.row.tolist(), resolved.row.dtype) == ([0, 1, 2, 3], np.int64)
    assert (resolved.label.tolist(), resolved.label.dtype) == ([2, 1, -1, 0], np.int16)


def test_nothing_answered_is_nothing_known() -> None:
    resolved, warnings = resolve(Answers([], [], [], []), [], [])
    assert (resolved.class_names, resolved.row.tolist(), resolved.label.tolist(), warnings) == ([], [], [], [])
    assert (resolved.row.dtype, resolved.label.dtype) == (np.int64, np.int16)


def test_answers_of_which_something_is_missing_are_not_resolved() -> None:
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        resolve(Answers(["a", "b"], ["cat"], ["ann"], [1]), ["cat"], ["a", "b"])


def test_images_that_are_gone_are_counted_and_their_classes_not_used() -> None:
    resolved, warnings = resolve(answer(x="yak", a="cat", y="dog"), ["cat"], ["a"])
    assert (resolved.class_names, resolved.row.tolist()) == (["cat"], [0])
    assert warnings == ["answers about 2 images that are not in the data set are not used, the first is 'x'"]


@pytest.mark.parametrize("spelling", ["Cat", "CAT", " cat", "cat\u00a0", "Cat "])
def test_a_misspelt_class_is_taken_for_the_known_one(spelling: str) -> None:
    resolved, warnings = resolve(answer(a=spelling, b=spelling, c="cat"), ["dog", "cat"], ["a", "b", "c"])
    assert resolved.class_names == ["dog", "cat"]
    assert resolved.label.tolist() == [1, 1, 1]
    assert warnings == [f"label {spelling!r} is taken for class 'cat'"]


def test_of_new_spellings_the_most_frequent_counts_then_the_first() -> None:
    resolved, warnings = resolve(answer(a="Yak", b="yak", c="yak ", d="EMU", e="emu"), ["cat"], list("abcde"))
    assert resolved.class_names == ["cat", "EMU", "yak"]
    assert resolved.label.tolist() == [2, 2, 2, 1, 1]
    assert len(warnings) == 3


def test_an_accent_is_one_however_it_is_encoded() -> None:
    resolved, _ = resolve(answer(a="cafe\u0301"), ["caf\u00e9"], ["a"])
    assert (resolved.class_names, resolved.label.tolist()) == (["caf\u00e9"], [0])


def test_classes_that_the_data_set_tells_apart_stay_apart() -> None:
    resolved, warnings = resolve(answer(a="Cat", b="cat", c="CAT"), ["cat", "Cat"], ["a", "b", "c"])
    assert resolved.label.tolist() == [1, 0, 0]
    assert len(warnings) == 1


def test_blanks_alone_cannot_tell() -> None:
    resolved, _ = resolve(answer(a="  "), ["cat"], ["a"])
    assert resolved.label.tolist() == [-1]


def test_of_classes_of_one_name_the_first_counts() -> None:
    resolved, warnings = resolve(answer(a="cat", b="dog"), ["dog", "cat", "dog", "cat"], ["a", "b"])
    assert (resolved.label.tolist(), warnings) == ([1, 0], [])


def test_more_classes_than_labels_can_number_are_the_users_to_mend() -> None:
    most = [str(i) for i in range(32_767)]
    assert resolve(answer(a="32766"), most, ["a"])[0].label.tolist() == [32_766]
    with pytest.raises(InputError, match="labels number at most 32767"):
        resolve(answer(a="one more"), [str(i) for i in range(32_767)], ["a"])


def test_the_line_is_on_the_disk_when_the_call_returns(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[os.stat_result] = []
    monkeypatch.setattr("few_labels.ledger.os.fsync", lambda descriptor: synced.append(os.fstat(descriptor)))
    append(ledger)
    assert [result.st_ino for result in synced] == [ledger.stat().st_ino, ledger.parent.stat().st_ino]
    append(ledger)
    assert len(synced) == 3


def decide(path: Path, labels: dict[str, str], decision: str, annotator: str = "ann") -> None:
    append_lines(path, [Line(image, label, annotator, 1, decision) for image, label in labels.items()])


def test_of_each_label_the_lines_that_hold_are_counted_and_the_last_round_is_known(ledger: Path) -> None:
    one, two = "1" * 12, "2" * 12
    write(
        ledger,
        HEADER
        + f"a,cat,ann,3,{one}\nb,cat,ann,3,{one}\nc,cat,ann,1,{two}\ne,cat,ann,1,{two}\nd,dog,ann,2,\n"
        + f"a,,ann,2,-{one}\nb,,ann,2,-{one}\n",
    )
    counted = history(ledger)
    assert counted.n_lines_of == {"cat": 2, "dog": 1}
    assert counted.last_round == 3


def history(path: Path) -> History:
    told, warnings = read_history(path)
    assert warnings == []
    return told


@pytest.mark.parametrize("header", [OLD_HEADER, HEADER])
def test_a_decision_may_answer_for_many_images_and_be_taken_back(ledger: Path, header: str) -> None:
    write(ledger, header + "x.png,yak,ann,1\n")
    first, second = new_decision(), new_decision()
    decide(ledger, {"a.png": "cat", "b.png": "cat"} | {}, first)
    decide(ledger, {"c.png": ""}, f"-{first}")  # taken out before the decision
    decide(ledger, {"b.png": "dog"}, second)
    told = history(ledger)
    assert read_labels(ledger) == {"x.png": "yak", "a.png": "cat", "b.png": "dog"}
    assert told.n_decisions == 4
    assert told.last_decision("ann") == (second, ["b.png"])
    decide(ledger, {"b.png": "cat"}, f"-{second}")
    assert history(ledger).last_decision("ann") == (first, ["a.png", "b.png"])
    assert read_labels(ledger)["b.png"] == "cat"
    decide(ledger, {"a.png": "", "b.png": ""}, f"-{first}")
    told = history(ledger)
    # Taken back, an image is as if nobody had been asked; what it took to get there was decided all the same.
    assert read_labels(ledger) == {"x.png": "yak"}
    assert told.n_decisions == 4
    assert told.label("a.png") is None
    assert told.last_decision("ann") == ("-x.png", ["x.png"])
    decide(ledger, {"x.png": ""}, "-")
    assert history(ledger).last_decision("ann") is None
    assert read_labels(ledger) == {}


def test_only_the_own_last_decision_is_found(ledger: Path) -> None:
    decide(ledger, {"a.png": "cat"}, "0" * 12, "ann")
    decide(ledger, {"a.png": "dog"}, "1" * 12, "bob")
    decide(ledger, {"a.png": "dog"}, f"-{'0' * 12}", "ann")
    told = history(ledger)
    assert told.last_decision("ann") is None
    assert told.label("a.png") == "dog"


def test_annotators_who_differ_are_listed_until_one_answers_again(ledger: Path) -> None:
    for annotator, label in [("ann", "cat"), ("bob", "Cat "), ("eve", ""), ("bob", "dog")]:
        append(ledger, "a.png", label, annotator)
    assert history(ledger).disagreements() == {"a.png": {"ann": "cat", "bob": "dog", "eve": ""}}
    append(ledger, "a.png", "dog", "eve")
    assert history(ledger).disagreements() == {}


def test_what_was_added_since_is_read_alone(ledger: Path) -> None:
    append(ledger, "two\nlines.png")
    _, end, _ = read_lines(ledger)
    append(ledger, "b.png")
    write(ledger, ledger.read_bytes() + b"c.pn")
    lines, end, warnings = read_lines(ledger, end)
    assert [line.image for line in lines] == ["b.png"]
    assert "a line after byte" in warnings[0]
    append(ledger, "d.png")
    assert [line.image for line in read_lines(ledger, end)[0]] == ["d.png"]


def test_lines_of_one_decision_are_written_together_or_not_at_all(ledger: Path) -> None:
    append(ledger)
    whole = ledger.read_bytes()
    with pytest.raises(InputError, match="control character"):
        append_lines(ledger, [Line("b.png", "cat", "ann", 1), Line("c.png", "c\nat", "ann", 1)])
    assert ledger.read_bytes() == whole
