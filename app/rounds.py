"""A round in the background: choose the next images from the answers so far, and train on them, by the real dvc.

People go on answering meanwhile. DVC notes the hash of a dependency after a stage ran, and so would note answers that
the stage never saw; ``make repro`` would take them for known then, and leave them out. So this run of ``select-labels``
is put neither into ``dvc.lock`` nor into DVC's cache of runs, and ``make repro`` runs it once more, in seconds. What
comes after it depends on files that nobody changes, and is kept.

It is a process of its own, which says in lines what it does, and ends with the page: when nobody holds the other end
of its standard input any more.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import numpy as np
from dvc.utils.serialize import modify_yaml
from numpy.typing import NDArray
from typer import Option

from app.standing import record_training, to_json
from few_labels.artifacts import (
    load_classes,
    load_images,
    load_index,
    load_labelled,
    load_names,
    load_scores,
    replacing,
)
from few_labels.calibration import apply_temperature, average
from few_labels.ledger import read_history
from stages import run

LOCK = Path("dvc.lock")
# DVC's list of the files that its commands use.
RWLOCK = Path(".dvc/tmp/rwlock")
CALIBRATION = Path("models/nn_calibration.json")
SELECT = "select-labels"
FEATURES = "featurize"
LEARNING = ["refine", "propagate", "train-logreg", "train-nn", "evaluate"]
LEAST_CLASSES = 2


def main(
    data: Annotated[Path, Option(help="the folder of the stages' files")],
    metrics: Annotated[Path, Option()],
    ledger: Annotated[Path, Option()],
    records: Annotated[Path, Option(help="where what each training answered is kept")],
    train: Annotated[bool, Option(help="train as well, where there are two classes")] = True,
) -> None:
    # The signal that ends the commands it runs is not to end this process before it has put dvc.lock right.
    signal.signal(signal.SIGTERM, lambda *_: None)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    history, _ = read_history(ledger)
    print("choosing", flush=True)
    mend_interrupted()
    try:
        call_dvc("repro", "--no-commit", SELECT)
    finally:
        forget(SELECT)
    print("chosen", flush=True)
    names = load_names(data / "train_names.csv", len(load_images(data / "train_images.npy")))
    classes = load_classes(data / "classes.json")
    bought = load_labelled(data / "bought_labels.csv", len(names), len(classes.class_names))
    if not train or len(np.unique(bought.label)) < LEAST_CLASSES:
        return
    print("training", flush=True)
    call_dvc("repro", FEATURES)
    call_dvc("repro", "--single-item", *LEARNING)
    by_network, by_logreg = (
        load_scores(data / f"{classifier}_pool_scores.npy", len(names), len(classes.class_names))
        for classifier in ("nn", "logreg")
    )
    graded = json.loads(metrics.read_text())
    model = graded.get("answer", "nn")
    temperature = json.loads(CALIBRATION.read_text())["temperature"]
    record = record_training(
        names,
        classes.class_names,
        load_index(data / "audit_images.csv", len(names)),
        answer(model, by_network, by_logreg, temperature),
        by_logreg,
        n_labels=len(bought.index),
        n_decisions=history.n_decisions,
        test_accuracy=graded[model]["accuracy"],
        n_test=classes.n_labelled_test_images,
    )
    records.parent.mkdir(parents=True, exist_ok=True)
    with records.open("a", encoding="utf-8") as file:
        file.write(json.dumps(to_json(record), ensure_ascii=False) + "\n")
    print("trained", flush=True)


def answer(
    model: str, by_network: NDArray[np.float32], by_logreg: NDArray[np.float32], temperature: float
) -> NDArray[np.float32]:
    """Score images as the classifier that answers does: ``nn``, ``logreg``, or ``mean`` of both.

    Parameters
    ----------
    model : str
    by_network, by_logreg : ndarray of shape (n_images, n_classes), float32, in 0-1
    temperature : float
        Of the network's probabilities.

    Returns
    -------
    ndarray of shape (n_images, n_classes), float32, in 0-1
    """
    if model == "logreg":
        return by_logreg
    calibrated = apply_temperature(by_network, temperature)
    return calibrated if model == "nn" else average(by_logreg, calibrated)


def mend_interrupted() -> None:
    """Have DVC's list of files in use mended where a training that was ended for this round left half of it."""
    with suppress(FileNotFoundError):
        try:
            json.loads(RWLOCK.read_text(encoding="utf-8"))
        except ValueError:
            # Where it cannot be, dvc says so next.
            subprocess.run([sys.executable, "-m", "tools.check", "--mend"], stdin=subprocess.DEVNULL, check=False)


def call_dvc(*arguments: str) -> None:
    """Run dvc beside this interpreter; where it fails, put back its lock file and end with its last line."""
    before = LOCK.read_bytes() if LOCK.exists() else None
    # The stages run on this interpreter as well, whether or not its environment is the active one.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *arguments],
        env=os.environ | {"PATH": path, "DVC_NO_ANALYTICS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        if before is not None:
            # What was ended may have been writing it, and half a lock file stops every later run.
            with replacing(LOCK) as temporary:
                temporary.write_bytes(before)
        lines = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        # A stage says in one line what is wrong; dvc adds that it failed.
        told = [line for line in lines if not line.startswith(("ERROR: failed", "Running stage", ">"))]
        print(f"failed: {(told or lines or ['dvc gave no reason'])[-1]}", flush=True)
        raise SystemExit(1)


def forget(stage: str) -> None:
    """Take a stage out of ``dvc.lock``, so that the next ``dvc repro`` runs it."""
    if LOCK.exists():
        with replacing(LOCK) as temporary:
            shutil.copyfile(LOCK, temporary)
            with modify_yaml(str(temporary)) as content:
                content.get("stages", {}).pop(stage, None)


def _end_with_parent() -> None:
    """End what this process runs, again and again until it has put things right and ends as well."""
    with suppress(OSError):
        os.read(sys.stdin.fileno(), 1)
    while True:
        os.killpg(0, signal.SIGTERM)
        time.sleep(0.2)


if __name__ == "__main__":
    run(main)
