# SPDX-License-Identifier: Apache-2.0
"""The pages in a real Chromium, with a real exporter and known traffic.

No test may leave a complaint of the browser behind: no error, no violation of the policy, no
request to anybody but the exporter.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from exporter import page
from exporter.config import flags
from tests.e2e import browser, neighbours, program, workers
from tests.e2e.browser import Tab
from tests.e2e.test_groups import tree
from tests.kernel.lab import cgroup
from tests.workload import Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.browser import Browser
    from tests.e2e.program import Program

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

SIZE: Final = 1009
DATAGRAMS: Final = 97
PICTURES: Final = "NETATOP_PICTURES"
"""The directory into which the pictures of the documentation are written."""
ALL: Final = ("--collector.threads", "--collector.sockets", "--collector.hosts")
NAMES: Final = "#rows .kind-name button"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """Return a browser."""
    with browser.start() as started:
        yield started


@pytest.fixture(scope="module")
def full() -> Iterator[Program]:
    """Return an exporter that counts all that can be looked at."""
    with program.serve(*ALL) as shared:
        shared.is_ours = False
        yield shared


@pytest.fixture
def tab(chromium: Browser) -> Iterator[Tab]:
    """Return an empty page; when the test is over, the browser has nothing to complain of."""
    opened = Tab(chromium)
    yield opened
    assert opened.complaints == []
    opened.close()


def look(tab: Tab, exporter: Program, **chosen: str) -> None:
    """Open the live view, with something chosen in its address, and wait for its first rates."""
    words = "&".join(f"{name}={value}" for name, value in chosen.items())
    tab.go("about:blank")  # else the same page with another fragment is not loaded anew
    tab.go(f"http://{exporter.address}/top#{words}")
    every(tab, 1)
    tab.expect("document.querySelector('#receive').innerText.includes('/s')")


def every(tab: Tab, seconds: int) -> None:
    """Choose an interval."""
    tab.evaluate(
        f"(() => {{ const e = document.querySelector('#interval'); e.value = '{seconds}';"
        " e.dispatchEvent(new Event('change')); })()"
    )


def expect_names(tab: Tab, names: list[str]) -> None:
    """Wait until these are the rows, in this order."""
    try:
        wait_until(lambda: tab.texts(NAMES) == names, "they are shown")
    except TimeoutError:
        message = f"{names} are not {tab.texts(NAMES)}"
        raise AssertionError(message) from None


# What is sent


@pytest.mark.parametrize("path", page.PATHS)
def test_sent(exporter: Program, path: str) -> None:
    """Whole, with the policy; and not again to who has it already."""
    asset = page.assets("/metrics")[path]
    answer = exporter.ask(path)
    assert (answer.status, answer.body) == (200, asset.body)
    assert answer.headers["Content-Type"] == asset.kind
    for name, value in page.HEADERS.items():
        assert answer.headers.get_all(name) == [value]
    again = exporter.ask(path, if_none_match=answer.headers["ETag"])
    assert (again.status, again.body) == (304, b"")
    assert exporter.ask(path, if_none_match='"another"').status == 200
    assert exporter.ask(path, "POST").status == 405


@pytest.mark.parametrize("path", ["/page/", "/page/../top", "/page/__init__.py", "/top/", "/page"])
def test_nothing_else(exporter: Program, path: str) -> None:
    """Only what is in the table, whatever lies beside it."""
    assert exporter.ask(path).status == 404


def test_index(tab: Tab, full: Program) -> None:
    """What it is, which version, and links that lead somewhere."""
    tab.go(f"http://{full.address}/")
    assert tab.texts("h1") == ["netatop-exporter"]
    links = tab.evaluate("[...document.links].map((link) => link.href)")
    assert f"http://{full.address}/metrics" in links
    for link in links:
        assert full.ask(link.removeprefix(f"http://{full.address}")).status == 200, link
    assert tab.evaluate("document.scripts.length") == 0


# The live view


def test_known_rate(tab: Tab, full: Program, name: str) -> None:
    """The totals are the sender's account, to the byte, and the rate is what he sends."""
    seconds, datagrams, prelude = 4, 997, 7
    length = workers.HEADERS
    with Process(workers.pacer, name, prelude, datagrams, seconds) as pacer:
        pacer.hear()
        look(tab, full, view="processes", search=name)
        expect_names(tab, [name])
        pacer.tell("go")
        expected = datagrams * length / seconds
        unit = "1000 * parseFloat(document.querySelector('.receive .quantity').innerText)"
        tab.expect(f"Math.abs({unit} - {expected}) < {expected / 10}")
        pacer.hear()
        titles = "[...document.querySelectorAll('#rows .kind-total')].map((e) => e.title)"
        sent = f"{(prelude + datagrams) * length:,} bytes"
        tab.expect(f"JSON.stringify({titles}) === JSON.stringify(['{sent}', '{sent}'])")
        found = full.scrape().traffic("group_", group=name, protocol="udp")
        assert found["receive_bytes"] == (prelude + datagrams) * length
        # What is drawn is what was sent: received above the line, transmitted below.
        for direction in ("receive", "transmit"):
            path = f"#rows .kind-plot path.{direction}"
            assert tab.evaluate(f"document.querySelector('{path}').getBBox().height") > 10
        # Opened anew, the plots are as full as before.
        steps = "document.querySelector('#rows .kind-plot path.receive').getAttribute('d')"
        before = tab.evaluate(f"{steps}.split('H').length")
        look(tab, full, view="processes", search=name)
        assert tab.expect(f"{steps} && {steps}.split('H').length") >= before
        pacer.tell("end")


