"""Grade both models on bought labels that were held out of their training."""

import json
from pathlib import Path
from typing import Annotated, Any

from typer import Option

from few_labels.artifacts import load_classes, load_labelled, load_scores, replacing
from stages import run
from stages.evaluate import count_rows, grade_predictions


def main(
    classes: Annotated[Path, Option()],
    logreg_scores: Annotated[Path, Option(help="logistic regression's scores of the training images")],
    nn_scores: Annotated[Path, Option(help="the network's scores of the training images")],
    held_out: Annotated[Path, Option()],
    result: Annotated[Path, Option()],
) -> None:
    n_images, n_classes = count_rows(nn_scores), len(load_classes(classes).class_names)
    known = load_labelled(held_out, n_images, n_classes)
    grades: dict[str, Any] = {"labels": {"held_out": len(known.index)}}
    for model, path in (("logreg", logreg_scores), ("nn", nn_scores)):
        grades[model] = grade_predictions(known.label, load_scores(path, n_images, n_classes)[known.index])
    with replacing(result) as temporary:
        temporary.write_text(json.dumps(grades, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
