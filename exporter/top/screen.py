# SPDX-License-Identifier: Apache-2.0
"""The screen. Only this module needs the library, and only `top` imports it.

It has no colours of its own, so it can be read on any terminal: titles are bold, and the column by
which rows are in order is reversed.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import signal
import time
from typing import TYPE_CHECKING, ClassVar, Final

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.app import App
from textual.binding import Binding
from textual.geometry import Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Static

from exporter.top import plain, table, text
from exporter.top.source import Follower
from exporter.top.views import VIEWS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from textual.app import ComposeResult
    from textual.events import Key, Paste

    from exporter.top.choice import Choice
    from exporter.top.source import News
    from exporter.top.table import Answer, Row, View

TITLE: Final = Style(bold=True)
CHOSEN: Final = Style(bold=True, reverse=True)
NORMAL: Final = Style()
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
MAX_WANTED: Final = 256
"""Characters of a filter."""
ENDS: Final = ("enter", "ctrl+j", "escape")
"""Keys that end the filter. Enter is Ctrl-J if it was pressed before the terminal was ours."""
KEYS: Final = "? help  q quit  p t s h e g view  < > sort  r reverse  / filter  i bits  space pause"
HELP: Final = """\
p t s h e g   processes, threads, sockets, hosts, exits, groups
< >           order by the column to the left, to the right (arrows too)
r             reverse the order
/             show only rows with a text in a name; Escape: all
space         pause, go on
i             bits or bytes
up, down      scroll (PgUp, PgDn, Home, End too)
q             quit (Ctrl-C too)

BANDWI BANDWO  bytes (bits) a second, in and out, IP headers included
PCKI PCKO      packets a second
TCPRCV ...     the same of TCP, UDP, ICMP and others
BYTESRCV ...   bytes and packets since the counter began
<name>         the process has ended
"""


class Table(ScrollView, can_focus=False):
    """Rows; only those that are seen are made into text."""

    def __init__(self) -> None:
        super().__init__()
        self._rows: Sequence[Row] = ()
        self._choice: Choice | None = None

    def show(self, rows: Sequence[Row], choice: Choice) -> None:
        """Show these rows, at the place where the reader is."""
        self._rows, self._choice = rows, choice
        self.virtual_size = Size(self.size.width, len(rows))
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Return a line of what is seen."""
        place = y + self.scroll_offset.y
        cells = self.size.width
        if self._choice is None or place >= len(self._rows):
            return Strip.blank(cells)
        row, view = self._rows[place], self._choice.view
        columns = [view.columns[number] for number in seen(self._choice, cells)]
        words = [plain.cell(c, c.value(row), bits=self._choice.bits) for c in columns]
        line = plain.line(words, columns, [column.width for column in columns])
        return Strip([Segment(text.fit(line, cells), NORMAL)], cells)


class Titles(Widget):
    """The titles of the columns."""

    def __init__(self) -> None:
        super().__init__()
        self._choice: Choice | None = None

    def show(self, choice: Choice) -> None:
        """Show those of a view."""
        self._choice = choice
        self.refresh()

    def render(self) -> Text:
        """Return the line."""
        found = Text(no_wrap=True, overflow="crop", end="")
        choice = self._choice
        if choice is None:
            return found
        for number in seen(choice, self.size.width):
            column = choice.view.columns[number]
            title = text.fit(column.title, column.width, right=column.kind != table.NAME)
            found.append(title, CHOSEN if number == choice.sort else TITLE)
            found.append(" ")
        return found


def seen(choice: Choice, cells: int) -> list[int]:
    """Return the places of the columns that are seen."""
    view = choice.view
    return [*range(view.fixed), *table.window(view.columns, view.fixed, choice.sort, cells)]


class Arrived(Message):
    """Something has come of a question to the exporter."""

    def __init__(self, news: News) -> None:
        super().__init__()
        self.news = news