@pytest.mark.parametrize(
    ("noun", "letter"),
    [("groups", "g"), ("processes", "p"), ("threads", "t"), ("sockets", "s"), ("exits", "e")],
)
def test_views(tab: Tab, full: Program, name: str, noun: str, letter: str) -> None:
    """The same packets in each view, by the mouse and by a key; exact to the byte."""
    with Process(workers.talker, name, SIZE) as talker:
        talker.hear()
        talker.tell(DATAGRAMS)
        talker.hear()
        if noun == "exits":
            talker.tell(0)
            talker.wait()
        look(tab, full, search=name, view="hosts")
        tab.click(f"#tab-{noun}")
        expect_names(tab, [name])
        tab.press("h", letter)
        expect_names(tab, [name])
        size = f"{DATAGRAMS * (workers.HEADERS + SIZE):,} bytes"
        titles = "[...document.querySelectorAll('#rows .kind-total')].map((e) => e.title)"
        assert tab.evaluate(titles) == [size, size]
        selected = "document.querySelector('[aria-selected=true]').id"
        assert tab.evaluate(selected) == f"tab-{noun}"
        assert f"view={noun}" in tab.evaluate("location.hash")
        # All that is known of it.
        tab.click(NAMES)
        tab.expect("document.querySelector('#details').open")
        assert tab.texts("#details-name") == [name]
        udp = [f"{n:,}" for n in (DATAGRAMS * (workers.HEADERS + SIZE), DATAGRAMS)]
        assert tab.texts("#details tbody tr:nth-child(2) td") == udp * 2
        tab.press("Escape")
        tab.expect("!document.querySelector('#details').open")


def test_hosts(tab: Tab, full: Program) -> None:
    """The loopback address, which our own questions go to."""
    look(tab, full, view="hosts", search="127.0.0.1")
    expect_names(tab, ["127.0.0.1"])


