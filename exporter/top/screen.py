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
from textual.widgets import Input, Static

from exporter.top import plain, table, text
from exporter.top.source import Follower
from exporter.top.views import VIEWS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from textual.app import ComposeResult

    from exporter.top.choice import Choice
    from exporter.top.source import News
    from exporter.top.table import Answer, Row, View

TITLE: Final = Style(bold=True)
CHOSEN: Final = Style(bold=True, reverse=True)
NORMAL: Final = Style()
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
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


class Table(ScrollView, inherit_bindings=False):
    """Rows; only those that are seen are made into text."""

    can_focus = True
    BINDINGS: ClassVar = [
        Binding("up,k", "scroll_up"),
        Binding("down,j", "scroll_down"),
        Binding("pageup", "page_up"),
        Binding("pagedown", "page_down"),
        Binding("home", "scroll_home"),
        Binding("end", "scroll_end"),
    ]

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
    Input, Input:focus { border: none; height: 1; padding: 0; display: none; }
    """
    BINDINGS: ClassVar = [
        *(Binding(view.key, f"show('{noun}')") for noun, view in VIEWS.items()),
        Binding("left,less_than_sign", "move(-1)"),
        Binding("right,greater_than_sign", "move(1)"),
        Binding("r", "flip('reverse')"),
        Binding("i", "flip('bits')"),
        Binding("space", "pause"),
        Binding("slash", "filter"),
        Binding("escape", "clear"),
        Binding("question_mark", "help"),
        Binding("q", "end(0)"),
        Binding("ctrl+c", "end(0)", priority=True),
        Binding("ctrl+z", "suspend_process"),
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
        yield Input(placeholder="text in a name", select_on_focus=False)

    def on_mount(self) -> None:
        """Begin to ask, and to listen to signals: the terminal is to be as it was before."""
        self.theme = "ansi-dark"
        loop = asyncio.get_running_loop()
        for number in () if self.is_headless else SIGNALS:
            status = 0 if number == signal.SIGINT else 128 + number
            loop.add_signal_handler(number, functools.partial(self.exit, status))
        self.query_one(Table).focus()
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
        trouble = self.query_one("#trouble", Static)
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

    def action_show(self, noun: str) -> None:
        """Show another view."""
        self.query_one("#help").display = False
        self.query_one(Table).display = True
        if noun == self._choice.view.noun:
            return
        self._choose(self._choice.show(noun))
        self._rows, self._answered = [], ""
        self.query_one("#trouble").display = False
        self.query_one(Table).scroll_home(animate=False)
        self._show()
        self._follower.show(self._choice.view)

    def _choose(self, choice: Choice) -> None:
        self._choice = choice
        self._show()

    def action_move(self, step: int) -> None:
        """Put rows in order by another column."""
        self._choose(self._choice.move(step))

    def action_flip(self, what: str) -> None:
        """Switch something on or off."""
        self._choose(self._choice.flip(what))

    def action_pause(self) -> None:
        """Ask no more, or again."""
        self.action_flip("paused")
        self._follower.pause(on=self._choice.paused)

    def action_filter(self) -> None:
        """Let the user say what is wanted."""
        self._edit(on=True)

    def action_clear(self) -> None:
        """Show all."""
        self.query_one(Input).value = ""
        self._edit(on=False)
        self._choose(dataclasses.replace(self._choice, wanted=""))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Show what is wanted, as it is written."""
        self._choose(dataclasses.replace(self._choice, wanted=event.value))

    def on_input_submitted(self) -> None:
        """Keep it."""
        self._edit(on=False)

    def _edit(self, *, on: bool) -> None:
        entry = self.query_one(Input)
        entry.display = on
        self.query_one("#keys").display = not on
        if on:
            entry.value = self._choice.wanted
            entry.cursor_position = len(entry.value)
        # At once, and not by focus(), which waits: what is typed next belongs there.
        self.screen.set_focus(entry if on else self.query_one(Table))

    def action_help(self) -> None:
        """Show what the keys and columns mean, or no more."""
        shown = self.query_one("#help")
        shown.display = not shown.display
        self.query_one(Table).display = not shown.display

    def action_end(self, status: int) -> None:
        """End, with the terminal as it was."""
        self.exit(status)


def run(fetch: Callable[[View], Answer], choice: Choice, seconds: float) -> int:
    """Show the screen until the user or a signal ends it; return the exit status."""
    app = Top(fetch, choice, seconds)
    status = app.run(mouse=False)
    return (app.return_code or 0) if status is None else status
