"""Grade both models on bought labels that were held out of their training."""

import json
from pathlib import Path
from typing import Annotated

import joblib
from typer import Option

from stages.artifacts import load_features, load_images, load_labelled, replacing
from stages.cli import run
from stages.evaluate import grade_predictions, predict_with_network


def main(
    logreg: Annotated[Path, Option(help="the fitted logistic regression")],
    nn: Annotated[Path, Option(help="the trained network")],
    features: Annotated[Path, Option()],
    images: Annotated[Path, Option()],
    held_out: Annotated[Path, Option()],
    result: Annotated[Path, Option()],
) -> None:
    pictures = load_images(images)
    known = load_labelled(held_out, len(pictures))
    grades = {
        "labels": {"held_out": len(known.index)},
        "logreg": grade_predictions(known.label, joblib.load(logreg).predict(load_features(features)[known.index])),
        "nn": grade_predictions(known.label, predict_with_network(nn, pictures[known.index])),
    }
    with replacing(result) as temporary:
        temporary.write_text(json.dumps(grades, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