def test_order(tab: Tab, full: Program, name: str) -> None:
    """By any column, by mouse and by key, told to who can't see it, and kept in the address."""
    with contextlib.ExitStack() as stack:
        for letter, datagrams in (("b", 23), ("a", 7), ("c", 97)):
            talker = stack.enter_context(Process(workers.talker, f"{name}{letter}", 1))
            talker.hear()
            talker.tell(datagrams)
            talker.hear()
        a, b, c = (f"{name}{letter}" for letter in "abc")
        look(tab, full, view="processes", search=name)
        tab.click("th[data-sort='totals.receive_bytes'] button")
        expect_names(tab, [c, b, a])
        sorts = "[...document.querySelectorAll('[aria-sort]')].map((e) => e.ariaSort)"
        assert tab.evaluate(sorts) == ["descending"]
        tab.press("r")
        expect_names(tab, [a, b, c])
        assert tab.evaluate(sorts) == ["ascending"]
        tab.click("th[data-sort='process'] button")
        expect_names(tab, [a, b, c])
        tab.click("th[data-sort='process'] button")
        expect_names(tab, [c, b, a])
        tab.press(">")
        tab.expect("document.querySelector('[aria-sort]').dataset.sort === 'group'")
        expect_names(tab, [a, b, c])
        tab.press("<", "r")
        expect_names(tab, [c, b, a])
        address = tab.evaluate("location.href")
        tab.go("about:blank")
        tab.go(address)
        expect_names(tab, [c, b, a])
        assert tab.evaluate(sorts) == ["descending"]


def test_search(tab: Tab, full: Program, name: str) -> None:
    """As it is typed; Escape shows all again."""
    with Process(workers.talker, f"{name}-x", 1), Process(workers.talker, f"{name}-y", 1):
        for_both = (f"{name}-x", f"{name}-y")
        full.ask("/api/v1/processes")
        look(tab, full, view="processes")
        tab.press("/", *for_both[0].upper())
        tab.expect("document.querySelector('#search').value.length > 3")
        tab.expect("document.querySelector('#empty').innerText.includes('None of ')")
        tab.press("Escape")
        tab.expect("document.querySelectorAll('#rows tr').length > 0")
        assert tab.evaluate("document.querySelector('#search').value") == ""
        assert "search" not in tab.evaluate("location.hash")


def test_keyboard_only(tab: Tab, full: Program, name: str) -> None:
    """Tabs by arrows, buttons by Enter; what has the focus keeps it when rows move."""
    with contextlib.ExitStack() as stack:
        talkers = []
        for letter, datagrams in (("a", 23), ("b", 7)):
            talkers.append(stack.enter_context(Process(workers.talker, f"{name}{letter}", 1)))
            talkers[-1].hear()
            talkers[-1].tell(datagrams)
            talkers[-1].hear()
        look(tab, full, view="groups", search=name)
        tab.evaluate("document.querySelector('#tab-groups').focus()")
        tab.press("ArrowRight")
        tab.expect("document.activeElement.id === 'tab-processes'")
        tab.press("End")
        tab.expect("document.activeElement.id === 'tab-exits'")
        tab.press("Home")
        tab.expect("document.activeElement.id === 'tab-groups'")
        assert tab.evaluate("document.activeElement.matches(':focus-visible')")
        expect_names(tab, [f"{name}a", f"{name}b"])
        tab.evaluate("document.querySelector('#rows tr:last-child button').focus()")
        talkers[1].tell(997)  # now it is the busier one
        talkers[1].hear()
        expect_names(tab, [f"{name}b", f"{name}a"])
        assert tab.evaluate("document.activeElement.innerText") == f"{name}b"
        tab.press("Enter")
        tab.expect("document.querySelector('#details').open")
        assert tab.texts("#details-name") == [f"{name}b"]
        tab.press("Escape", "?")
        tab.expect("document.querySelector('#keys').open")
        tab.press("Escape")
        for talker in talkers:
            talker.tell(0)


def test_pause(tab: Tab, full: Program, name: str) -> None:
    """Nothing is asked until it goes on."""
    with Process(workers.talker, name, 1) as talker:
        talker.hear()
        talker.tell(7)
        talker.hear()
        look(tab, full, view="groups", search=name)
        tab.press(" ")
        tab.expect("document.querySelector('#state').innerText === 'paused'")
        before = len(tab.requests)
        time.sleep(1.3)
        assert len(tab.requests) == before
        tab.press(" ")
        tab.expect("document.querySelector('#state').innerText === 'live'")
        wait_until(lambda: len(tab.requests) > before + 1, "it asks again")
        talker.tell(0)


