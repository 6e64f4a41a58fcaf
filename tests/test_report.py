"""The page that tells of a run needs nothing else, fits any screen, shows names as text, and compares revisions."""

import re
from itertools import product

import pandas as pd
import pytest

from app.standing import Point
from few_labels.errors import InputError
from tests.conftest import Clone
from tests.test_page import browsing
from tools.pr_report import count_confusions
from tools.report import Result, grade_classes, list_confusions, read_result, render

ANSWERS = pd.DataFrame({"actual": ["a", "a", "b", "b"], "predicted": ["a", "b", "b", "b"]})


def result(name: str = "the working tree", **tables: pd.DataFrame) -> Result:
    return Result(name, {"commit": "abc"}, {"nn.accuracy": 0.75}, {"seed": 42}, tables, {})


def test_the_page_of_a_run_and_its_comparison_are_whole_in_a_browser(clone: Clone) -> None:
    clone.set_params({"percentile": 60})
    clone.repro()
    assert "wrote report.html" in clone.sh("make report")
    assert 'tr class="moved"' not in (clone.path / "report.html").read_text()
    assert "wrote report.html" in clone.sh("make report BASE=main")
    page = clone.path / "report.html"
    text = page.read_text()
    assert re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?!data:|#)[^"')>]+""", text) == []
    assert "<script" not in text
    with browsing() as person:
        driver = person.driver
        for width, scheme in product((1280, 400), ("light", "dark")):
            media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
            driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
            screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
            driver.get(page.as_uri())
            wide = "return document.documentElement.scrollWidth <= document.documentElement.clientWidth"
            assert driver.execute_script(wide)  # nothing to scroll to the side
            shade = driver.execute_script("return getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, re.findall(r"\d+", shade))) > 380) == (scheme == "light")
            words = driver.execute_script("return getComputedStyle(document.querySelector('svg text')).fill")
            assert words == driver.execute_script("return getComputedStyle(document.body).color")
            assert driver.execute_script("return [...document.images].map(image => image.naturalWidth > 0)") == 6 * [
                True
            ]
            assert driver.execute_script("return performance.getEntriesByType('resource').length") == 0
            moved = [row.text.split() for row in person.all("tr.moved")]
            assert ["percentile", "60", "25"] in moved
            assert not any(row[0] == "seed" for row in moved)


def test_a_run_of_photos_that_nothing_grades_is_told() -> None:
    assert "Nothing is graded" in render([result()], [])


def test_a_name_is_text_whatever_a_folder_is_called() -> None:
    odd = "<img src=x onerror=alert(1)> $x_1$ & co"
    answers = ANSWERS.replace("a", odd)
    trust = pd.DataFrame({"n": [4], "confidence": [0.9], "accuracy": [0.75]})
    page = render([result(odd, nn_confusion=answers, nn_reliability=trust)], [])
    assert "<img src=x" not in page
    assert page.count("&lt;img src=x") >= 3


def test_classes_come_weakest_first_with_their_intervals() -> None:
    table = grade_classes(ANSWERS)
    assert table.index.tolist() == ["a", "b"]
    assert table["accuracy"].tolist() == [0.5, 1]
    assert (table["low"] < table["accuracy"]).all()
    assert list_confusions(count_confusions(ANSWERS, ["a", "b"])) == [("a", "b", 1)]


def test_of_many_classes_the_weakest_are_drawn_and_no_matrix() -> None:
    names = [f"class {number:03}" for number in range(200)]
    answers = pd.DataFrame({"actual": names, "predicted": names[1:] + names[:1]})
    page = render([result(nn_confusion=answers)], [])
    assert "matrix" not in page[page.index("<body") :]
    assert "the weakest 30 classes" in page


def test_the_learning_curve_is_that_of_people_s_labels() -> None:
    page = render([result()], [Point(20, 20, 0.5, 0.4, 0.6, 100), Point(40, 30, 0.7, 0.6, 0.8, 100)])
    assert "labels given by people" in page
    assert "labels given by people" not in render([result()], [])


def test_the_same_run_is_the_same_page() -> None:
    assert render([result(nn_confusion=ANSWERS)], []) == render([result(nn_confusion=ANSWERS)], [])


def test_without_metrics_there_is_nothing_to_tell_of() -> None:
    with pytest.raises(InputError, match=r"that has no metrics/metrics\.json"):
        read_result("that", lambda path: b"", {})
