"""Run one stage and print the seconds of its own work: ``python -m benchmarks.own_work stages.kmeans --model ...``.

What the stage imports, also what it imports in mid-run, is loaded before the clock starts.
"""

import ast
import sys
from importlib import import_module
from pathlib import Path
from time import perf_counter

import yaml

from stages import run


def main() -> None:
    _, module, *arguments = sys.argv
    graph = yaml.safe_load(Path("dvc.yaml").read_text())["stages"]
    for dependency in graph[module.removeprefix("stages.").replace("_", "-")]["deps"]:
        if dependency.endswith(".py"):
            import_module(dependency.removesuffix(".py").replace("/", "."))
            for node in ast.walk(ast.parse(Path(dependency).read_text())):
                if isinstance(node, ast.ImportFrom) and node.module:
                    import_module(node.module)
    sys.argv = [module, *arguments]
    start = perf_counter()
    run(import_module(module).main)
    print(perf_counter() - start)


if __name__ == "__main__":
    main()