def test_bits(tab: Tab, full: Program) -> None:
    """The same rates, times eight, and kept."""
    look(tab, full)
    tab.press("i")
    tab.expect("document.querySelector('#receive').innerText.includes('bit/s')")
    look(tab, full)
    tab.expect("document.querySelector('#receive').innerText.includes('bit/s')")
    tab.click("#bits")
    tab.expect("!document.querySelector('#receive').innerText.includes('bit/s')")


def test_themes(tab: Tab, full: Program) -> None:
    """As the system has it, until something else is chosen, which is kept."""
    ground = "getComputedStyle(document.body).backgroundColor"
    for path in ("/", "/top"):
        tab.go(f"http://{full.address}{path}")
        tab.prefer("light")
        light = tab.evaluate(ground)
        tab.prefer("dark")
        dark = tab.evaluate(ground)
        assert light != dark
    tab.click("#theme")
    tab.expect(f"{ground} === '{light}'")
    tab.go(f"http://{full.address}/top")
    assert tab.evaluate(ground) == light
    tab.prefer("light")
    tab.click("#theme")
    tab.expect(f"{ground} === '{dark}'")
    tab.click("#theme")
    tab.expect(f"{ground} === '{light}'")
    assert tab.evaluate("localStorage.getItem('theme')") == "system"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(tab: Tab, full: Program, scheme: str) -> None:
    """What is to be read can be: 4.5 to 1 at least (WCAG 2.2, 1.4.3)."""
    tab.prefer(scheme)
    look(tab, full)
    luminance = """
        const channel = (c) => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4;
        const luminance = (css) => {
            const [r, g, b] = css.match(/[\\d.]+/g).map(Number).map(channel);
            return .2126 * r + .7152 * g + .0722 * b;
        };
        const style = (e) => getComputedStyle(e);
        const behind = (e) => /, 0\\)|transparent/.test(style(e).backgroundColor)
            ? behind(e.parentElement) : style(e).backgroundColor;
    """
    for selector in (".quiet", "thead button", ".open", "#tabs button", ".quantity small"):
        ratio = tab.evaluate(
            f"(() => {{ {luminance} const e = document.querySelector({json.dumps(selector)});"
            " const [a, b] = [luminance(style(e).color), luminance(behind(e))];"
            " return (Math.max(a, b) + .05) / (Math.min(a, b) + .05); })()"
        )
        assert ratio >= 4.5, selector


@pytest.mark.parametrize("width", [390, 768, 1024, 1280, 1920])
def test_widths(tab: Tab, full: Program, name: str, width: int) -> None:
    """Nothing sticks out of the window, in no view; titles and numbers are whole."""
    tab.size(width, 800)
    with (
        cgroup() as root,
        tree(root, "lxc.payload.web") as place,
        Process(workers.talker, name, SIZE, cgroup=place) as talker,
        Process(workers.leave, name, -signal.SIGKILL, cgroup=place) as process,
    ):
        process.wait()
        talker.hear()
        talker.tell(DATAGRAMS)
        talker.hear()
        look(tab, full, view="exits")
        for letter in "gptshe":
            tab.press(letter)
            tab.expect("document.querySelectorAll('#rows tr').length > 0")
            assert tab.evaluate("document.documentElement.scrollWidth") <= width
            cut = tab.evaluate(
                "[...document.querySelectorAll('#table :is(thead th, td.number, .kind-outcome)')]"
                ".filter((e) => e.offsetParent && e.scrollWidth > e.clientWidth + 1)"
                ".map((e) => e.innerText)"
            )
            assert cut == [], letter
            cut = tab.evaluate(
                "[...document.querySelectorAll('#rows .open')].filter((e) =>"
                " e.scrollWidth > e.clientWidth && e.clientWidth < 60).map((e) => e.innerText)"
            )
            assert cut == [], letter


