"""A person labels on the page: real keys in a real browser, on a real run of the pipeline.

What a page of another site, or another machine, could try is tried by plain HTTP and a plain websocket.
"""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pandas as pd
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from few_labels.ledger import Line, append_answer, read_ledger, read_lines
from tests.conftest import Clone, environment
from tests.datasets import digits, write_folder
from tests.servers import free_port
from tests.test_own_images import PERSON, SMALL, start

N_IMAGES = 400
SETTINGS = SMALL | PERSON | {"select_labels.n_queries": 24, "select_labels.n_audit": 20, "n_clusters": 30}
DRIVER, BROWSER = shutil.which("chromedriver"), shutil.which("chromium")
HOSTILE = "<img src=x onerror='window.harmed=1'>"

needs_browser = pytest.mark.skipif(not (DRIVER and BROWSER), reason="chromium or chromedriver is not installed")


@dataclass(frozen=True)
class Labelling:
    """A project of digits that nobody has labelled, and what they are."""

    clone: Clone
    truth: dict[str, str]

    @property
    def ledger(self) -> Path:
        return self.clone.path / "labels/own.csv"

    def labels(self) -> dict[str, str]:
        answers, warnings = read_ledger(self.ledger)
        assert warnings == []
        return dict(zip(answers.image, answers.label, strict=True))

    def lines(self) -> list[Line]:
        return read_lines(self.ledger)[0]


@dataclass(frozen=True)
class Served:
    """The page of a project, and the process that serves it."""

    url: str
    process: subprocess.Popen[str]

    @property
    def port(self) -> int:
        port = urlsplit(self.url).port
        assert port
        return port


