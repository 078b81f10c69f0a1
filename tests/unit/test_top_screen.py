# SPDX-License-Identifier: Apache-2.0
"""The screen of `top`, on a terminal that is none: keys, sizes, an exporter that goes and comes."""

from __future__ import annotations

import asyncio
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest
from rich.cells import cell_len
from textual.events import Paste
from textual.widgets import Static

from exporter.errors import ServeError
from exporter.model import ZERO
from exporter.top import text
from exporter.top.choice import Choice
from exporter.top.screen import Arrived, Table, Titles, Top
from exporter.top.source import News
from exporter.top.table import Answer, Entry
from tests.unit.facts import counters
from tests.unit.test_top import HOSTILE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from textual.pilot import Pilot

    from exporter.top.table import View

SECONDS = 0.1
"""Between two answers."""
PATIENCE = 300


class Exporter:
    """Answers as it is told."""

    def __init__(self, *names: str) -> None:
        self.names = names or ("curl", "nginx", "sshd")
        self.failure = ""
        self.asked: list[str] = []
        self._lock = threading.Lock()

    def __call__(self, view: View) -> Answer:
        with self._lock:
            self.asked.append(view.noun)
            if self.failure:
                raise ServeError(self.failure)
            entries = tuple(
                Entry(
                    (pid,),
                    {"pid": pid, "process": name, "group": f"{view.noun}-{name}"},
                    counters(tcp_receive_bytes=1009 * pid * len(self.asked)),
                )
                for pid, name in enumerate(self.names, 1)
            )
            return Answer(True, float(len(self.asked)), 1, entries)


class Seen:
    """What stands on the screen."""

    def __init__(self, pilot: Pilot[int]) -> None:
        self.pilot = pilot
        self.app = pilot.app

    @property
    def rows(self) -> list[str]:
        """Return the rows of the table that are seen."""
        found = self.app.query_one(Table)
        return [found.render_line(y).text.rstrip() for y in range(found.size.height)]

    @property
    def names(self) -> list[str]:
        """Return the second word of each."""
        return [row.split()[1] for row in self.rows if row]

    @property
    def titles(self) -> str:
        """Return the line of titles."""
        return self.app.query_one(Titles).render().plain

    @property
    def chosen(self) -> str:
        """Return the title that is marked."""
        found = self.app.query_one(Titles).render()
        (span,) = (span for span in found.spans if span.style.reverse)
        return found.plain[span.start : span.end].strip()

    def words(self, name: str) -> str:
        """Return a line beside the table."""
        return str(self.app.query_one(f"#{name}", Static).render())

    async def until(self, happened: Callable[[], object]) -> None:
        """Wait until it is so."""
        for _ in range(PATIENCE):
            if happened():
                return
            await self.pilot.pause(0.01)
        pytest.fail("\n".join((self.words("status"), self.titles, *self.rows)))


def watch(
    exporter: Exporter,
    story: Callable[[Seen], Awaitable[Any]],
    *,
    size: tuple[int, int] = (120, 24),
) -> Top:
    """Run the screen through a story."""

    async def run() -> Top:
        choice = Choice.make("processes", "PID", wanted="", reverse=False)
        app = Top(exporter, choice, SECONDS)
        async with app.run_test(size=size) as pilot:
            await story(Seen(pilot))
        return app

    return asyncio.run(run())


def test_keys_of_views() -> None:
    """Each shows its own; rows of another view are not mixed in."""

    async def story(seen: Seen) -> None:
        for key, noun in (
            *(("t", "threads"), ("s", "sockets"), ("h", "hosts"), ("e", "exits")),
            *(("g", "groups"), ("p", "processes")),
        ):
            await seen.pilot.press(key)
            await seen.until(lambda noun=noun: seen.words("status").startswith(noun))
            await seen.until(lambda: any(seen.rows))
            assert exporter.asked[-1] == noun
        assert seen.names == ["curl", "nginx", "sshd"]

    exporter = Exporter()
    watch(exporter, story)


def test_keys_of_order() -> None:
    """The column to the right, to the left, the other direction."""

    async def story(seen: Seen) -> None:
        await seen.until(lambda: seen.names == ["curl", "nginx", "sshd"])
        assert seen.chosen == "PID"
        await seen.pilot.press("r")
        await seen.until(lambda: seen.names == ["sshd", "nginx", "curl"])
        await seen.pilot.press(">", "right")
        await seen.until(lambda: seen.chosen == "BANDWI")
        await seen.until(lambda: seen.names == ["sshd", "nginx", "curl"])
        await seen.pilot.press("<", "left", "left")
        await seen.until(lambda: seen.chosen == "UNIT")
        assert "UNIT" in seen.titles

    watch(Exporter(), story)


def test_filter() -> None:
    """It takes effect as it is written, letters that are keys elsewhere too; Escape clears it."""

    async def story(seen: Seen) -> None:
        await seen.until(lambda: len(seen.names) == 3)
        await seen.pilot.press("slash", *"GIN")
        await seen.until(lambda: seen.names == ["nginx"])
        assert "1 of 3" in seen.words("status")
        await seen.pilot.press("enter", "r")
        await seen.until(lambda: "/GIN" in seen.words("status"))
        assert seen.names == ["nginx"]
        await seen.pilot.press("slash", "z")
        await seen.until(lambda: seen.names == [])
        await seen.pilot.press("escape")
        await seen.until(lambda: seen.names == ["sshd", "nginx", "curl"])
        await seen.pilot.press("slash", *"pq", "escape", "q")

    assert watch(Exporter(), story).return_value == 0


