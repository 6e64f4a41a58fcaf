"""One process of the runner.

``python -m benchmarks.worker kmeans`` lists the systems of a module as JSON; ``python -m benchmarks.worker kmeans 0``
measures the first of them once.
"""

import json
import sys
from dataclasses import asdict
from importlib import import_module

from benchmarks.common import System


def main() -> None:
    module, *position = sys.argv[1:]
    systems: list[System] = import_module(f"benchmarks.{module}").SYSTEMS
    if position:
        print(json.dumps(asdict(systems[int(position[0])].measure())))
    else:
        print(json.dumps([{"case": s.case, "name": s.name, "n_runs": s.n_runs, "cap": s.cap} for s in systems]))


if __name__ == "__main__":
    main()
