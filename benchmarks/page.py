"""The labelling page on all 60,000 images: from a key to the next image on the screen, in a real browser.

Seconds are the 99th percentile. A key is pressed four times a second, faster than people label for long; the browser
itself takes the time, from the event of the key to the frame after the next image was decoded. In the second case the
next queries are chosen and the classifiers trained meanwhile.
"""

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import yaml
from selenium import webdriver
from selenium.webdriver.common.by import By

from benchmarks.common import PROJECT, Measurement, System
from benchmarks.pipeline import call

N_KEYS = 200
SECONDS_BETWEEN = 0.25
# Whoever presses the key, what was shown then, and what the browser does until the next image is painted.
CLOCK = """
window.waited = [];
document.activeElement.blur();
document.addEventListener('keydown', pressed => {
  const before = document.querySelector('[data-shown]')?.dataset.shown;
  const look = () => {
    const shown = document.querySelector('[data-shown]');
    if (!shown || shown.dataset.shown === before) return requestAnimationFrame(look);
    const images = shown.tagName === 'IMG' ? [shown] : [...shown.querySelectorAll('img')];
    Promise.all(images.map(image => image.decode())).then(() => requestAnimationFrame(() => setTimeout(
      () => window.waited.push(performance.now() - pressed.timeStamp))));
  };
  requestAnimationFrame(look);
}, true);
"""


@contextmanager
def start_labelling(n_queries: int) -> Iterator[Path]:
    """Clone the project with what its stages wrote, in which a person is to answer."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "clone"
        subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(folder)], check=True)
        for part in ("data", "models"):
            shutil.copytree(PROJECT / part, folder / part, dirs_exist_ok=True)
        (folder / ".venv").symlink_to(Path(sys.prefix))
        settings = yaml.safe_load((folder / "params.yaml").read_text())
        settings["select_labels"] |= {"oracle": "person", "n_queries": n_queries}
        (folder / "params.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
        call(folder, "dvc repro --quiet select-labels")
        yield folder


@contextmanager
def serve(folder: Path, *options: str) -> Iterator[str]:
    """Serve the page, and give its address."""
    files = (
        "--data data --own data/own --ledgers labels --metrics metrics/metrics.json --records metrics/learning_curve"
    )
    command = [sys.executable, "-m", "app.label", "--no-show", "--annotator", "Ann", *files.split(), *options]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        try:
            yield next(found[1] for line in process.stdout if (found := re.search(r"label: (http\S+)", line)))
        finally:
            process.terminate()


@contextmanager
def browse(url: str, view: str) -> Iterator[webdriver.Chrome]:
    """Open a view of the page in Chromium, without a window."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,800"):
        options.add_argument(argument)
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver") or ""))
    try:
        driver.get(url)
        wait_for(driver, "window.socket?.connected")
        driver.find_element(By.CSS_SELECTOR, f"[data-act='view:{view}']").click()
        wait_for(driver, f"document.querySelector(`.on[data-act='view:{view}']`)")
        wait_for(driver, "[...document.querySelectorAll('[data-shown], [data-shown] img')].at(-1)?.complete")
        # What a page loads after it is there is no part of an answer.
        time.sleep(2)
        yield driver
    finally:
        driver.quit()


def wait_for(driver: webdriver.Chrome, condition: str) -> None:
    """Wait until an expression of JavaScript holds."""
    while not driver.execute_script(f"return !!({condition})"):
        time.sleep(0.01)


def measure_page(view: str, n_queries: int, *options: str) -> Measurement:
    """Press keys, and time until all that is asked about next is painted."""
    with start_labelling(n_queries) as folder, serve(folder, *options) as url, browse(url, view) as driver:
        driver.execute_script(CLOCK)
        for place in range(N_KEYS):
            start = time.perf_counter()
            driver.switch_to.active_element.send_keys("123"[place % 3])
            wait_for(driver, f"window.waited.length > {place}")
            time.sleep(max(0, start + SECONDS_BETWEEN - time.perf_counter()))
        seconds = np.array(driver.execute_script("return window.waited")) / 1000
    p50, p90, p99 = np.percentile(seconds, (50, 90, 99))
    return Measurement(
        float(p99), f"p50 {1000 * p50:.0f} ms, p90 {1000 * p90:.0f} ms, most {1000 * seconds.max():.0f} ms"
    )


SYSTEMS = [
    System("page", "the next image", partial(measure_page, "query", 400, "--no-train")),
    System("page", "the next cluster", partial(measure_page, "grid", 400, "--no-train")),
    System("page", "the next image, while a round is chosen and trained", partial(measure_page, "query", 100)),
]