def test_filter_is_edited() -> None:
    """Letters are taken back, or all; what is pasted is text."""

    async def story(seen: Seen) -> None:
        await seen.until(lambda: len(seen.names) == 3)
        await seen.pilot.press("slash", *"sshx", "backspace")
        await seen.until(lambda: seen.names == ["sshd"])
        await seen.pilot.press("ctrl+u")
        await seen.until(lambda: len(seen.names) == 3)
        seen.app.post_message(Paste("curl\nq"))
        await seen.until(lambda: seen.names == ["curl"])
        assert seen.words("keys").startswith("filter: curl_")
        await seen.pilot.press("space", *"\u05d0", "enter")
        assert "/curl \ufffd" in seen.words("status")

    watch(Exporter(), story)


def test_pause() -> None:
    """Nothing is asked until the key is pressed again."""

    async def story(seen: Seen) -> None:
        await seen.until(lambda: any(seen.rows))
        await seen.pilot.press("space")
        await seen.until(lambda: "PAUSED" in seen.words("status"))
        await seen.pilot.pause(2 * SECONDS)
        asked = len(exporter.asked)
        await seen.pilot.pause(4 * SECONDS)
        assert len(exporter.asked) == asked
        await seen.pilot.press("space")
        await seen.until(lambda: len(exporter.asked) > asked + 2)
        assert "PAUSED" not in seen.words("status")

    exporter = Exporter()
    watch(exporter, story)


def test_bits_and_help() -> None:
    """Eight times as much; and what the columns mean, until a key is pressed again."""

    async def story(seen: Seen) -> None:
        await seen.until(lambda: seen.rows[0].split()[2:3] == ["1k"])
        await seen.pilot.press("i")
        await seen.until(lambda: seen.rows[0].split()[2:3] == ["8.1k"])
        assert "bits" in seen.words("status")
        await seen.pilot.press("?")
        await seen.until(lambda: seen.app.query_one("#help").display)
        assert "BANDWI BANDWO" in seen.words("help")
        await seen.pilot.press("?")
        await seen.until(lambda: seen.app.query_one(Table).display)

    watch(Exporter(), story)


def test_exporter_that_goes_and_comes() -> None:
    """The screen says so, keeps what it had, and goes on."""

    async def story(seen: Seen) -> None:
        await seen.until(lambda: any(seen.rows))
        exporter.failure = "no exporter answers [red]\x1b[2J"
        trouble = seen.app.query_one("#trouble")
        await seen.until(lambda: trouble.display)
        assert seen.words("trouble") == "no exporter answers [red]\ufffd[2J"
        assert seen.names == ["curl", "nginx", "sshd"]
        exporter.names = ("wget",)
        exporter.failure = ""
        await seen.until(lambda: seen.names == ["wget"])
        assert not trouble.display

    exporter = Exporter()
    watch(exporter, story)


@pytest.mark.parametrize("size", [(40, 10), (1, 1), (20, 3), (500, 60)])
def test_sizes(size: tuple[int, int]) -> None:
    """Whatever fits is shown; each line is as wide as the screen."""

    async def story(seen: Seen) -> None:
        for key in "tshegp":
            await seen.pilot.press(key, ">", ">")
        await seen.pilot.press(*"<<<<")
        await seen.until(lambda: "waiting" not in seen.words("status"))
        found = seen.app.query_one(Table)
        assert all(
            found.render_line(y).cell_length == found.size.width for y in range(found.size.height)
        )
        await seen.pilot.resize_terminal(97, 23)
        await seen.until(lambda: any("nginx" in row for row in seen.rows))

    watch(Exporter(*HOSTILE.values(), "nginx"), story, size=size)


def test_many_rows() -> None:
    """Those beyond the screen are reached, and the place is kept when there is news."""

    async def story(seen: Seen) -> None:
        await seen.until(lambda: seen.names[:1] == ["p1"])
        await seen.pilot.press("end")
        await seen.until(lambda: seen.names[-1:] == ["p1009"])
        asked = len(exporter.asked)
        await seen.until(lambda: len(exporter.asked) > asked + 2)
        assert seen.names[-1] == "p1009"
        await seen.pilot.press("up", "pageup")
        await seen.until(lambda: "p1009" not in seen.names)
        await seen.pilot.press("end")
        exporter.names = ("p1",)
        await seen.until(lambda: seen.names == ["p1"])

    exporter = Exporter(*(f"p{number}" for number in range(1, 1010)))
    watch(exporter, story)


def test_hostile_names_are_shown() -> None:
    """As text, markup too; nothing that a terminal would obey."""

    async def story(seen: Seen) -> None:
        await seen.until(lambda: any("[red]x" in row for row in seen.rows))
        assert all(row.isprintable() for row in seen.rows)
        await seen.pilot.press("slash", *"[red]")
        await seen.until(lambda: "/[red]" in seen.words("status"))
        assert len(seen.names) == 1

    watch(Exporter(*HOSTILE.values()), story)


def test_an_answer_that_comes_too_late() -> None:
    """The screen is going already: nothing is left to be changed."""

    async def run() -> None:
        choice = Choice.make("processes", "PID", wanted="", reverse=False)
        app = Top(Exporter(), choice, 3600)
        async with app.run_test() as pilot:
            await Seen(pilot).until(lambda: Seen(pilot).rows)
            await app.screen.remove_children()
            app.on_arrived(Arrived(News(choice.view, [], "too late")))

    asyncio.run(run())


def test_all_agree_on_widths() -> None:
    """The library takes each character for as wide as we do."""
    for character in map(chr, range(sys.maxunicode + 1)):
        clean = text.clean(character)
        assert cell_len(clean) == text.width(clean), hex(ord(character))
    assert ZERO