@contextmanager
def serving(project: Labelling, *options: str, program: tuple[str, str] = ("-m", "app.label")) -> Iterator[Served]:
    files = {
        "data": "data",
        "own": "data/own",
        "ledgers": "labels",
        "metrics": "metrics/metrics.json",
        "records": "metrics/learning_curve",
    }
    process = subprocess.Popen(
        [
            *(sys.executable, *program, "--no-show", "--annotator", "Ann"),
            *(word for option, file in files.items() for word in (f"--{option}", file)),
            # Pages that start beside each other would all look for the usual one at once.
            *("--port", str(free_port())),
            *options,
        ],
        cwd=project.clone.path,
        # In a test, NiceGUI would take itself for one that is tested.
        env={name: value for name, value in environment().items() if "PYTEST" not in name},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield Served(read_address(process), process)
    finally:
        process.terminate()
        process.wait(10)


def read_address(process: subprocess.Popen[str]) -> str:
    """Wait for the page to say where it is."""
    return read_until_address(process)[1]


def read_until_address(process: subprocess.Popen[str]) -> tuple[list[str], str]:
    """Give the lines that are said until the page says where it is, and where."""
    assert process.stdout
    said = []
    for line in process.stdout:
        said.append(line.rstrip())
        if found := re.search(r"label: (http\S+)", line):
            return said, found[1]
    raise AssertionError("\n".join(said))


class Person:
    """Someone before a browser."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def find(self, css: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, css)

    def all(self, css: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, css)

    def text(self, css: str) -> str:
        return str(self.driver.execute_script("return document.querySelector(arguments[0])?.innerText ?? ''", css))

    def wait(self, condition: Callable[[], object], seconds: float = 40) -> None:
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.text("body")
            time.sleep(0.01)

    def open(self, url: str, view: str = "query") -> None:
        """Open the page, on one of its views; empty for the one it opens on."""
        self.driver.get(url)
        self.wait(lambda: self.driver.execute_script("return !!window.socket?.connected"))
        if view:
            self.click(f"view:{view}")
            self.wait(lambda: self.is_on(view) and (self.shown() or self.text(".empty")))

    def is_on(self, view: str) -> bool:
        return bool(self.all(f".on[data-act='view:{view}']"))

    def shown(self) -> str:
        """Give what is on the screen, once it is there."""
        script = (
            "const e = document.querySelector('[data-shown]');"
            "return e && (e.tagName !== 'IMG' || (e.complete && e.naturalWidth)) ? e.dataset.shown : ''"
        )
        return str(self.driver.execute_script(script))

    def image(self) -> str:
        self.wait(self.shown)
        return self.text(".file")

    def press(self, key: str) -> None:
        self.driver.switch_to.active_element.send_keys(key)

    def press_and_see(self, key: str) -> None:
        """Press a key, and wait for the next image."""
        before = self.shown()
        self.press(key)
        self.wait(lambda: self.shown() != before)

    def type_class(self, name: str) -> None:
        before = self.shown()
        self.press("/")
        self.wait(lambda: self.driver.switch_to.active_element.tag_name == "input")
        self.press(name + Keys.ENTER)
        # A key that comes before the next image is seen, or goes into the field, is none.
        self.wait(lambda: self.shown() not in ("", before))
        self.wait(lambda: self.driver.switch_to.active_element.tag_name != "input")

    def classes(self) -> dict[str, str]:
        """Give the key of each class."""
        script = (
            "return [...document.querySelectorAll('[data-act^=\"label:\"]')]"
            ".map(e => [e.dataset.act.slice(6), e.querySelector('kbd').innerText])"
        )
        return dict(self.driver.execute_script(script))

    def answer(self, label: str) -> None:
        key = self.classes().get(label)
        if key:
            self.press_and_see(key)
        else:
            self.type_class(label)

    def click(self, act: str) -> None:
        self.wait(lambda: self.all(f"[data-act='{act}']"))
        self.find(f"[data-act='{act}']").click()


@contextmanager
def browsing(width: int = 1280, height: int = 800) -> Iterator[Person]:
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", f"--window-size={width},{height}"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER or ""))
    try:
        yield Person(driver)
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Labelling:
    """The project, with its first queries chosen. Tests work on copies of it."""
    clone = start(tmp_path_factory.mktemp("page") / "clone", SETTINGS)
    truth = write_folder(clone.path / "data/own", "train", *digits(slice(N_IMAGES)), flat=True)
    clone.dvc("repro", "select-labels")
    return Labelling(clone, truth)


@pytest.fixture
def project(asked: Labelling, tmp_path: Path) -> Labelling:
    return Labelling(asked.clone.copy_to(tmp_path / "clone"), asked.truth)


def test_a_round_mends_what_an_ended_training_left_of_dvc(project: Labelling) -> None:
    (project.clone.path / ".dvc/tmp/rwlock").write_text("")
    paths = (
        "--data data --metrics metrics/metrics.json --ledger labels/own.csv --records metrics/learning_curve/own.jsonl"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "app.rounds", *paths.split(), "--no-train"],
        cwd=project.clone.path,
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stdout
        said = process.stdout.read().splitlines()
    assert process.returncode == 0, said
    assert said[0] == "choosing"
    assert "check: .dvc/tmp/rwlock was broken, as an interrupt leaves it" in said[1]
    assert said[-1] == "chosen"


@needs_browser
def test_the_whole_story(project: Labelling) -> None:
    truth, wrong = project.truth, dict[str, str]()
    with browsing() as person:
        with serving(project) as page:
            person.open(page.url)
            assert person.classes() == {}
            person.wait(lambda: person.driver.switch_to.active_element.tag_name == "input")
            first = person.image()
            person.press(truth[first] + Keys.ENTER)
            person.wait(lambda: person.image() != first)
            assert project.labels() == {first: truth[first]}

            # Each answer is in the file when the next image shows.
            while len(project.labels()) < 60:
                person.wait(lambda: person.shown() or not person.text(".empty"))
                if not person.shown():
                    continue
                image = person.image()
                label = truth[image]
                if len(project.labels()) in (20, 30, 40) and len(person.classes()) > 2:
                    # Slips, to be found later.
                    label = wrong[image] = next(name for name in person.classes() if name != truth[image])
                person.answer(label)
                assert project.labels()[image] == label
            assert max(line.round for line in project.lines()) >= 2

            # Two steps back, and forth again; then one that nobody can tell.
            last, before = project.lines()[-1].image, project.lines()[-2].image
            person.press_and_see(Keys.BACKSPACE)
            assert person.image() == last
            person.press_and_see(Keys.BACKSPACE)
            assert person.image() == before
            assert {last, before}.isdisjoint(project.labels())
            person.answer(truth[before])
            person.answer(truth[last])
            skipped = person.image()
            person.press_and_see(" ")
            assert project.labels()[skipped] == ""
            n_labels = len(project.labels())
            os.kill(page.process.pid, signal.SIGKILL)
            page.process.wait()

        # As make label begins: what is missing is made, whatever the kill left undone.
        project.clone.sh("make mended")
        project.clone.dvc("repro", "select-labels")
        with serving(project) as page:
            person.open(page.url)
            assert len(project.labels()) == n_labels
            person.press_and_see(Keys.BACKSPACE)
            assert person.image() == skipped
            assert skipped not in project.labels()
            person.answer(truth[skipped])

            # A cluster: what does not belong is taken out by click or by arrows and x, and one key labels the rest.
            person.click("view:grid")
            person.wait(lambda: person.all(".cell"))
            rows = [cell.get_attribute("data-act") or "" for cell in person.all(".cell")]
            names = pd.read_csv(project.clone.path / "data/train_names.csv")["image"]
            members = [names[int(row.removeprefix("toggle:"))] for row in rows]
            assert set(members).isdisjoint(pd.read_csv(project.clone.path / "data/audit_images.csv")["image"])
            label = pd.Series(truth)[members].mode()[0]
            out = [member for member in members if truth[member] != label] or [members[-1]]
            person.click(rows[members.index(out[0])])
            for member in out[1:]:
                for _ in range(len(members)):
                    person.press(Keys.ARROW_RIGHT)
                    if person.find(".cell[data-cursor]").get_attribute("data-act") == rows[members.index(member)]:
                        break
                person.press("x")
            person.wait(lambda: len(person.all(".cell.out")) == len(out))
            n_lines = len(project.lines())
            person.press_and_see(person.classes()[label])
            new = project.lines()[n_lines:]
            kept = [member for member in members if member not in out]
            assert [line.image for line in new if line.decision[0] != "-"] == kept
            assert [line.image for line in new if line.decision[0] == "-"] == [m for m in members if m in out]
            assert len({line.decision.removeprefix("-") for line in new}) == 1
            assert {project.labels()[member] for member in kept} == {label}
            person.press_and_see(Keys.BACKSPACE)
            assert set(kept).isdisjoint(project.labels())
            assert len(person.all(".cell")) == len(members)

            # The model finds slips; one key each mends them.
            person.click("view:standing")
            person.click("round")
            suspects = project.clone.path / "data/suspects.csv"
            person.wait(lambda: "training" in person.text(".status"), 60)
            person.wait(lambda: "training" not in person.text(".status"), 60)
            assert "failed" not in person.text(".status")
            assert set(pd.read_csv(suspects)["image"]) & set(wrong)
            assert re.search(r"Accuracy\s+\d+\.\d %\s+\d+\.\d to \d+\.\d %, on \d+ audit", person.text(".cards"))
            assert "Bloodgood" in person.text(".advice")
            assert person.all("canvas")
            person.click("view:review")
            while True:
                person.wait(lambda: person.shown() or person.text(".empty"))
                if not (before := person.shown()):
                    break
                image = person.image()
                person.press(
                    Keys.ARROW_RIGHT if truth[image] == project.labels()[image] else person.classes()[truth[image]]
                )
                person.wait(lambda before=before: person.shown() not in {before, ""} or person.text(".empty"))  # type: ignore[misc]
                assert project.labels()[image] == truth[image]
            assert "No label is in doubt" in person.text(".empty")
            outside = person.driver.execute_script(
                "return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.startsWith(origin))"
            )
            assert outside == []

    said = project.clone.sh("make repro")
    assert "select-labels" in said
    bought, audited = (len(pd.read_csv(project.clone.path / f"data/{file}_labels.csv")) for file in ("bought", "audit"))
    assert bought + audited == sum(bool(label) for label in project.labels().values())
    assert project.clone.repro() == []
    write_folder(project.clone.path, "new", digits(slice(1000, 1010))[0], range(10), flat=True)
    project.clone.sh("make predict IMAGES=new")
    assert len(pd.read_csv(project.clone.path / "predictions.csv")) == 10


@needs_browser
def test_it_asks_about_each_cluster_once_and_goes_on_one_by_one(project: Labelling) -> None:
    with serving(project, "--no-train") as page, browsing() as person:
        person.open(page.url, view="")
        person.wait(lambda: person.all(".cell"))
        assert person.is_on("grid")
        # No class is there, and yet the arrows move: nothing waits for one to be typed.
        person.press(Keys.ARROW_RIGHT)
        person.wait(lambda: person.all(".cell[data-cursor]"))
        asked = set[int]()
        while person.is_on("grid"):
            asked.add(int(person.text(".what").split()[1]))
            person.find(".cell").click()
            person.wait(lambda: person.all(".cell.out"))
            person.answer("a")
            person.wait(lambda: person.shown() or not person.is_on("grid"))
        assert len(asked) > 20
        n_labels = len(project.labels())
        assert len({line.decision.removeprefix("-") for line in project.lines()}) == len(asked)
        person.image()

        # Undo goes back to the clusters; to choose a view by hand is to stay there.
        person.press(Keys.BACKSPACE)
        person.wait(lambda: person.all(".cell"))
        assert len(project.labels()) < n_labels
        person.answer("a")
        person.wait(lambda: person.is_on("query"))
        person.click("view:grid")
        person.wait(lambda: person.all(".cell"))
        assert person.is_on("grid")

    project.clone.dvc("repro", "select-labels")
    with serving(project, "--no-train") as page, browsing() as person:
        person.open(page.url, view="")
        person.image()
        assert person.is_on("query")


@needs_browser
@pytest.mark.parametrize("view", ["query", "grid"])
def test_what_is_asked_next_is_there_before_it_is_asked(asked: Labelling, tmp_path: Path, view: str) -> None:
    project = Labelling(asked.clone.copy_to(tmp_path / "clone"), asked.truth)

    def urls(script: str) -> set[str]:
        return set(person.driver.execute_script(f"return {script}"))

    with serving(project, "--no-train") as page, browsing() as person:
        person.open(page.url, view)
        person.wait(person.shown)
        person.type_class("a")
        shown = set[str]()
        for _ in range(3):
            # What was fetched ahead of this one is on the screen by now, and the next is on its way.
            person.wait(lambda: person.driver.execute_script("return ahead.length && ahead.every(e => e.complete)"))
            person.wait(lambda shown=shown: urls("[ahead[0].src]").isdisjoint(shown))  # type: ignore[misc]
            person.wait(lambda: person.driver.execute_script("return ahead.every(e => e.complete)"))
            loaded = urls("performance.getEntriesByType('resource').map(e => e.name)")
            person.press_and_see("1")
            shown = urls("[...document.querySelectorAll('.left img:not(.hidden)')].map(e => e.src)")
            assert shown
            assert shown <= loaded


@needs_browser
def test_where_the_data_set_answers_nobody_is_asked(asked: Labelling, tmp_path: Path) -> None:
    project = Labelling(asked.clone.copy_to(tmp_path / "clone"), asked.truth)
    project.clone.set_params({"select_labels.oracle": "dataset"})
    with serving(project, "--no-train") as page, browsing() as person:
        person.open(page.url, view="grid")
        person.wait(lambda: "select_labels.oracle is person" in person.text(".empty"))
        assert not person.all(".cell")


@needs_browser
def test_two_people_two_tabs_and_one_who_writes_to_the_file(project: Labelling) -> None:
    with serving(project, "--no-train") as page, browsing() as person:
        person.open(page.url)
        ann_tab, ann = person.driver.current_window_handle, person.image()
        person.driver.switch_to.new_window("tab")
        person.open(f"{page.url}?name=Bob")
        bob = person.image()
        assert bob != ann
        # The field waits for a first class, whether or not the key that leads there is pressed.
        person.wait(lambda: person.driver.switch_to.active_element.tag_name == "input")
        person.press("/")
        # Until its image is there, it stays in the field.
        shown = person.find("[data-shown]")
        hide = "Object.defineProperty(arguments[0], 'complete', { value: false, configurable: true })"
        person.driver.execute_script(hide, shown)
        person.press("cat" + Keys.ENTER)
        assert person.driver.switch_to.active_element.get_attribute("value") == "cat"
        person.driver.execute_script("delete arguments[0].complete", shown)
        # The page may ask for a first class when one has been typed already.
        typed_then_asked = (
            "const enter = new KeyboardEvent('keydown', { key: 'Enter', bubbles: true });"
            "document.querySelector('.typed input').dispatchEvent(enter);"
            "awaitFirstClass();"
            "return document.activeElement.tagName"
        )
        assert person.driver.execute_script(typed_then_asked) != "INPUT"
        person.driver.switch_to.window(ann_tab)
        person.wait(lambda: "cat" in person.classes())
        person.press(Keys.ESCAPE)  # without a class, the page waits for one to be typed
        person.press_and_see(person.classes()["cat"])
        person.type_class("Dog")
        assert [(line.image, line.label, line.annotator) for line in project.lines()[:2]] == [
            (bob, "cat", "Bob"),
            (ann, "cat", "Ann"),
        ]
        # Undo takes back one's own answer, not the other's that came later.
        append_answer(project.ledger, image=bob, label="dog", annotator="Ann", round=1)
        append_answer(project.ledger, image=ann, label="yak", annotator="Eve", round=1)
        person.wait(lambda: "yak" in person.classes())
        person.click("view:review")
        person.wait(lambda: "2 labels" in person.text(".what"))
        assert {person.image(), *project.labels()} == set(project.labels())
        assert re.search("Bob says cat|Eve says yak", person.text(".guess"))
        person.press_and_see(Keys.ARROW_RIGHT)
        person.press(Keys.ENTER)
        person.wait(lambda: person.text(".empty"))
        answers, _ = read_ledger(project.ledger)
        assert dict(zip(answers.image, answers.label, strict=True)) | {bob: "", ann: ""} == {
            **project.labels(),
            bob: "",
            ann: "",
        }
        assert len(project.lines()) == 7


@needs_browser
def test_an_answer_that_cannot_be_written_is_said_and_kept(project: Labelling) -> None:
    with serving(project, "--no-train") as page, browsing() as person:
        person.open(page.url)
        person.type_class("cat")
        image, whole = person.image(), project.ledger.read_bytes()
        # The disk is full for this process, as far as it can tell.
        _, most = resource.prlimit(page.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(page.process.pid, resource.RLIMIT_FSIZE, (len(whole) + 3, most))
        person.press("1")
        person.wait(lambda: "too large" in person.text(".trouble"))
        person.press("1")
        time.sleep(1)
        assert person.image() == image
        assert project.ledger.read_bytes() == whole
        resource.prlimit(page.process.pid, resource.RLIMIT_FSIZE, (most, most))
        person.wait(lambda: person.image() != image)
        assert project.labels()[image] == "cat"
        assert len(project.lines()) == 2
        assert not person.find(".trouble").is_displayed()


@needs_browser
def test_names_are_text(tmp_path: Path, asked: Labelling) -> None:
    clone = asked.clone.copy_to(tmp_path / "clone")
    images = clone.path / "data/own/train"
    for place, image in enumerate(sorted(images.iterdir())[:200]):
        image.rename(images / f"{place} {HOSTILE.replace('/', '')}.png")
    clone.dvc("repro", "select-labels")
    project = Labelling(clone, {})
    with serving(project, "--no-train") as page, browsing() as person:
        person.open(f"{page.url}?name={HOSTILE}")
        person.type_class(HOSTILE)
        assert list(person.classes()) == [HOSTILE]
        person.wait(lambda: HOSTILE in person.text(".choice"))
        for view in ("grid", "review", "standing", "query"):
            person.click(f"view:{view}")
            person.wait(lambda view=view: person.is_on(view))  # type: ignore[misc]
            time.sleep(0.3)
            assert person.driver.execute_script("return window.harmed") is None
        while HOSTILE not in person.image():
            person.press_and_see("1")
        assert {line.annotator for line in project.lines()} == {HOSTILE}


def test_make_label_asks_for_what_is_missing_and_serves_the_page(project: Labelling) -> None:
    (project.clone.path / "data/queries.csv").unlink()
    project.ledger.write_text("image,label,annotator,round\n" + "no answer\n" * 50)
    process = project.clone.start("make label", LABEL="--no-show --annotator Ann")
    try:
        said, address = read_until_address(process)
        own = [line for line in said if line.startswith("label: ")]
        assert len(own) == 2
        assert re.match(r"label: lines of the ledger that are not used: 50; the first: labels/own.csv, line 2 ", own[0])
        assert httpx.get(address).status_code == 200
        assert (project.clone.path / "data/queries.csv").exists()
    finally:
        # As Ctrl-C does, to make and all that it started.
        os.killpg(process.pid, signal.SIGINT)
        process.wait(20)


@pytest.fixture(scope="module")
def page(asked: Labelling, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    clone = asked.clone.copy_to(tmp_path_factory.mktemp("served") / "clone")
    secret = clone.path.parent / "secret.png"
    Image.new("RGB", (600, 600), "red").save(secret)
    photo = clone.path / "data/own/train/00000.png"
    photo.unlink()
    photo.symlink_to(secret)
    with serving(Labelling(clone, {}), "--no-train") as served:
        yield served


SOCKET = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"


def refusal(url: str, origin: str | None = None, **headers: str) -> int:
    """Give the status with which a websocket is refused, 101 where it is not."""
    named = headers | ({"Origin": origin} if origin else {})
    try:
        with connect(url.replace("http", "ws", 1), additional_headers=named):
            return 101
    except InvalidStatus as error:
        return error.response.status_code


def test_the_address_is_answered_when_it_is_said(asked: Labelling, tmp_path: Path) -> None:
    # As on a machine with so much else to do that a second passes before the server listens.
    late = """
        import asyncio, runpy
        from uvicorn.lifespan.on import LifespanOn
        begin = LifespanOn.startup
        async def startup(lifespan):
            await begin(lifespan)
            await asyncio.sleep(1)
        LifespanOn.startup = startup
        runpy.run_module("app.label", run_name="__main__")
    """
    project = Labelling(asked.clone.copy_to(tmp_path / "clone"), {})
    with serving(project, "--no-train", program=("-c", textwrap.dedent(late))) as page:
        assert httpx.get(page.url).status_code == 200


def test_it_listens_on_this_machine_alone(page: Served) -> None:
    # Of the addresses of this machine, which all of 127.* are, one alone is answered.
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.2:{page.port}")


def test_a_page_of_another_site_cannot_send_answers(page: Served) -> None:
    own = f"http://127.0.0.1:{page.port}"
    socket = own + SOCKET
    assert refusal(socket, origin=own) == 101
    for origin in (
        "http://evil.example",
        f"http://127.0.0.1:{page.port + 1}",
        "null",
        f"http://127.0.0.1.evil:{page.port}",
    ):
        assert refusal(socket, origin=origin) == 403
    assert refusal(socket) == 403
    polling = own + SOCKET.replace("websocket", "polling")
    assert httpx.get(polling, headers={"Origin": "http://evil.example"}).status_code == 403
    assert httpx.post(polling, headers={"Origin": "http://evil.example"}).status_code == 403
    assert httpx.post(polling).status_code == 403
    allowed = httpx.get(polling, headers={"Origin": own})
    assert allowed.status_code == 200
    assert "access-control-allow-origin" not in allowed.headers
    assert httpx.get(f"{own}/image/large/1", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403


def test_no_other_name_of_this_machine_and_no_frame(page: Served) -> None:
    assert httpx.get(page.url, headers={"Host": f"evil.example:{page.port}"}).status_code == 403
    answer = httpx.get(page.url)
    assert answer.status_code == 200
    assert answer.headers["x-frame-options"] == "DENY"
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert "http://" not in re.sub(r"http://www\.w3\.org", "", answer.text)
    assert "https://" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "/image/large/-1",
        f"/image/large/{N_IMAGES}",
        "/image/large/train",
        "/image/other/1",
        "/image/large/..%2f..%2fparams.yaml",
        "/image/large/../../params.yaml",
        "/params.yaml",
        "/labels/own.csv",
        "/_nicegui/../params.yaml",
    ],
)
def test_nothing_else_is_served(page: Served, path: str) -> None:
    answer = httpx.get(f"{page.url.rstrip('/')}{path}")
    assert answer.status_code in {403, 404, 422}
    assert "select_labels" not in answer.text


def test_a_link_that_leads_out_of_the_folder_is_not_followed(page: Served, tmp_path: Path) -> None:
    names = [f"{page.url}image/large/{row}" for row in (0, 1)]
    for address in names:
        (tmp_path / "image").write_bytes(httpx.get(address).content)
        with Image.open(tmp_path / "image") as image:
            # The digit of the pipeline, not the red picture.
            assert image.mode == "L"


def test_from_elsewhere_it_takes_a_token(asked: Labelling) -> None:
    with serving(asked, "--no-train", "--host", "0.0.0.0") as served:
        own = f"http://127.0.0.1:{served.port}"
        token = urlsplit(served.url).query
        assert httpx.get(f"http://127.0.0.2:{served.port}").status_code == 403
        assert len(token) > 20
        for address in (own, f"{own}/?token=wrong", f"{own}/image/large/1"):
            assert httpx.get(address).status_code == 403
        assert refusal(own + SOCKET, origin=own) == 403
        with httpx.Client() as browser:
            entered = browser.get(f"{own}//evil.example/?{token}&name=Bob")
            assert entered.headers["location"] == "/evil.example/?name=Bob"
            assert "HttpOnly" in entered.headers["set-cookie"]
            assert "SameSite=strict" in entered.headers["set-cookie"]
            assert browser.get(f"{own}/image/large/1").status_code == 200
            cookie = entered.headers["set-cookie"].split(";")[0]
        assert refusal(own + SOCKET, origin=own, Cookie=cookie) == 101
        assert refusal(own + SOCKET, origin=own, Cookie=f"{cookie}a") == 403
        assert refusal(own + SOCKET, origin="http://evil.example", Cookie=cookie) == 403
