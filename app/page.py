"""The page on which a person labels: one key a decision.

Shows what `app.session` says is to be asked, and hands it what was answered.
"""

import json
import math
import secrets
import time
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlencode

from nicegui import background_tasks, ui
from nicegui.events import GenericEventArguments

from app import session
from app.dataset import Query, nearest_of_cluster
from app.desk import Desk
from app.elements import (
    curve_options,
    give,
    mark,
    show_action,
    show_button,
    show_card,
    show_choice,
    show_key,
    show_text,
)
from app.standing import advise, agreement, compare_last, trace_curve
from few_labels.ledger import CANNOT_TELL, Line, find_text_problem

HERE = Path(__file__).parent
N_NEAR = 12
N_AHEAD = 3
# More images than these are shown smaller, so that a key labels few that are not on the screen.
MANY = 30
VIEWS = {"grid": "Clusters", "query": "One by one", "review": "Review", "standing": "Where you stand"}
KEYS = [
    ("1 - 9, a - z", "the class with this key; x is none"),
    ("/", "type a class; a new name makes a new class"),
    ("Enter", "take the guess, or what the model suggests"),
    ("Space", "cannot tell; of a cluster: not now"),
    ("Backspace", "undo, as often as you like"),
    ("Arrows, x", "in a cluster: move, and take out or put back"),
    ("→", "in a review: the label stays as it is"),
    ("?", "this list"),
]


