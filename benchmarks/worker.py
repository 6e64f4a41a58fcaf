"""One process of the runner.

``python -m benchmarks.worker kmeans`` lists the systems of a module as JSON; ``python -m benchmarks.worker kmeans 0``
measures the first of them once. Ours computes on the kernels of the pipeline; a peer, by ``--free``, as its users run
it, on those and on as many threads as it chooses.
"""

import json
import sys
from dataclasses import asdict
from importlib import import_module

from few_labels import kernels


def main() -> None:
    module, *position = (argument for argument in sys.argv[1:] if argument != "--free")
    if "--free" in sys.argv:
        # Before ours is imported, for whatever a peer shares with it.
        kernels.pin_kernels = lambda: None
    kernels.pin_kernels()
    systems = import_module(f"benchmarks.{module}").SYSTEMS
    if position:
        print(json.dumps(asdict(systems[int(position[0])].measure())))
    else:
        print(json.dumps([{"case": s.case, "name": s.name, "n_runs": s.n_runs, "cap": s.cap} for s in systems]))


if __name__ == "__main__":
    main()
