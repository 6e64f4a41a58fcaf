"""What the page is made of: each text, of a data set or a person, is set as text and never as HTML."""

from collections.abc import Sequence
from typing import Any

from nicegui import ui

from app.session import CLASS_KEYS
from app.standing import Point


def show_text(text: str, classes: str = "") -> ui.label:
    """Show a line of text."""
    return ui.label(text).classes(classes)


def show_key(name: str) -> ui.element:
    """Show a key of the keyboard."""
    with ui.element("kbd") as key:
        ui.label(name)
    return key


def give(element: ui.element, name: str, value: str) -> ui.element:
    """Give an element an attribute, whatever characters its value has."""
    element.props[name] = value
    return element


def mark(element: ui.element, name: str, is_so: bool) -> None:
    """Give an element a class of CSS, or take it away."""
    element.classes(add=name) if is_so else element.classes(remove=name)


def show_button(act: str, text: str, classes: str = "") -> ui.element:
    """Show a button that does what the page knows by ``act``."""
    with give(ui.element("button").props("type=button").classes(classes), "data-act", act) as button:
        if text:
            ui.label(text)
    return button


def show_action(act: str, key: str, text: str) -> None:
    """Show a button with its key."""
    with show_button(act, "", "choice"):
        show_key(key)
        show_text(text, "text")


def show_choice(name: str, place: int) -> ui.label:
    """Show a class with its key, and give the text beside it, which counts its labels."""
    with show_button(f"label:{name}", "", "choice"):
        show_key(CLASS_KEYS[place] if place < len(CLASS_KEYS) else " ")
        show_text(name, "text")
        return show_text("", "count")


def show_card(title: str, big: str, small: str) -> None:
    """Show one number large."""
    with ui.element("div").classes("card"):
        show_text(title, "faint")
        show_text(big, "big")
        show_text(small, "faint")


def curve_options(curve: Sequence[Point]) -> dict[str, Any]:
    """Give the options of a chart: the interval as a band, stacked on an invisible base, and accuracy as a line."""
    percent = [(p.n_labels, 100 * p.low, 100 * (p.high - p.low), 100 * p.accuracy) for p in curve]
    band = {"type": "line", "stack": "interval", "symbol": "none", "lineStyle": {"opacity": 0}, "silent": True}
    axis = {"nameLocation": "middle", "axisLabel": {"color": "#8a94a3"}, "nameTextStyle": {"color": "#8a94a3"}}
    lines = {"splitLine": {"lineStyle": {"color": "#8a94a333"}}}
    return {
        "animation": False,
        "grid": {"left": 56, "right": 20, "top": 12, "bottom": 46},
        "xAxis": {
            "type": "value",
            "name": "labels to learn from",
            "nameGap": 28,
            "min": 0,
            "splitLine": {"show": False},
        }
        | axis,
        "yAxis": {"type": "value", "name": "%", "nameGap": 38, "max": 100, "scale": True} | axis | lines,
        "series": [
            band | {"data": [[n, low] for n, low, _, _ in percent]},
            band
            | {"data": [[n, width] for n, _, width, _ in percent], "areaStyle": {"color": "#5b8def", "opacity": 0.25}},
            {
                "type": "line",
                "data": [[n, accuracy] for n, _, _, accuracy in percent],
                "color": "#3b78e7",
                "lineWidth": 2,
                "symbolSize": 8,
            },
        ],
    }