HOSTILE: Final = (
    (b"<img src=x:x>", "<img src=x:x>"),
    (b"<b>bold</b>&amp;", "<b>bold</b>&amp"),
    (b"'\"><script>a()", "'\"><script>a()"),
    ("\u202eexe.gnp".encode(), "\ufffdexe.gnp"),
    ("\u05d0\u05d1\u05d2 1".encode(), "\u05d0\u05d1\u05d2 1"),
    (b"\x1b[31m\x07\x00", "\ufffd[31m\ufffd"),
    (b"\xff\xfe\xfd", "\ufffd\ufffd\ufffd"),
    (b"  a  b ", "  a  b "),
    ("a\u0300\u0301\u0302\u0303\u0304".encode(), "a\u0300\u0301\u0302\u0303\u0304"),
    (b"${alert(1)}", "${alert(1)}"),
)


def test_hostile_names(tab: Tab, full: Program) -> None:
    """Real processes with such names, in a container that is called so too: text, and no more."""
    evil = "<img src=x onerror=document.title=1>"
    with (
        cgroup() as root,
        tree(root, f"lxc.payload.{evil}") as place,
        contextlib.ExitStack() as stack,
    ):
        pids = {}
        for name, shown in HOSTILE:
            talker = stack.enter_context(Process(workers.talker, name, 1, cgroup=place))
            talker.hear()
            talker.tell(7)
            talker.hear()
            pids[talker.pid] = shown
        for letter in "pts":
            look(tab, full, search=evil.replace(" ", "%20"), view="exits")
            tab.press(letter)
            tab.expect(f"document.querySelectorAll('#rows tr').length >= {len(HOSTILE)}")
            found = tab.evaluate(
                "[...document.querySelectorAll('#rows .open')].map((e) => e.textContent)"
            )
            assert sorted(found) == sorted(pids.values()), letter
            assert (
                tab.evaluate(
                    "document.querySelectorAll('#rows :is(img, script, b, a, iframe)').length"
                )
                == 0
            )
            assert tab.evaluate(
                "[...document.querySelectorAll('#rows bdi')].every((e) =>"
                " getComputedStyle(e).unicodeBidi === 'isolate')"
            )
            # Each pid stands to the right of its name, whatever direction that is written in.
            assert tab.evaluate(
                "[...document.querySelectorAll('#rows .open + small')].every((e) =>"
                " e.getBoundingClientRect().left >="
                " e.previousSibling.getBoundingClientRect().right)"
            )
            assert letter == "s" or evil in tab.texts("#rows .kind-place")
        tab.press("g")
        expect_names(tab, [evil])  # a container is a group
        tab.click(NAMES)
        tab.expect("document.querySelector('#details').open")
        assert evil in tab.texts("#details dd")
        assert tab.evaluate("document.querySelectorAll('#details img').length") == 0
        assert tab.evaluate("document.title").startswith("Live view")


def test_not_counted(tab: Tab, exporter: Program) -> None:
    """The page says how to have it counted."""
    look(tab, exporter, view="threads")
    tab.expect("!document.querySelector('#empty').hidden")
    (text,) = tab.texts("#empty")
    assert text.startswith("Threads are not counted; start the exporter with --collector.threads")


def test_exporter_that_goes_and_comes(chromium: Browser, name: str) -> None:
    """The page says so, keeps what it had, and goes on."""
    tab = Tab(chromium)
    with Process(workers.talker, name, 1) as talker:
        talker.hear()
        with program.serve() as first:
            talker.tell(7)
            talker.hear()
            look(tab, first, search=name, view="groups")
            expect_names(tab, [name])
            address = first.address
        tab.expect("!document.querySelector('#trouble').hidden")
        assert tab.texts("#trouble")[0].startswith("The exporter does not answer: ")
        assert tab.texts(NAMES) == [name]
        with program.start("--web.listen-address", address) as again:
            tab.expect("document.querySelector('#trouble').hidden")
            talker.tell(23)
            talker.hear()
            expect_names(tab, [name])
            assert again.end() == 0
    tab.close()