class Top(App[int]):
    """Shows what a Follower tells."""

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    * { background: ansi_default; color: ansi_default; scrollbar-size: 0 0; }
    Screen { layout: vertical; }
    Titles, #keys, #status { height: 1; }
    Static { text-wrap: wrap; }
    #keys, #status { text-wrap: nowrap; text-overflow: ellipsis; }
    #trouble { max-height: 3; display: none; text-style: reverse; }
    Table { height: 1fr; }
    #help { height: 1fr; display: none; overflow: hidden; }
    """
    BINDINGS: ClassVar = [
        Binding("ctrl+c", "end(0)", priority=True),
        Binding("ctrl+z", "suspend_process", priority=True),
    ]

    def __init__(self, fetch: Callable[[View], Answer], choice: Choice, seconds: float) -> None:
        super().__init__(ansi_color=True)
        self.animation_level = "none"
        self._choice = choice
        self._seconds = seconds
        self._rows: list[Row] = []
        self._shown = 0
        self._answered = ""
        """When, for people."""
        self._editing = False
        """Letters are part of the filter, not keys."""
        self._keys = self._make_keys()
        self._follower = Follower(
            fetch, choice.view, seconds, lambda news: self.post_message(Arrived(news))
        )

    def compose(self) -> ComposeResult:
        """Return what the screen is made of, from above."""
        yield Static(id="status", markup=False)
        yield Static(id="trouble", markup=False)
        yield Titles()
        yield Table()
        yield Static(HELP, id="help", markup=False)
        yield Static(KEYS, id="keys", markup=False)

    def on_mount(self) -> None:
        """Begin to ask, and to listen to signals: the terminal is to be as it was before."""
        self.theme = "ansi-dark"
        loop = asyncio.get_running_loop()
        for number in () if self.is_headless else SIGNALS:
            status = 0 if number == signal.SIGINT else 128 + number
            loop.add_signal_handler(number, functools.partial(self.exit, status))
        self._show()
        self._follower.start()

    def on_unmount(self) -> None:
        """Ask no more."""
        self._follower.stop()

    def on_arrived(self, arrived: Arrived) -> None:
        """Show what is new; what could not be had leaves the table as it was."""
        news = arrived.news
        if news.view is not self._choice.view:
            return  # asked before another one was chosen
        trouble = next(iter(self.query("#trouble").results(Static)), None)
        if trouble is None:
            return  # the screen is going
        trouble.update(text.clean(news.failure))
        trouble.display = bool(news.failure)
        if news.rows is not None:
            self._rows = news.rows
            self._answered = time.strftime("%H:%M:%S")
        self._show()

    def on_resize(self) -> None:
        """Show other columns, perhaps."""
        self.call_after_refresh(self._show)

    def _show(self) -> None:
        found = self._choice.select(self._rows)
        self._shown = len(found)
        self.query_one(Table).show(found, self._choice)
        self.query_one(Titles).show(self._choice)
        self.query_one("#status", Static).update(self._status())

    def _status(self) -> str:
        choice = self._choice
        parts = [choice.view.noun, self._answered or "waiting for the exporter"]
        number = len(self._rows)
        parts.append(f"{self._shown} of {number}" if choice.wanted else f"{number}")
        if choice.paused:
            parts.append("PAUSED")
        if choice.wanted:
            parts.append(f"/{text.clean(choice.wanted)}")
        if choice.bits:
            parts.append("bits")
        parts.append(f"every {self._seconds:g} s")
        return "  ".join(parts)

    def _make_keys(self) -> dict[str, Callable[[], object]]:
        """Return what each key does, by its name or by what it writes."""
        rows = functools.partial(self.query_one, Table)
        return {
            **{v.key: functools.partial(self._change_view, noun) for noun, v in VIEWS.items()},
            **dict.fromkeys(("left", "<"), lambda: self._choose(self._choice.move(-1))),
            **dict.fromkeys(("right", ">"), lambda: self._choose(self._choice.move(1))),
            "r": lambda: self._choose(self._choice.flip("reverse")),
            "i": lambda: self._choose(self._choice.flip("bits")),
            "space": self._pause,
            "/": lambda: self._edit(on=True),
            "escape": lambda: self._want(""),
            "?": self._help,
            "q": lambda: self.exit(0),
            "up": lambda: rows().scroll_up(animate=False),
            "down": lambda: rows().scroll_down(animate=False),
            "pageup": lambda: rows().scroll_page_up(animate=False),
            "pagedown": lambda: rows().scroll_page_down(animate=False),
            "home": lambda: rows().scroll_home(animate=False),
            "end": lambda: rows().scroll_end(animate=False),
        }

    def on_key(self, event: Key) -> None:
        """Do what a key is for.

        All keys come here, one after the other, so what is typed fast is not lost: nothing on the
        screen has a focus that would have to move first.
        """
        if self._editing and self._write(event):
            return
        action = self._keys.get(event.key) or self._keys.get(event.character or "")
        if action:
            action()

    def on_paste(self, event: Paste) -> None:
        """Take text for the filter."""
        if self._editing:
            self._want(self._choice.wanted + "".join(event.text.splitlines()[:1]))

    def _write(self, event: Key) -> bool:
        """Change the filter; tell whether the key was for that."""
        wanted = self._choice.wanted
        if event.key in ENDS:
            self._edit(on=False)
            return event.key != "escape"
        if event.key == "backspace":
            self._want(wanted[:-1])
        elif event.key == "ctrl+u":
            self._want("")
        elif event.is_printable and event.character:
            self._want(wanted + event.character)
        else:
            return False
        return True

    def _edit(self, *, on: bool) -> None:
        self._editing = on
        self._want(self._choice.wanted)

    def _want(self, wanted: str) -> None:
        self._choose(dataclasses.replace(self._choice, wanted=wanted[:MAX_WANTED]))
        shown = f"filter: {text.clean(self._choice.wanted)}_  Enter: keep  Escape: all"
        self.query_one("#keys", Static).update(shown if self._editing else KEYS)

    def _change_view(self, noun: str) -> None:
        self._show_help(on=False)
        if noun == self._choice.view.noun:
            return
        self._rows, self._answered = [], ""
        self.query_one("#trouble").display = False
        self.query_one(Table).scroll_home(animate=False)
        self._choose(self._choice.show(noun))
        self._follower.show(self._choice.view)

    def _choose(self, choice: Choice) -> None:
        self._choice = choice
        self._show()

    def _pause(self) -> None:
        self._choose(self._choice.flip("paused"))
        self._follower.pause(on=self._choice.paused)

    def _help(self) -> None:
        self._show_help(on=not self.query_one("#help").display)

    def _show_help(self, *, on: bool) -> None:
        self.query_one("#help").display = on
        self.query_one(Table).display = not on

    def action_end(self, status: int) -> None:
        """End, with the terminal as it was."""
        self.exit(status)


def run(fetch: Callable[[View], Answer], choice: Choice, seconds: float) -> int:
    """Show the screen until the user or a signal ends it; return the exit status."""
    app = Top(fetch, choice, seconds)
    status = app.run(mouse=False)
    return (app.return_code or 0) if status is None else status
