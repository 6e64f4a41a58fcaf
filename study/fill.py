"""Run a command with the values of a stage's item where it says ``{name}``, so that no shell reads a value.

``python -m study.fill --seed 42 --k 500 -- python -m stages.kmeans --model runs/{seed}/clusters_{k}/kmeans.joblib``;
``{key}`` is what a stage's name has behind its @. Before the ``--``, ``--seconds`` names a JSON file, in which is
written how long the command took, where its status is 0; its status is this one's.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from few_labels.artifacts import replacing
from few_labels.errors import InputError, quote

# What a value may be: a part of a file's name, and never a way out of the folder.
PLAIN = re.compile(r"(?!\.)[A-Za-z0-9_.-]+")


def main(arguments: list[str]) -> int:
    item, command = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
    values = dict(zip((name.removeprefix("--") for name in item[::2]), item[1::2], strict=True))
    seconds = values.pop("seconds", None)
    values["key"] = os.environ.get("DVC_STAGE", "").partition("@")[2]
    start = perf_counter()
    status = subprocess.run(
        [sys.executable if part == "python" else fill(part, values) for part in command], check=False
    ).returncode
    if status == 0 and seconds:
        with replacing(Path(fill(seconds, values))) as temporary:
            temporary.write_text(json.dumps({"seconds": round(perf_counter() - start, 1)}) + "\n")
    return status


def fill(text: str, values: dict[str, str]) -> str:
    """Put values in the places that name them.

    Raises
    ------
    InputError
        If a value could be more than a part of a file's name.
    """

    def value_of(place: re.Match[str]) -> str:
        value = values.get(place[1], "")
        if not PLAIN.fullmatch(value):
            raise InputError(
                f"{place[1]} is {quote(value)}, allowed are letters, digits, and . _ - after the first of them"
            )
        return value

    return re.sub(r"\{(\w+)\}", value_of, text)


if __name__ == "__main__":
    try:
        raise SystemExit(main(sys.argv[1:]))
    except InputError as error:
        sys.exit(f"study: {error}")
