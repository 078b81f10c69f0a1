# SPDX-License-Identifier: Apache-2.0
"""`top` without its screen: rates, order, choice, and how names and numbers are written."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.api import processes, terms
from exporter.client import Client
from exporter.config.flags import Address
from exporter.errors import ConfigError, ServeError
from exporter.model import ZERO
from exporter.top import plain, source, table, text
from exporter.top.choice import Choice
from exporter.top.views import VIEWS
from tests.unit.facts import counters, ledger, process, snapshot

if TYPE_CHECKING:
    from exporter.model import Counters, TaskRecord
    from exporter.top.table import Answer, Row

PROCESSES = VIEWS["processes"]
HOSTILE = {
    "escape sequences": "\x1b[2J\x1b]0;owned\x07",
    "eight-bit ones": "\x9b2J",
    "markup": "[red]x[/red][@click=app.quit]",
    "right to left": "\u202egnp.exe",
    "letters from right to left": "\u05d0\u05d1 12 \u0627",
    "wide": "\u65e5\u672c\u8a9e" * 9,
    "drawn over others": "z" + "\u0300\u0301" * 40,
    "nothing to be seen": "\u200b\u2060\ufeff",
    "lines": "a\nb\rc\td\u2028e",
    "half a character": "\ud800",
    "long": "n" * 4099,
    "emoji": "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f",
    "private": "\ue000\U0010ffff",
}


def answer(*records: TaskRecord, now: int = 100) -> Answer:
    """Return what an exporter answers that has these processes."""
    body = processes.answer(ledger().report(snapshot(*records, now=now)), "")
    return table.parse(PROCESSES, json.loads(body))


def row(name: str = "p", totals: Counters = ZERO, **fields: Any) -> Row:
    """Return a row of the processes."""
    return table.Row(table.Entry((fields.get("pid"),), {"process": name, **fields}, totals), None)


def choice(sort: str | None = None, **changes: Any) -> Choice:
    """Return what flags would say."""
    return Choice.make("processes", sort, **{"wanted": "", "reverse": False} | changes)


# Rates


def udp(packets: int) -> Counters:
    """Return the counters of a process that has sent so many datagrams of 101 bytes."""
    return counters(udp_transmit_packets=packets, udp_transmit_bytes=packets * 101)


def rates(before: Answer, now: Answer) -> list[Counters | None]:
    """Return what each process has used in the time between, not yet by second."""
    seconds = now.time - before.time
    found = [
        r.rates and tuple(round(n * seconds) for n in r.rates) for r in table.rows(before, now)
    ]
    return [*found]


def test_rates() -> None:
    """In each second of the time between the answers, however long that is."""
    before = answer(process(10, counters=udp(23)), process(11, counters=udp(7)))
    now = answer(process(11, counters=udp(7)), process(10, counters=udp(23 + 97)), now=107)
    still, busy = table.rows(before, now)
    assert still.rates == tuple(map(float, ZERO))
    assert busy.rates == tuple(n / 7 for n in udp(97))
    assert busy.entry.totals == udp(120)


def test_columns_of_traffic() -> None:
    """Each tells its own of sixteen numbers, or the sum of those of all protocols."""
    totals = tuple(3**place for place in range(16))
    found = table.Row(table.Entry((1,), {}, totals), tuple(map(float, totals)))
    told = {column.title: column.value(found) for column in PROCESSES.columns}
    sums = [sum(totals[place::4]) for place in range(4)]
    assert [told[t] for t in ("PACKRCV", "BYTESRCV", "PACKSND", "BYTESSND")] == sums
    assert [told[t] for t in ("PCKI", "BANDWI", "PCKO", "BANDWO")] == sums
    for index, name in enumerate(("TCP", "UDP", "ICM", "OTH")):
        received, transmitted = totals[4 * index], totals[4 * index + 2]
        assert (told[f"{name}RCV"], told[f"{name}SND"]) == (received, transmitted)


def test_the_first_answer_has_no_rates() -> None:
    """Nobody knows how long it took."""
    (only,) = table.rows(None, answer(process(10)))
    assert only.rates is None
    words = [plain.cell(column, column.value(only)) for column in PROCESSES.columns]
    assert words[2:4] == ["-", "-"]


def test_a_new_process_has_used_all_it_has() -> None:
    """It was not there before."""
    assert rates(answer(), answer(process(10, counters=udp(23)), now=103)) == [udp(23)]


def test_a_pid_that_is_used_again() -> None:
    """Is another process: it does not go on from the counters of the first, nor fall."""
    for former in (23, 7, 1009):
        before = answer(process(10, start=5, counters=udp(former)))
        now = answer(process(10, start=6, counters=udp(97)), now=103)
        assert rates(before, now) == [udp(97)]


def test_counters_that_begin_anew() -> None:
    """Also if one of sixteen has fallen: all that there is is new, and nothing is negative."""
    before = answer(process(10, counters=counters(tcp_receive_bytes=5, udp_receive_bytes=101)))
    fallen = counters(tcp_receive_bytes=7, udp_receive_bytes=97)
    now = answer(process(10, counters=fallen), now=103)
    assert rates(before, now) == [fallen]


def test_another_run_of_the_exporter() -> None:
    """What it had counted before we do not know, so there are no rates once."""
    before = answer(process(10, counters=udp(7)))
    now = answer(process(10, counters=udp(1009)), now=103)
    assert [r.rates for r in table.rows(before._replace(run=1), now)] == [None]


@pytest.mark.parametrize("now", [100, 99])
def test_no_time_between(now: int) -> None:
    """Two answers of one instant, or a clock that goes back, divide by nothing."""
    before = answer(process(10, counters=udp(7)))
    assert [r.rates for r in table.rows(before, answer(process(10), now=now))] == [None]


@given(st.lists(st.tuples(*[st.integers(0, 1 << 60)] * 16), min_size=2, max_size=2))
def test_never_negative(totals: list[Counters]) -> None:
    """Whatever the exporter says."""
    before, now = (
        table.Answer(True, time, 1, (table.Entry((1,), {}, found),))
        for time, found in enumerate(totals)
    )
    ((_, found),) = table.rows(before, now)
    assert found is not None
    assert min(found) >= 0


# Answers that are none


@pytest.mark.parametrize(
    "body",
    [
        *("", "[]", "null", "{}", '{"processes": 1}', '{"processes": [1]}', '{"processes": {}}'),
        *('{"processes": [{}]}', '{"processes": [], "time_seconds": NaN}', "[" * 100_000),
        '{"processes": [], "time_seconds": "soon"}',
    ],
)
def test_rubbish(monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """Somebody else answers: a sentence, no stack trace."""
    monkeypatch.setattr("exporter.client.Client.fetch", lambda _client, _path: body)
    if body == '{"processes": {}}':
        assert source.ask(Client(Address("h", 1)), PROCESSES).entries == ()
        return
    with pytest.raises(ServeError, match="is no list of processes; is it netatop-exporter's"):
        source.ask(Client(Address("h", 1)), PROCESSES)


@pytest.mark.parametrize("number", ["1", 1.5, None, True, [1]])
def test_counters_are_whole_numbers(number: object) -> None:
    """An entry with any other counter is refused."""
    good = {"pid": 1, "start_time_seconds": 1.5, **terms.traffic(ZERO)}
    assert table.parse(PROCESSES, {"processes": [good]}).entries
    good["icmp"]["transmit_bytes"] = number  # type: ignore[index]
    with pytest.raises(TypeError):
        table.parse(PROCESSES, {"processes": [good]})


# Order and choice


@pytest.mark.parametrize(
    ("sort", "reverse", "pids"),
    [
        ("pid", False, [7, 10, 30]),
        ("PID", True, [30, 10, 7]),
        ("BYTESSND", False, [30, 7, 10]),
        ("BYTESSND", True, [10, 7, 30]),
        ("PROCESS", False, [10, 7, 30]),
        ("PROCESS", True, [30, 7, 10]),
        ("UNIT", False, [10, 30, 7]),
        ("BANDWI", False, [10, 30, 7]),
    ],
)
def test_order(sort: str, reverse: bool, pids: list[int]) -> None:
    """Numbers from the greatest, names and ids from the least; what is not known stays last."""
    rows = [
        row("Alpha", udp(3), pid=10),
        row("gamma", udp(1009), pid=30),
        row("beta", udp(97), pid=7),
    ]
    found = choice(sort, reverse=reverse).select(rows)
    assert [r.entry.fields["pid"] for r in found] == pids


def test_what_is_unknown_is_last() -> None:
    """In both directions."""
    rows = [row(pid=None), row(pid=7), row(pid="8"), row(pid=3)]
    for reverse, expected in ((False, [3, 7, None, "8"]), (True, [7, 3, None, "8"])):
        found = choice("PID", reverse=reverse).select(rows)
        assert [r.entry.fields["pid"] for r in found] == expected


@pytest.mark.parametrize(
    ("wanted", "pids"),
    [("", [1, 2, 3]), ("CURL", [1]), ("root", [1, 3]), ("x.service", [2]), ("[", [3]), ("no", [])],
)
def test_filter(wanted: str, pids: list[int]) -> None:
    """Any name will do, in upper or lower case; it is no expression."""
    rows = [
        row("curl", pid=1, user="root"),
        row("p", pid=2, unit="x.service", user="daemon"),
        row("a[b", pid=3, user="root"),
    ]
    found = choice("PID", wanted=wanted).select(rows)
    assert [r.entry.fields["pid"] for r in found] == pids


def test_keys() -> None:
    """Each view keeps its order; beyond the last column is the first."""
    chosen = choice()
    assert chosen.column.title == "BANDWI"
    chosen = chosen.move(1).flip("reverse").flip("bits")
    assert (chosen.column.title, chosen.reverse, chosen.bits) == ("BANDWO", True, True)
    other = chosen.show("exits")
    assert (other.column.title, other.reverse) == ("ENDED", False)
    assert other.show("processes").column.title == "BANDWO"
    assert choice("PID").move(-1).column.title == PROCESSES.titles[-1]
    assert choice("PID").move(-1).move(1).column.title == "PID"


def test_unknown_column() -> None:
    """The message tells those that there are."""
    with pytest.raises(ConfigError, match="--sort: found 'RX'; accepted for processes are PID, "):
        choice("RX")


@pytest.mark.parametrize("view", VIEWS.values(), ids=str)
def test_views(view: table.View) -> None:
    """Titles are unique, keys as well, and a row without fields can be written."""
    assert len(set(view.titles)) == len(view.columns)
    assert len({v.key for v in VIEWS.values()}) == len(VIEWS)
    assert view.sort in view.titles
    empty = table.Row(table.Entry((), {}, ZERO), None)
    for column in view.columns:
        assert isinstance(plain.cell(column, column.value(empty)), str)
        assert text.width(column.title) <= column.width


@given(st.sampled_from(list(VIEWS.values())), st.integers(1, 300), st.data())
def test_window(view: table.View, cells: int, data: st.DataObject) -> None:
    """The chosen column is seen if there is room for it at all, and no more than fits."""
    chosen = data.draw(st.integers(0, len(view.columns) - 1))
    found = table.window(view.columns, view.fixed, chosen, cells)
    fixed = sum(column.width + 1 for column in view.columns[: view.fixed])
    used = sum(view.columns[place].width + 1 for place in found) - 1
    assert not found or fixed + used <= cells
    if fixed + view.columns[chosen].width <= cells:
        assert chosen < view.fixed or chosen in found
    if cells > 500:
        assert len(found) == len(view.columns) - view.fixed


# Text


@pytest.mark.parametrize("name", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_names(name: str) -> None:
    """Whatever it is takes its column and no more, and moves nothing."""
    line = plain.line([text.clean(name), "7"], PROCESSES.columns[1:3], [15, 6])
    assert text.width(line) == 22
    assert line.endswith("      7")
    assert line.isprintable()
    rows = list(plain.lines(PROCESSES, [row(name, pid=1)]))
    assert len(rows) == 2
    assert all(line.isprintable() for line in rows)


@given(st.text(st.characters(exclude_categories=())))
def test_any_name(name: str) -> None:
    """The terminal and we agree how wide it is, and it fits wherever it is put."""
    clean = text.clean(name)
    assert clean.isprintable()
    assert "\x1b" not in clean
    for cells in (0, 1, 2, 15):
        assert text.width(text.fit(clean, cells)) == cells
        assert text.width(text.fit(clean, cells, right=True)) == cells


def test_names_that_are_good() -> None:
    """Stay as they are."""
    for name in ("nginx: worker", "Grüße", "λ", "日本", "e\u0301"):
        assert text.clean(name) in {name, "\u00e9"}
    assert text.fit("nginx: worker", 8) == "nginx: …"
    assert text.fit("日本語", 4) == "日… "
    assert text.fit("4099", 6, right=True) == "  4099"


@pytest.mark.parametrize(
    ("number", "short"),
    [
        *(
            (0, "0"),
            (0.04, "0.0"),
            (0.3, "0.3"),
            (7, "7"),
            (9.96, "10"),
            (23.4, "23"),
            (997, "997"),
        ),
        *((999.4, "999"), (999.6, "1k"), (1009, "1k"), (4099, "4.1k"), (99_960, "100k")),
        *((12_345_678, "12.3M"), (1e9, "1G"), (1 << 62, "4.6E"), (1e24, "1000000E")),
    ],
)
def test_quantity(number: float, short: str) -> None:
    """Short, and no digit that is not one."""
    assert text.quantity(number) == (short if short != "0.0" else "0")


@given(st.floats(0, 1e20))
def test_quantities_are_near(number: float) -> None:
    """And fit into their column."""
    short = text.quantity(number)
    prefix = short.lstrip("0123456789.")
    value = float(short.removesuffix(prefix)) * 1000 ** text.PREFIXES.index(prefix)
    assert value == pytest.approx(number, rel=0.06, abs=0.06)
    assert len(short) <= 6


def test_bits() -> None:
    """Only what is a bandwidth."""
    bandwidth, rate = PROCESSES.columns[2], PROCESSES.columns[4]
    assert plain.cell(bandwidth, 1009.0, bits=True) == "8.1k"
    assert plain.cell(rate, 1009.0, bits=True) == "1k"


def test_batch_is_exact() -> None:
    """Nothing is cut or rounded."""
    totals = counters(tcp_receive_bytes=1 << 62, udp_receive_bytes=1)
    header, line = plain.lines(PROCESSES, [row("n" * 40, totals, pid=4194303)])
    found = dict(zip(header.split(), line.split(), strict=True))
    assert found["BYTESRCV"] == str((1 << 62) + 1)
    assert (found["PROCESS"], found["PID"], found["BANDWI"]) == ("n" * 40, "4194303", "-")
