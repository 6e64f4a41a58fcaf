"""What a person types becomes the answers that were meant, and no other; nothing typed or named does any harm."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from app.label import Intent, Query, Session, escape, list_classes, load_queries, main, to_half_blocks
from few_labels.errors import InputError
from few_labels.ledger import append_answer, read_ledger

PROJECT = Path(__file__).parent.parent
NAN = float("nan")


def start(ledger: Path, class_names: Sequence[str], guesses: Sequence[str] = ("", "", "")) -> Session:
    queries = [Query(f"{i}.png", guess, NAN) for i, guess in enumerate(guesses)]
    return Session(queries, class_names, ledger=ledger, annotator="ann", round=1)


@dataclass(frozen=True)
class Files:
    path: Path

    @property
    def ledger(self) -> Path:
        return self.path / "labels/own.csv"

    def options(self) -> dict[str, Path]:
        files = {
            "queries": "queries.csv",
            "dataset": "classes.json",
            "images": "images.npy",
            "names": "names.csv",
            "ledger": "labels/own.csv",
        }
        return {option: self.path / file for option, file in files.items()}

    def command(self, annotator: str = "ann") -> list[str]:
        options = [word for option, file in self.options().items() for word in (f"--{option}", str(file))]
        return [sys.executable, "-m", "app.label", *options, "--annotator", annotator]

    def type(
        self, typed: str | bytes, annotator: str = "ann", status: int = 0, environment: dict[str, str] | None = None
    ) -> str:
        """Run the loop on what is typed; its output has standard error in it."""
        done = subprocess.run(
            self.command(annotator),
            cwd=PROJECT,
            env=os.environ | (environment or {}),
            input=typed.encode() if isinstance(typed, str) else typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=60,
            check=False,
        )
        output = done.stdout.decode()
        assert done.returncode == status, output
        assert "Traceback" not in output
        return output

    def labels(self) -> dict[str, str]:
        answers, warnings = read_ledger(self.ledger)
        assert warnings == []
        return dict(zip(answers.image, answers.label, strict=True))


def lay_out(
    path: Path,
    names: Sequence[str] = ("a.png", "b.png", "c.png", "d.png"),
    asked: Sequence[str] = ("c.png", "a.png", "b.png"),
    guesses: Sequence[str] = ("dog", "", "cat"),
    class_names: Sequence[str] = ("cat", "dog"),
) -> Files:
    classes = {"class_names": class_names, "image_shape": [8, 8, 3], "n_labelled_test_images": 0}
    (path / "classes.json").write_text(json.dumps(classes))
    np.save(path / "images.npy", np.random.default_rng(0).integers(0, 256, (len(names), 8, 8, 3), np.uint8))
    pd.DataFrame({"image": names}).to_csv(path / "names.csv", index=False)
    queries = pd.DataFrame({"image": asked, "cluster": 0, "guess": guesses, "sureness": "", "audit": False})
    queries.loc[queries["guess"] != "", "sureness"] = "0.93"
    queries.to_csv(path / "queries.csv", index=False)
    return Files(path)


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return lay_out(tmp_path)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("cat", (Intent.ANSWER, "cat")),
        ("  Cat ", (Intent.ANSWER, "cat")),
        ("2", (Intent.ANSWER, "dog")),
        ("", (Intent.ANSWER, "dog")),
        ("-", (Intent.ANSWER, "")),
        ("u", (Intent.UNDO, "")),
        ("?", (Intent.HELP, "")),
        ("q", (Intent.STOP, "")),
        (":q", (Intent.STOP, "")),
        ("yak", (Intent.NEW_CLASS, "yak")),
        ("0", (Intent.NEW_CLASS, "0")),
        ("3", (Intent.NEW_CLASS, "3")),
        ("9" * 5000, (Intent.REJECTED, "5000 characters, allowed are 200")),
        ("²", (Intent.NEW_CLASS, "²")),
    ],
)
def test_what_a_line_means(tmp_path: Path, typed: str, meant: tuple[Intent, str]) -> None:
    session = start(tmp_path / "own.csv", ["cat", "dog"], ["dog"])
    assert session.interpret(typed) == meant
    assert not (tmp_path / "own.csv").exists()


def test_a_class_wins_over_a_command_or_number_that_reads_alike(tmp_path: Path) -> None:
    session = start(tmp_path / "own.csv", ["2", "1", "q", "u", "-", "?"])
    assert [session.interpret(typed)[1] for typed in "12qu-?3"] == ["1", "2", "q", "u", "-", "?", "q"]
    assert [session.interpret(f":{typed}")[0] for typed in "qu-?"] == [
        Intent.STOP,
        Intent.UNDO,
        Intent.ANSWER,
        Intent.HELP,
    ]


def test_classes_that_differ_by_case_are_told_apart(tmp_path: Path) -> None:
    session = start(tmp_path / "own.csv", ["cat", "Cat"])
    assert [session.interpret(typed)[1] for typed in ("cat", "Cat", "CAT")] == ["cat", "Cat", "cat"]


@pytest.mark.parametrize("typed", ["", "\x1b[A", "a\tb", "c" * 201, "\udcff", "c\u2028at"])
def test_what_can_be_no_answer_is_rejected_and_said_safely(tmp_path: Path, typed: str) -> None:
    intent, why = start(tmp_path / "own.csv", ["cat"]).interpret(typed)
    assert intent is Intent.REJECTED
    assert why.isprintable()


def test_a_guess_is_a_class_also_where_the_data_set_does_not_name_it(tmp_path: Path) -> None:
    session = start(tmp_path / "own.csv", ["cat"], ["yak", "cat"])
    assert session.class_names == ["cat", "yak"]


def test_an_answer_is_kept_before_the_next_is_asked(tmp_path: Path) -> None:
    session = start(tmp_path / "own.csv", ["cat"])
    session.answer("yak")
    assert read_ledger(tmp_path / "own.csv")[0].label == ["yak"]
    assert session.class_names == ["cat", "yak"]
    query = session.next_query()
    assert query is not None
    assert query.image == "1.png"


def test_an_answer_that_cannot_be_kept_is_asked_for_again(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    session = start(tmp_path / "file/own.csv", ["cat"])
    with pytest.raises(OSError, match="file"):
        session.answer("cat")
    assert session.n_answered == 0


def test_undo_goes_back_to_the_first_and_no_further(tmp_path: Path) -> None:
    session = start(tmp_path / "own.csv", ["cat"])
    session.answer("cat")
    session.answer("cat")
    assert [session.undo() for _ in range(3)] == [True, True, False]
    assert read_ledger(tmp_path / "own.csv")[0].label == ["", ""]
    session.answer("dog")
    answers, _ = read_ledger(tmp_path / "own.csv")
    assert dict(zip(answers.image, answers.label, strict=True)) == {"0.png": "dog", "1.png": ""}


def test_after_the_last_answer_one_can_still_go_back(tmp_path: Path) -> None:
    session = start(tmp_path / "own.csv", ["cat"], [""])
    session.answer("cat")
    assert session.next_query() is None
    assert [session.interpret(typed)[0] for typed in ("", "cat", "u")] == [Intent.STOP, Intent.STOP, Intent.UNDO]


def test_the_queries_are_asked_in_order_and_answered(files: Files) -> None:
    output = files.type("\n1\nno cat\ny\n")
    assert files.labels() == {"c.png": "dog", "a.png": "cat", "b.png": "no cat"}
    assert re.findall(r"(\d of 3): (\S+)", output) == [("1 of 3", "c.png"), ("2 of 3", "a.png"), ("3 of 3", "b.png")]
    assert "Enter for 'dog' (93% sure)" in output
    assert "new class 'no cat'? [y/N]" in output
    assert output.endswith("\n3 answered, 0 left; now: make repro\n")
    assert read_ledger(files.ledger)[0].round == [1, 1, 1]


@pytest.mark.parametrize("end", ["q\n", "", "q"])
def test_one_may_stop_at_any_time_and_go_on_later(files: Files, end: str) -> None:
    assert files.type(f"cat\n{end}").endswith("\n1 answered, 2 left; now: make repro\n")
    output = files.type("dog\n-\n", "bob")
    assert "2 of 3: a.png" in output
    assert "c.png" not in output
    answers, _ = read_ledger(files.ledger)
    assert (answers.label, answers.annotator, answers.round) == (["cat", "dog", ""], ["ann", "bob", "bob"], [1, 2, 2])
    assert files.type("") == "all 3 images are answered; now: make repro\n"


def test_a_typo_makes_no_class(files: Files) -> None:
    output = files.type("cta\nn\ncaat\n\nCAT\nq\n")
    assert files.labels() == {"c.png": "cat"}
    assert output.count("[y/N]") == 2


def test_a_class_that_people_made_is_offered_again(files: Files) -> None:
    append_answer(files.ledger, image="d.png", label="yak", annotator="ann", round=6)
    output = files.type("3\nYAK\n")
    assert "3 yak" in output
    assert files.labels() == {"d.png": "yak", "c.png": "yak", "a.png": "yak"}
    assert max(read_ledger(files.ledger)[0].round) == 7


def test_what_is_undone_does_not_count_also_when_one_stops_there(files: Files) -> None:
    files.type("cat\nu\nq\n")
    assert files.labels() == {"c.png": ""}


def test_what_is_undone_is_asked_again(files: Files) -> None:
    output = files.type("u\ncat\ndog\nu\ncat\ndog\nu\ncat\n\n")
    assert files.labels() == {"c.png": "cat", "a.png": "cat", "b.png": "cat"}
    assert "no answer of this session to undo" in output
    assert output.count("2 of 3") == 2
    assert output.count("3 of 3") == 3


def test_ctrl_c_ends_like_q(files: Files) -> None:
    asking = subprocess.Popen(files.command(), cwd=PROJECT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert asking.stdin is not None
    assert asking.stdout is not None
    asking.stdin.write("cat\n")
    asking.stdin.flush()
    while "2 of 3" not in asking.stdout.readline():
        pass
    asking.send_signal(signal.SIGINT)
    output, _ = asking.communicate(timeout=60)
    assert output.endswith("1 answered, 2 left; now: make repro\n")
    assert asking.returncode == 0
    assert files.labels() == {"c.png": "cat"}


def test_help_explains_the_keys(files: Files) -> None:
    output = files.type("?\n")
    assert all(word in output for word in ["undo", "cannot tell", "wins over", "Ctrl-D"])


def test_hostile_names_reach_the_ledger_whole_and_the_terminal_escaped(tmp_path: Path) -> None:
    names = ["\x1b[2J.png", "a,b\n.png", "\u202egnp.exe", "NA"]
    files = lay_out(tmp_path, names, names, [""] * 4, ["\x1b]0;owned\x07", "cat"])
    output = files.type("cat\n" * 4)
    assert files.labels() == dict.fromkeys(names, "cat")
    assert all(character.isprintable() or character == "\n" for character in output)
    assert r"1 of 4: \x1b[2J.png" in output


@pytest.mark.parametrize("locale", ["C.UTF-8", "POSIX"])
def test_bytes_that_are_no_text_are_asked_for_again(files: Files, locale: str) -> None:
    files.type(b"c\xe9t\n\xff\xfe\ncat\n", environment={"LC_ALL": locale})
    assert files.labels() == {"c.png": "cat"}


def test_a_terminal_that_knows_few_characters_shows_the_others_by_code(tmp_path: Path) -> None:
    files = lay_out(tmp_path, ["猫.png"], ["猫.png"], [""])
    assert r"\u732b.png" in files.type("cat\n", environment={"PYTHONIOENCODING": "latin-1"})
    assert files.labels() == {"猫.png": "cat"}


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("queries.csv", "image,label\nc.png,cat\n", "sureness"),
        ("queries.csv", "image,cluster,guess,sureness,audit\nc.png,0,cat,sure,False\n", "sure"),
        ("queries.csv", "", "not a table of queries"),
        ("queries.csv", "image,cluster,guess,sureness,audit\nz.png,0,,,False\n", "the first is 'z.png'"),
        ("names.csv", "image\na.png\n", "1 names, there are 4 images"),
        ("classes.json", "[]", "not a list of classes"),
        ("images.npy", "", "not an array"),
        ("labels/own.csv", "a.png,cat\n", "a ledger's starts with"),
    ],
)
def test_a_file_that_cannot_be_used_is_the_users_to_mend(files: Files, file: str, content: str, said: str) -> None:
    files.ledger.parent.mkdir()
    (files.path / file).write_text(content)
    with pytest.raises(InputError) as error:
        main(**files.options(), annotator="ann")
    assert file in str(error.value)
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_file_ends_it_in_one_line(files: Files) -> None:
    (files.path / "queries.csv").unlink()
    output = files.type("cat\n", status=2)
    assert output.count("\n") == 1
    assert "queries.csv" in output


def test_an_answer_that_cannot_be_written_ends_it_in_one_line(files: Files) -> None:
    append_answer(files.ledger, image="d.png", label="cat", annotator="ann", round=1)
    size = files.ledger.stat().st_size
    done = subprocess.run(
        ["prlimit", f"--fsize={size + 5}", *files.command()],
        cwd=PROJECT,
        input="cat\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == f"label: [Errno 27] File too large: '{files.ledger}'\n"
    assert files.labels() == {"d.png": "cat"}


def test_a_broken_line_of_the_ledger_is_said_and_asked_again(files: Files) -> None:
    append_answer(files.ledger, image="a.png", label="cat", annotator="ann", round=1)
    with files.ledger.open("a") as ledger:
        ledger.write("c.png,do")
    output = files.type("dog\n")
    assert f"label: {files.ledger}, line 3 is not used" in output
    answers, _ = read_ledger(files.ledger)
    assert dict(zip(answers.image, answers.label, strict=True)) == {"a.png": "cat", "c.png": "dog"}


@pytest.mark.parametrize(("name", "expected"), [("Gitta Name", "Gitta Name"), ("", "logname")])
def test_the_annotator_is_who_git_or_the_system_says(files: Files, name: str, expected: str) -> None:
    git = {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "user.name", "GIT_CONFIG_VALUE_0": name, "LOGNAME": "logname"}
    files.type("cat\n", "", environment=git)
    assert read_ledger(files.ledger)[0].annotator == [expected]


def test_a_picture_is_shown_in_a_terminal_alone(files: Files) -> None:
    assert "▀" not in files.type("q\n")
    master, slave = pty.openpty()
    with subprocess.Popen(files.command(), cwd=PROJECT, stdin=slave, stdout=slave, stderr=slave) as asking:
        os.close(slave)
        os.write(master, b"dog\nq\n")
        output = b""
        try:
            while block := os.read(master, 65_536):
                output += block
        except OSError:
            # A terminal whose last user has gone says so by an error.
            pass
        asking.wait(timeout=60)
    os.close(master)
    assert output.decode().count("▀") == 2 * 8 * 4
    assert files.labels() == {"c.png": "dog"}


@pytest.mark.parametrize(
    ("shape", "n_lines", "n_columns"),
    [
        ((28, 28, 1), 14, 28),
        ((7, 5, 3), 4, 5),
        ((224, 224, 3), 28, 56),
        ((65, 64, 3), 17, 32),
        ((1, 1, 1), 1, 1),
        ((1000, 3, 3), 32, 1),
        ((32, 128, 1), 8, 64),
    ],
)
def test_a_picture_fits(shape: tuple[int, int, int], n_lines: int, n_columns: int) -> None:
    lines = to_half_blocks(np.full(shape, 255, np.uint8), 64).split("\n")
    assert len(lines) == n_lines
    assert {line.count("▀") for line in lines} == {n_columns}
    assert all(line.endswith("\x1b[0m") for line in lines)
    assert set(re.findall(r"\d+;\d+;\d+(?=;48|m)", "".join(lines))) == {"255;255;255"}


def test_a_picture_has_the_colours_of_its_pixels() -> None:
    image = np.array([[[255, 0, 0]], [[0, 0, 255]]], np.uint8)
    assert to_half_blocks(image, 64) == "\x1b[38;2;255;0;0;48;2;0;0;255m▀\x1b[0m"
    grey = np.array([[[10], [20]], [[30], [40]]], np.uint8)
    assert to_half_blocks(grey, 1) == "\x1b[38;2;25;25;25;48;2;35;35;35m▀\x1b[0m"


def test_many_classes_stand_in_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    names = [f"class {i}" for i in range(1, 201)] + ["x" * 200]
    listed = list_classes(names)
    assert all(len(line) <= 80 for line in listed.split("\n"))
    assert len(listed.split("\n")) < 110
    assert all(re.search(rf"\b{i} class {i}\b", listed) for i in range(1, 201))
    assert list_classes([]) == ""


def test_a_number_that_would_mean_another_class_is_not_shown() -> None:
    assert list_classes(["0", "1"]).split() == ["0", "2", "1"]


def test_escaped_text_is_one_printable_line() -> None:
    assert escape("a b é 猫") == "a b é 猫"
    assert escape("\x1b\n\u202e\udcff\x9b").isprintable()


def test_an_image_is_asked_about_once(tmp_path: Path) -> None:
    path = tmp_path / "queries.csv"
    path.write_text("image,cluster,guess,sureness,audit\na,0,cat,0.5,True\nNA,0,,,False\na,0,cat,0.5,True\n")
    queries = load_queries(path)
    assert [query.image for query in queries] == ["a", "NA"]
    assert queries[0] == Query("a", "cat", 0.5)