def test_crowd(tab: Tab, full: Program, name: str) -> None:
    """Of more than a thousand processes it asks for a part, and draws that in an instant."""
    processes = 1009
    with Process(workers.crowd, name, processes, 1) as crowd:
        crowd.hear()
        look(tab, full, view="processes", search=name)
        tab.expect("document.querySelectorAll('#rows tr').length === 100")
        wait_until(lambda: tab.texts("#shown")[0].startswith("100 of 1,"), "all are counted")
        tab.click("#more-button")
        tab.expect("document.querySelectorAll('#rows tr').length === 200")
        quickest = tab.evaluate(
            "new Promise((done) => { const begin = performance.now();"
            " document.querySelector('#bits').click(); requestAnimationFrame(() =>"
            " setTimeout(() => done(performance.now() - begin))); })"
        )
        assert quickest < 500
        tab.click("#bits")


def test_only_the_exporter(tab: Tab, full: Program) -> None:
    """Nobody else is asked for anything."""
    look(tab, full)
    tab.go(f"http://{full.address}/")
    asked = [url for url in tab.requests if url != "about:blank"]
    assert asked
    assert all(url.startswith(f"http://{full.address}/") for url in asked), asked


def test_the_policy_holds(chromium: Browser, full: Program) -> None:
    """What a hole in the page would try is refused by the browser itself."""
    tab = Tab(chromium)
    look(tab, full)
    for attempt, directive in (
        ("const s = document.createElement('script'); s.text = 'x'; document.head.append(s)", ""),
        ("document.body.innerHTML = '<p>'", "require-trusted-types-for"),
        ("fetch('http://127.0.0.2:1/').catch(() => 0)", "connect-src"),
        ("new Image().src = 'http://127.0.0.2:1/'", "img-src"),
    ):
        violated = tab.evaluate(
            "new Promise((done) => { document.addEventListener('securitypolicyviolation',"
            " (event) => done(event.effectiveDirective), {once: true});"
            f" try {{ {attempt} }} catch {{ }} }})"
        )
        assert violated.startswith(directive or ("require-trusted-types-for", "script-src"))
    tab.close()


def test_rebinding(chromium: Browser, full: Program) -> None:
    """A site whose name comes to resolve to this host is shown nothing."""
    tab = Tab(chromium)
    for path in ("/top", "/metrics", "/api/v1/groups"):
        tab.go(f"http://{browser.HOSTILE}:{full.port}{path}")
        assert tab.evaluate("document.body.innerText").startswith(f"Host: found '{browser.HOSTILE}")
    asked = "fetch('/metrics').then((answer) => answer.status)"
    assert tab.evaluate(asked) == 421
    tab.close()


# Pictures


def test_pictures(chromium: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The live view of a host on which there is something to see, as the documentation shows it.

    `make pictures` writes them where that has them, and waits until the plots of a minute are full.
    """
    wanted = os.environ.get(PICTURES)
    folder = Path(wanted) if wanted else tmp_path
    seconds = 55 if wanted else 3
    if not program.listens(flags.DEFAULT_PORT):
        monkeypatch.setattr(program, "free_port", lambda: flags.DEFAULT_PORT)
    with (
        cgroup() as place,  # not what else runs here
        neighbours.around(place),
        program.serve(*ALL, "--cgroup-path", str(place)) as exporter,
    ):
        tab = Tab(chromium)
        tab.size(1280, 720)
        tab.prefer("light")
        look(tab, exporter, view="processes")
        time.sleep(seconds)
        for scheme in ("light", "dark"):
            tab.prefer(scheme)
            time.sleep(0.5)  # transitions
            tab.picture(folder / f"page-{scheme}.png")
        shown = {name.split("\n")[0] for name in tab.texts(NAMES)}
        assert {talk.server for talk in neighbours.TALKS} <= shown
        tab.size(390, 760)
        time.sleep(0.5)
        tab.picture(folder / "page-phone.png")
        assert tab.complaints == []
        tab.close()
    for picture in ("light", "dark", "phone"):
        path = folder / f"page-{picture}.png"
        assert path.read_bytes().startswith(b"\x89PNG")
        assert 10_000 < path.stat().st_size < 200_000
