"""Run a command and write down how long it took: ``python -m study.timed seconds.json python -m stages.kmeans ...``.

The command's status is this one's, and the seconds are written only where it is 0.
"""

import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from few_labels.artifacts import replacing


def main() -> None:
    _, destination, *command = sys.argv
    start = perf_counter()
    status = subprocess.run(command, check=False).returncode
    if status:
        raise SystemExit(status)
    with replacing(Path(destination)) as temporary:
        temporary.write_text(json.dumps({"seconds": round(perf_counter() - start, 1)}) + "\n")


if __name__ == "__main__":
    main()
