"""Tables that commands write into Markdown pages, between two comments that mark their place."""

from pathlib import Path

from few_labels.artifacts import replacing


def marker(name: str) -> str:
    """Give the comment that stands before and after a table."""
    return f"<!-- {name} -->"


def insert(page: str, name: str, table: str) -> str:
    """Put a table between the two markers of its name.

    Parameters
    ----------
    page : str
        Markdown in which the marker stands twice.
    name : str
    table : str

    Returns
    -------
    str
        The page with the new table in place of the old one.

    Raises
    ------
    ValueError
        If the marker does not stand there twice.
    """
    parts = page.split(marker(name))
    if len(parts) != 3:
        raise ValueError(f"{marker(name)} stands {len(parts) - 1} times in the page, a table has two")
    return f"{parts[0]}{marker(name)}\n\n{table}\n\n{marker(name)}{parts[2]}"


def write_table(path: Path, name: str, table: str) -> None:
    """Put a table into a page on disk, as `insert` does."""
    with replacing(path) as temporary:
        temporary.write_text(insert(path.read_text(), name, table))


def format_markdown(header: list[str], rows: list[list[str]]) -> str:
    """Lay out a Markdown table; a column of which the header starts with a space is aligned to the right.

    Parameters
    ----------
    header : list of str
    rows : list of list of str

    Returns
    -------
    str
    """
    rule = ["---:" if name.startswith(" ") else "---" for name in header]
    return "\n".join(f"| {' | '.join(cell.strip() for cell in line)} |" for line in [header, rule, *rows])
