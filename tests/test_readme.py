"""Every command of the README's sections on sharing is one that a test runs."""

import ast
import re

import pytest

from tests.conftest import PROJECT

README = PROJECT / "README_share.md"
# It needs GitLab; its first half is the `make pr-report` that the tests run.
NOT_RUN = {line for line in README.read_text().splitlines() if "glab mr note" in line}


def commands() -> list[str]:
    """The lines of the shell blocks, without comments."""
    blocks = re.findall(r"^```sh\n(.*?)^```", README.read_text(), flags=re.MULTILINE | re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line not in NOT_RUN]


def commands_run_by_tests() -> set[str]:
    """The command lines that the tests hand to ``Clone.sh``."""
    found = set()
    for module in sorted((PROJECT / "tests").glob("test_*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "sh":
                found |= {str(part.value) for part in ast.walk(node) if isinstance(part, ast.Constant)}
    return found


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme_is_run_by_a_test(command: str) -> None:
    assert command in commands_run_by_tests()
