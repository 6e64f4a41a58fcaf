"""A hash of the code that a module runs: what was measured says by it whether it is of the code as it is."""

import ast
import hashlib
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

# What computes. `study` and `tools` run it, and write down what comes out.
PACKAGES = ("few_labels", "stages", "app", "benchmarks")


def hash_code(files: Iterable[Path], inputs: Any, root: Path) -> str:
    """Hash files, all of the project's packages that they import, directly or not, and what else decides.

    Parameters
    ----------
    files : iterable of Path
    inputs : object
        Such as parameters, as JSON takes them.
    root : Path
        The folder of the packages.

    Returns
    -------
    str
        MD5.
    """
    found = set(files)
    while more := {used for file in found for used in list_imported(file, root)} - found:
        found |= more
    sources = {str(file.relative_to(root)): file.read_text(encoding="utf-8") for file in sorted(found)}
    text = json.dumps([sources, inputs], sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


@cache
def list_imported(file: Path, root: Path) -> list[Path]:
    """List the files of this project that a file of Python imports, at its top or on the way."""
    return [
        path
        for name in name_imported(ast.parse(file.read_text(encoding="utf-8")))
        if name.split(".")[0] in PACKAGES
        for path in (root / f"{name.replace('.', '/')}.py", root / name.replace(".", "/") / "__init__.py")
        if path.is_file()
    ]


def name_imported(tree: ast.AST) -> Iterator[str]:
    """Name each module that is imported, and for ``from a import b`` both ``a`` and what may be a module, ``a.b``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