class Page:
    """One tab.

    Parameters
    ----------
    desk : Desk
    annotator : str
        Who sits at it.
    """

    def __init__(self, desk: Desk, annotator: str) -> None:
        self.desk, self.annotator = desk, annotator
        self.seat = secrets.token_hex(6)
        self.view = ""
        self.is_view_chosen = False
        self.first: list[str] = []
        self.put_aside: set[int] = set()
        self.query: Query | None = None
        self.grid: session.Grid | None = None
        self.review: session.Review | None = None
        self.left_out: set[int] = set()
        # The answer of this tab that could not be written yet.
        self.waiting: Sequence[Line] = []
        self._seen, self._n_shown = -1, 0
        self._counts: dict[str, ui.label] | None = None
        # Whoever only fetched the page, without a browser that stays, keeps no image from others.
        self._is_there = False
        self._pictures = desk.pictures
        self._build()
        # Grids first, and then single images: so simulated people got furthest, see docs/labelling.md.
        self._switch("grid")
        ui.timer(0.5, self._tick)
        ui.context.client.on_connect(self._arrive)
        ui.context.client.on_delete(lambda: desk.shown.pop(self.seat, None))

    # What is on the page

    def _build(self) -> None:
        ui.add_css(HERE / "page.css")
        ui.add_body_html(f"<script>{(HERE / 'page.js').read_text()}</script>")
        ui.on("act", self._on_act)
        with ui.element("div").classes("page w-full"):
            with ui.element("div").classes("bar"):
                show_text(f"Label {self.desk.settings.dataset}", "name")
                with ui.element("div").classes("tabs"):
                    self.tabs = {view: show_button(f"view:{view}", title) for view, title in VIEWS.items()}
                self.status = show_text("", "status")
                with show_button("rename", "", "who"):
                    self.who = show_text(self.annotator)
                show_button("key:?", "Keys ?")
            with ui.element("div").classes("trouble hidden") as self.trouble:
                self.trouble_text = show_text("")
                show_button("retry", "Try again")
                show_button("drop", "Drop this answer")
            with ui.element("div").classes("columns"):
                self.left = ui.element("div").classes("left")
                with ui.element("div").classes("side") as self.side:
                    self.choices = ui.element("div").classes("w-full flex flex-col gap-1")
                    self.typed = ui.input(placeholder="/ to type a class").props("dense outlined").classes("typed")
                    self.actions = ui.element("div").classes("w-full flex flex-col gap-1")
                    self.said = show_text("", "said")
        with ui.dialog() as self.help, ui.card().classes("page"):
            show_text("Keys", "title")
            with ui.element("div").classes("keys"):
                for key, meaning in KEYS:
                    show_key(key)
                    show_text(meaning)
        with ui.dialog() as self.rename, ui.card().classes("page"):
            show_text("Who labels in this tab?", "title")
            self.new_name = ui.input(value=self.annotator).props("dense outlined autofocus").classes("w-72")
            self.new_name.on("keydown.enter", self._on_rename)

    def _switch(self, view: str) -> None:
        self.view = view
        self.query = self.grid = self.review = None
        for name, tab in self.tabs.items():
            mark(tab, "on", name == view)
        mark(self.side, "hidden", view == "standing")
        mark(self.left, "whole", view == "standing")
        self.left.clear()
        with self.left:
            if view == "grid":
                self._build_grid()
            elif view != "standing":
                self._build_one()
        self.actions.clear()
        with self.actions:
            show_action("key: ", "Space", "Not now" if view == "grid" else "Cannot tell")
            if view == "review":
                show_action("key:ArrowRight", "→", "The label stays")
            show_action("key:Backspace", "Backspace", "Undo")
        self._show()
        if view == "query" and not self.desk.classes:
            ui.timer(0.5, lambda: ui.run_javascript("awaitFirstClass()"), once=True)

    def _build_one(self) -> None:
        with ui.element("div").classes("head"):
            self.what, self.file = show_text("", "what"), show_text("", "file")
        self.empty = show_text("", "empty hidden")
        with ui.element("div") as self.one:
            with ui.element("div").classes("stage"):
                self.picture = ui.element("img").props("alt=''")
            with ui.element("div").classes("guess"):
                self.guess_before, self.guess = show_text(""), show_text("", "strong")
                self.guess_after, self.guess_key = show_text("", "faint"), show_key("Enter")
                self.taken_by_key = show_text("", "faint")
            self.near_title = show_text("", "faint")
            with ui.element("div").classes("near"):
                self.near = [ui.element("img").props("alt=''") for _ in range(N_NEAR)]

    def _build_grid(self) -> None:
        with ui.element("div").classes("head"):
            self.what, self.file = show_text("", "what"), show_text("", "file")
        self.empty = show_text("", "empty hidden")
        self.box = ui.element("div").classes("cells")
        self.cells: list[tuple[ui.element, ui.element]] = []

    # What is shown

    def _arrive(self) -> None:
        if not self._is_there:
            self._is_there = True
            self._show()

    def _reserve(self, what: str | int) -> None:
        """Keep what is on the screen here from being shown to others."""
        if self._is_there:
            self.desk.shown[self.seat] = what

    def _show(self) -> None:
        """Put what is to be asked now on the screen."""
        self.waiting = []
        self.desk.shown.pop(self.seat, None)
        if self.view == "query":
            self._show_query()
        elif self.view == "grid":
            self._show_grid()
        elif self.view == "review":
            self._show_review()
        else:
            self._show_standing()
        self._refresh()

    def _show_query(self) -> None:
        data, taken = self.desk.data, self.desk.taken(self.seat)
        left = session.next_queries(data.queries, self.desk.history, taken, self.first)
        self.query = left[0] if left else None
        if self.query is None:
            self._show_nothing(self._why_nothing())
            return
        self._show_image(self.query.image)
        guess, sureness = self.query.guess, self.query.sureness
        after = "" if not guess or math.isnan(sureness) else f"{sureness:.0%} sure"
        self._show_guess("Guess:" if guess else "", guess, after, guess)
        self._load_ahead([query.image for query in left[1:]])

    def _why_nothing(self) -> str:
        desk = self.desk
        if desk.settings.oracle != "person":
            return "The data set answers itself: a person is asked where select_labels.oracle is person."
        if desk.status == "choosing":
            return "The next images are being chosen, from all answers so far."
        if desk.failure:
            return f"The next images could not be chosen: {desk.failure}"
        if session.next_queries(desk.data.queries, desk.history):
            return "What is left is before others just now."
        return "All that was asked is answered. The next images come in a moment, if any are left."

    def _show_review(self) -> None:
        reviews = session.next_reviews(self.desk.data.suspects, self.desk.history, self.desk.taken(self.seat))
        self.review = reviews[0] if reviews else None
        self.what.text = f"{len(reviews)} {'label' if len(reviews) == 1 else 'labels'} to look at again"
        if self.review is None:
            self._show_nothing("No label is in doubt: the model contradicts none, and people agree.")
            return
        self._show_image(self.review.image)
        after = f"but {self.review.reason}" if self.review.is_suspect else self.review.reason
        self._show_guess("Labelled", self.review.label or "cannot tell", after, self.review.suggested)
        self._load_ahead([review.image for review in reviews[1:]])

    def _show_image(self, image: str) -> None:
        self._reserve(image)
        row = self.desk.data.row_of[image]
        mark(self.one, "hidden", False)
        mark(self.empty, "hidden", True)
        self.file.text = image
        self.picture.props["src"] = self._url("large", row)
        self.picture.props["data-shown"] = self._next_shown()
        near = nearest_of_cluster(self.desk.data, row, N_NEAR)
        self.near_title.text = "Most like it in its cluster" if near else "It is alone in its cluster"
        for place, element in enumerate(self.near):
            mark(element, "hidden", place >= len(near))
            if place < len(near):
                element.props["src"] = self._url("small", near[place])

    def _show_guess(self, before: str, guess: str, after: str, suggested: str) -> None:
        self.guess_before.text, self.guess.text, self.guess_after.text = before, guess, after
        self.taken_by_key.text = f"takes {suggested}" if suggested != guess else ""
        mark(self.guess_key, "hidden", not suggested)
        mark(self.taken_by_key, "hidden", not suggested)

    def _load_ahead(self, images: Sequence[str]) -> None:
        """Let the browser fetch what comes next while a person looks at this."""
        rows = [self.desk.data.row_of[image] for image in images[:N_AHEAD]]
        near = nearest_of_cluster(self.desk.data, rows[0], N_NEAR) if rows else []
        self._fetch([self._url("large", row) for row in rows] + [self._url("small", row) for row in near])

    def _fetch(self, urls: Sequence[str]) -> None:
        ui.run_javascript(f"fetchAhead({json.dumps(urls)})")

    def _show_grid(self, cluster: int | None = None) -> None:
        taken = self.desk.taken(self.seat) | self.put_aside
        is_asked = self.desk.settings.oracle == "person"
        self.grid = session.next_grid(self.desk.data, self.desk.history, taken, cluster) if is_asked else None
        if cluster is None and not self.is_view_chosen and not (self.grid and self.grid.is_new):
            self._switch("query")
            return
        self.left_out = set()
        if self.grid is None:
            self.what.text, self.file.text = "Nothing to ask", ""
            mark(self.box, "hidden", True)
            aside = "; those that you put aside come again when the page is loaded anew" if self.put_aside else ""
            self._show_nothing(f"No cluster has an image without a label{aside}." if is_asked else self._why_nothing())
            return
        self._reserve(self.grid.cluster)
        mark(self.empty, "hidden", True)
        mark(self.box, "hidden", False)
        # By another key the browser makes the box anew, without the cursor of the last one; here elements are kept, for
        # it takes long to make a hundred.
        self.box.props["key"] = self.box.props["data-shown"] = self._next_shown()
        self._keep_cells(len(self.grid.rows))
        mark(self.box, "many", len(self.grid.rows) > MANY)
        for row, (cell, image) in zip(self.grid.rows, self.cells, strict=True):
            mark(cell, "out", False)
            give(cell, "data-act", f"toggle:{row}")
            give(image, "src", self._url("small", row))
        self._count_cells()
        coming = session.next_grid(self.desk.data, self.desk.history, taken | {self.grid.cluster})
        self._fetch([self._url("small", row) for row in coming.rows] if coming else [])

    def _keep_cells(self, n: int) -> None:
        while len(self.cells) > n:
            self.cells.pop()[0].delete()
        with self.box:
            while len(self.cells) < n:
                with ui.element("div").classes("cell") as cell:
                    self.cells.append((cell, ui.element("img").props("alt=''")))

    def _count_cells(self) -> None:
        assert self.grid is not None
        n = len(self.grid.rows)
        self.what.text = f"Cluster {self.grid.cluster} · one key labels {n - len(self.left_out)} images"
        more = f", the {n} nearest its centroid; {self.grid.n_more} more come later" if self.grid.n_more else ""
        self.file.text = f"{len(self.left_out)} taken out by click or x{more}"

    def _show_nothing(self, why: str) -> None:
        if self.view != "grid":
            mark(self.one, "hidden", True)
            self.picture.props.pop("data-shown", None)
            self.file.text = ""
        mark(self.empty, "hidden", False)
        self.empty.text = why

    def _show_standing(self) -> None:
        desk = self.desk
        records, counts = desk.load_records(), session.count_labels(desk.classes, desk.history)
        curve, gain = trace_curve(records, desk.history), compare_last(records, desk.history)
        n_labels, n_decisions = sum(counts.values()), desk.history.n_decisions
        n_unknown = sum(not label for label in desk.history.answers().label)
        is_enough, advice = advise(agreement(records))
        self.left.clear()
        with self.left:
            with ui.element("div").classes("cards"):
                show_card("Labels", f"{n_labels:,}", f"and {n_unknown:,} cannot tell" if n_unknown else "")
                ratio = f"{n_labels / n_decisions:.1f} labels a decision" if n_decisions else ""
                show_card("Decisions", f"{n_decisions:,}", ratio)
                if curve:
                    last = curve[-1]
                    where = "audit" if any(record.audit for record in records[-1:]) else "test"
                    show_card(
                        "Accuracy",
                        f"{100 * last.accuracy:.1f} %",
                        f"{100 * last.low:.1f} to {100 * last.high:.1f} %, on {last.n:,} {where} images",
                    )
                else:
                    unknown = "not known before a training, and answers about audit images, one by one"
                    show_card("Accuracy", "-", unknown)
                if gain:
                    show_card(
                        "The last round gained",
                        f"{100 * gain.difference:+.1f} points",
                        f"{100 * gain.low:+.1f} to {100 * gain.high:+.1f}, on the same images",
                    )
                elif len(curve) > 1:
                    difference = curve[-1].accuracy - curve[-2].accuracy
                    show_card("The last round gained", f"{100 * difference:+.1f} points", "by both accuracies")
                else:
                    show_card("The last round gained", "-", "not known before the second training")
            with ui.element("div").classes("card advice stop" if is_enough else "card advice"):
                show_text(advice, "title")
                show_text(
                    "By stabilizing predictions (Bloodgood and Vijay-Shanker 2009): more labels stop paying when "
                    "successive models agree, by a mean kappa of 0.99 over three pairs, on up to 2,000 images that "
                    "need no label. You may stop at any time; every answer is kept.",
                    "faint",
                )
            with ui.element("div").classes("split"):
                with ui.element("div").classes("card"):
                    show_text("Accuracy against labels, with its 95 % interval", "title")
                    if curve:
                        ui.echart(curve_options(curve)).classes("w-full").style("height: 340px")
                    else:
                        show_text("A point for each training appears here.", "faint")
                with ui.element("div").classes("card"):
                    show_text("Labels of each class", "title")
                    with ui.element("div").classes("perclass"):
                        for name, count in counts.items():
                            show_text(name, "text")
                            with ui.element("div").classes("meter"), ui.element("div") as meter:
                                meter.style(f"width: {100 * count / max(1, *counts.values()):.1f}%")
                            show_text(f"{count:,}", "count")
            n_disputed = len(desk.history.disagreements())
            with ui.element("div").classes("card").style("margin-top: 14px"):
                show_text("Rounds", "title")
                if desk.failure:
                    show_text(f"The last one failed: {desk.failure}", "failure")
                if unused := desk.describe_unused():
                    show_text(unused, "failure")
                disputed = f"{n_disputed} images are labelled differently by different people: see Review. "
                show_text(
                    (disputed if n_disputed else "")
                    + "When three quarters of a round are answered, the next images are chosen, and the model trained.",
                    "faint",
                )
                show_button("round", "Do it now").style("margin-top: 8px")

    def _refresh(self) -> None:
        """Bring what is around the image up to date."""
        desk = self.desk
        self._seen = desk.version
        mark(self.trouble, "hidden", not desk.trouble)
        self.trouble_text.text = f"Not saved yet, and kept until it can be: {desk.trouble}" if desk.trouble else ""
        doing = {"choosing": "choosing the next images", "training": "training on the answers"}.get(desk.status)
        busy = f"{doing}, {time.monotonic() - desk.since:.0f} s · " if doing else ""
        failed = "the last round failed: see Where you stand · " if desk.failure and not doing else ""
        if self.view == "query":
            n_left, n_all = len(session.next_queries(desk.data.queries, desk.history)), len(desk.data.queries)
            self.what.text = f"Round {desk.round} · {n_left} of {n_all} left" if n_all else "Nothing to ask"
        counts = session.count_labels(desk.classes, desk.history)
        self.status.text = f"{busy}{failed}{sum(counts.values()):,} labels · {desk.history.n_decisions:,} decisions"
        if self._counts is None or list(counts) != list(self._counts):
            self.choices.clear()
            with self.choices:
                if not counts:
                    show_text("No class yet: type the first one below.", "faint")
                self._counts = {name: show_choice(name, place) for place, name in enumerate(counts)}
        for name, count in counts.items():
            self._counts[name].text = f"{count:,}"

    def _tick(self) -> None:
        desk = self.desk
        if self.waiting and not desk.unsaved:
            self._answered()
        elif self._pictures is not desk.pictures:
            self._pictures = desk.pictures
            self._switch(self.view)
        elif desk.version != self._seen:
            is_idle = (self.query, self.grid, self.review) == (None, None, None)
            self._show() if is_idle and not self.waiting else self._refresh()
        elif desk.status:
            self._refresh()

    # What a person does

    def _on_act(self, event: GenericEventArguments) -> None:
        what, shown = str(event.args["what"]), event.args["shown"]
        desk = self.desk
        if self.help.value:
            self.help.close()
        elif what.startswith("view:") and what.removeprefix("view:") in VIEWS:
            self.is_view_chosen = True
            self._switch(what.removeprefix("view:"))
        elif what == "key:?":
            self.help.open()
        elif what == "rename":
            self.rename.open()
        elif what == "retry":
            desk.retry()
            self._tick()
        elif what == "drop" or (self.waiting and what == "key:Backspace"):
            desk.give_up()
            self._show()
        elif what == "round":
            background_tasks.create(desk.run_round())
        elif what == "key:Backspace":
            self._undo()
        elif not self.waiting and self.view != "standing" and shown == f"{self.seat}:{self._n_shown}":
            self._on_answer(what)

    def _on_answer(self, what: str) -> None:
        kind, _, rest = what.partition(":")
        if kind == "typed":
            label, problem = session.interpret(rest, self.desk.classes)
            self.typed.value = ""
            if problem:
                self.said.text = problem
                return
        elif kind == "label":
            label = rest
        elif rest == " ":
            label = CANNOT_TELL
        else:
            label = session.class_of_key(rest, self.desk.classes) or CANNOT_TELL
        is_class = bool(label)
        if self.grid:
            if kind == "toggle":
                self._toggle(int(rest))
            elif rest == " ":
                self.put_aside.add(self.grid.cluster)
                self._show()
            elif is_class:
                self._answer_grid(label)
            return
        asked = self.query or self.review
        if asked is None:
            return
        if rest == "Enter" and kind == "key":
            label = asked.guess if isinstance(asked, Query) else asked.suggested
            is_class = bool(label)
        elif rest == "ArrowRight" and isinstance(asked, session.Review):
            label = asked.label
            is_class = True
        if is_class or rest == " ":
            self._answer([asked.image], label)

    def _toggle(self, row: int) -> None:
        assert self.grid is not None
        if row in self.grid.rows:
            self.left_out ^= {row}
            mark(self.cells[self.grid.rows.index(row)][0], "out", row in self.left_out)
            self._count_cells()

    def _answer_grid(self, label: str) -> None:
        assert self.grid is not None
        names = self.desk.data.names
        chosen = [names[row] for row in self.grid.rows if row not in self.left_out]
        if chosen:
            self._answer(chosen, label, left_out=[names[row] for row in self.grid.rows if row in self.left_out])
        else:
            self.said.text = "All images are taken out, none is left to label."

    def _answer(self, images: Sequence[str], label: str, left_out: Sequence[str] = ()) -> None:
        desk = self.desk
        lines = session.decide(images, label, self.annotator, desk.round, left_out=left_out, history=desk.history)
        self.said.text = f"{label or 'cannot tell'}: {images[0] if len(images) == 1 else f'{len(images)} images'}"
        self._write(lines)

    def _undo(self) -> None:
        desk = self.desk
        lines = session.undo(self.annotator, desk.round, desk.history)
        if not lines:
            self.said.text = "There is nothing to undo."
            return
        images = [line.image for line in lines]
        self.said.text = f"Taken back: {images[0] if len(images) == 1 else f'the label of {len(images)} images'}"
        self.first = [*(images if len(images) == 1 else []), *self.first]
        self._write(lines)
        if self.waiting or images[0] not in desk.data.row_of:
            return
        if not self.is_view_chosen and len(images) > 1:
            self._switch("grid")
        if self.view == "grid":
            self._show_grid(int(desk.data.cluster[desk.data.row_of[images[0]]]))

    def _write(self, lines: Sequence[Line]) -> None:
        desk = self.desk
        if desk.write(lines):
            self._answered()
        elif desk.unsaved is lines:
            self.waiting = lines
            self._refresh()
        else:
            self.said.text = "An earlier answer is not written yet."

    def _answered(self) -> None:
        self.first = [image for image in self.first if self.desk.history.label(image) is None]
        self._show()
        if self.desk.is_round_over():
            background_tasks.create(self.desk.run_round())

    def _on_rename(self) -> None:
        name = str(self.new_name.value).strip()
        if name and not find_text_problem(name):
            self.annotator = self.who.text = name
            self.rename.close()
            address = json.dumps(f"/?{urlencode({'name': name})}")
            ui.run_javascript(f"history.replaceState(null, '', {address})")

    def _next_shown(self) -> str:
        self._n_shown += 1
        return f"{self.seat}:{self._n_shown}"

    def _url(self, size: str, row: int) -> str:
        return f"/image/{size}/{row}?of={self.desk.pictures.key}"
