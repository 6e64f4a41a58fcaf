"""The front door and the pages behind it say what the project does now."""

import ast
import json
import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from dvc.cli.parser import get_main_parser

from benchmarks.report import format_ratios
from tests.conftest import PROJECT, leaves
from tests.test_graph import outputs
from tools import illustrate, results
from tools.pages import insert

FRONT_DOOR = PROJECT / "README.md"
PAGES = [FRONT_DOOR, PROJECT / "CONTRIBUTING.md", *sorted((PROJECT / "docs").glob("*.md"))]
STUDY_PAGES = sorted((PROJECT / "study").rglob("README.md"))
METRICS = json.loads((PROJECT / "metrics" / "metrics.json").read_text())
ANSWERS = {model: pd.read_csv(results.EVALUATION / f"{model}_confusion.csv") for model in results.NAMES}
STUDY = results.read_study(PROJECT / "metrics" / "study_summary.csv")
TARGETS = set(re.findall(r"^([\w./ -]+):(?!=)", (PROJECT / "Makefile").read_text(), re.MULTILINE))


def named(page: Path) -> str:
    return str(page.relative_to(PROJECT))


def read(name: str) -> str:
    return (PROJECT / name).read_text()


def test_the_front_door_is_short() -> None:
    assert FRONT_DOOR.stat().st_size <= 9000


def test_the_tables_hold_every_parameter_and_its_default() -> None:
    table = re.findall(r"^\| `([\w.]+)` \| (\S+) \|", read("docs/parameters.md"), re.MULTILINE)
    params = leaves(yaml.safe_load(read("params.yaml")))
    assert table == [(name, "null" if value is None else str(value)) for name, value in params.items()]


@pytest.mark.parametrize(
    ("page", "name", "text"),
    [
        ("README.md", "printed", results.format_printed(METRICS)),
        ("README.md", "results", results.format_results(METRICS, STUDY)),
        ("docs/model-card.md", "labels", results.format_labels(METRICS)),
        ("docs/model-card.md", "accuracy", results.format_accuracy(ANSWERS, STUDY)),
        ("docs/model-card.md", "classes", results.format_classes(ANSWERS)),
    ],
)
def test_a_page_has_the_numbers_of_the_committed_run(page: str, name: str, text: str) -> None:
    assert insert(read(page), name, text) == read(page), "make pages writes them"


def test_what_is_said_to_be_printed_is_in_the_metrics() -> None:
    for model, table in ANSWERS.items():
        right = (table["actual"] == table["predicted"]).mean()
        assert right == pytest.approx(METRICS[model]["accuracy"])
    shown = read("README.md")
    assert f"So {METRICS['labels']['bought']:,} labels were bought" in shown


def test_the_comparisons_are_those_of_the_committed_table() -> None:
    table = pd.read_csv(PROJECT / "metrics" / "bench.csv")
    comparisons = table[~table["case"].str.startswith("scaling-")]
    assert insert(read("docs/speed.md"), "bench", format_ratios(comparisons)) == read("docs/speed.md")


def test_the_committed_run_beats_the_published_one() -> None:
    for model in results.NAMES:
        assert METRICS[model]["accuracy"] >= STUDY[model]["published"]


def test_the_picture_of_the_graph_is_the_graph() -> None:
    stages = yaml.safe_load(read("dvc.yaml"))["stages"]
    maker = {out: name for name, stage in stages.items() for out in outputs(stage)}
    edges = {(maker[dep], name) for name, stage in stages.items() for dep in stage["deps"] if dep in maker}
    drawn = re.findall(r"^    ([\w-]+) -- .+ --> ([\w-]+)$", read("docs/how-it-works.md"), re.MULTILINE)
    assert len(drawn) == len(set(drawn))
    assert set(drawn) == edges


# Links, and pictures, which are links too.


def links(page: Path) -> list[str]:
    """What a page leads to in the project: without code, and without addresses on the web."""
    text = re.sub(r"^```.*?^```|`[^`\n]*`(?!\])", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [target for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]


def anchors(page: Path) -> set[str]:
    """Where on a page a link may lead, named as GitHub and GitLab name headings."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    ("page", "target"),
    [
        pytest.param(page, target, id=f"{named(page)}: {target}")
        for page in [*PAGES, *STUDY_PAGES, PROJECT / "CHANGELOG.md"]
        for target in sorted(set(links(page)))
    ],
)
def test_a_link_leads_somewhere(page: Path, target: str) -> None:
    path, _, anchor = target.partition("#")
    file = (page.parent / path).resolve() if path else page
    assert file.is_relative_to(PROJECT.resolve())
    assert file.exists()
    assert not anchor or anchor in anchors(file)


def test_every_page_can_be_reached_from_the_front_door() -> None:
    reached, waiting = set(), [FRONT_DOOR.resolve()]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        found = {(page.parent / target.partition("#")[0]).resolve() for target in links(page)}
        waiting += [each for each in found if each.suffix == ".md" and each not in reached]
    assert {page.resolve() for page in [*PAGES, *STUDY_PAGES]} <= reached


# Commands.

BLOCK = re.compile(r"(?:^<!-- not run here: (?P<why>.+) -->\n)?^```sh\n(?P<lines>.*?)^```", re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[tuple[str, str]]:
    """The lines of the shell blocks of a page, without comments, each with the reason why no test runs it, if any."""
    return [
        (command, block["why"] or "")
        for block in BLOCK.finditer(page.read_text())
        for line in block["lines"].splitlines()
        if (command := re.split(r"  +#", line)[0].strip())
    ]


def commands_run_by_tests() -> set[str]:
    """The command lines that the tests hand to ``Clone.sh`` and ``Clone.start``."""
    found = set()
    for module in sorted((PROJECT / "tests").glob("*.py")):
        for node in ast.walk(ast.parse(module.read_text())):
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in {"sh", "start"}
            ):
                found |= {str(part.value) for part in ast.walk(node) if isinstance(part, ast.Constant)}
    return found


SHOWN = [(page, *shown) for page in PAGES + STUDY_PAGES for shown in commands(page)]
RUN_BY_TESTS = commands_run_by_tests()


@pytest.mark.parametrize("command", sorted({command for _, command, why in SHOWN if not why}))
def test_a_command_is_one_that_a_test_runs(command: str) -> None:
    assert command in RUN_BY_TESTS


def test_a_command_that_says_that_no_test_runs_it_is_run_by_none() -> None:
    assert [command for _, command, why in SHOWN if why and command in RUN_BY_TESTS] == []


@pytest.mark.parametrize("page", PAGES + STUDY_PAGES, ids=named)
def test_a_command_in_the_text_is_one_that_there_is(page: Path) -> None:
    targets = {name for line in TARGETS for name in line.split()}
    inline = re.findall(r"`((?:make|dvc) [^`\n]+)`", page.read_text())
    for command in inline + [command for command, _ in commands(page)]:
        program, *words = command.split(" && ")[0].split()
        if program == "make":
            assert {word for word in words if re.fullmatch(r"[a-z./-]+", word)} <= targets, command
        elif program == "dvc":
            with pytest.raises(SystemExit, match=r"^0$"):  # with another status where dvc knows no such command
                get_main_parser().parse_args([*words, "--help"])


# Messages.


def said_by_the_code() -> list[list[str | None]]:
    """What the code and the Makefile can say, in its fixed parts; None where names and numbers go in."""
    found: list[list[str | None]] = []
    for module in (
        path for folder in ("few_labels", "stages", "tools", "app") for path in (PROJECT / folder).glob("*.py")
    ):
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.JoinedStr):
                found.append([str(part.value) if isinstance(part, ast.Constant) else None for part in node.values])
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append([node.value])
    for said in re.findall(r'echo "([^"]+)"', read("Makefile").replace("\\\n\t", "")):
        found.append([None if part.startswith("$") else part for part in re.split(r"(\$\$?\w+|\$\(\w+\))", said)])
    return [*found, *([said] for said in re.findall(r"\$\(error ([^)]+)\)", read("Makefile")))]


# Words that a message quotes, and that no line of the code has.
SAID_BY_OTHERS: list[list[str | None]] = [
    ["less than or equal to ", None],  # Pydantic
    ["the dataset's site"],  # datasets/fashion-mnist.yaml
    ["[Errno 111] Connection refused"],  # the system
    ["config file error: no remote specified in ", None, ". Create a default remote with"],  # DVC
]
SAID = said_by_the_code()
TEMPLATES = [
    re.compile("".join(".*?" if part is None else f"({re.escape(part)})" for part in parts), re.DOTALL)
    for parts in [*SAID, *SAID_BY_OTHERS]
    if sum(len(part) for part in parts if part) >= 7 and any(" " in part for part in parts if part)
]
WORDS = {part for parts in SAID for part in parts if part}
MESSAGES = re.findall(r"^```\n(.*?)\n```", read("docs/faq.md"), re.MULTILINE | re.DOTALL)


def said_by_nobody(message: str) -> list[str]:
    """Give the prose of a message that is in no template: two words, or a word and a number, beside each other."""
    left = list(message)
    for template in TEMPLATES:
        for match in template.finditer(message):
            for group in range(1, template.groups + 1):
                start, end = match.span(group)
                left[start:end] = "\n" * (end - start)
    pieces = [piece.strip() for piece in "".join(left).splitlines()]
    return [piece for piece in pieces if piece not in WORDS and re.search(r"[a-z]{3,} \w|\w [a-z]{3,}", piece)]


@pytest.mark.parametrize("message", MESSAGES)
def test_a_message_of_the_questions_is_one_that_the_code_says(message: str) -> None:
    assert said_by_nobody(re.sub(r"^[a-z-]+: ", "", message)) == []


@pytest.mark.parametrize(
    ("said", "instead"),
    [("try another seed", "take another seed"), ("nothing is imported", "the rest is imported"), ("two", "three")],
)
def test_a_message_with_other_words_is_noticed(said: str, instead: str) -> None:
    (changed, *_) = [message.replace(said, instead) for message in MESSAGES if said in message]
    assert said_by_nobody(re.sub(r"^[a-z-]+: ", "", changed))


# Pictures of the run.


@pytest.mark.parametrize("name", illustrate.INPUTS)
def test_a_picture_is_of_the_committed_run(name: str) -> None:
    recorded = illustrate.describe_source(illustrate.hashes(PROJECT / "dvc.lock"), name)
    assert illustrate.read_source(PROJECT / illustrate.FOLDER / f"{name}.png") == recorded, "make pages draws it"
