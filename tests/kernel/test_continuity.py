# SPDX-License-Identifier: Apache-2.0
"""From one exporter to the next on the same pins: nothing falls, nothing is missed."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from exporter.errors import PinError
from exporter.kernel import pins, succession
from exporter.kernel.core_loader import CoreTracer, Options
from exporter.kernel.pins import Pins
from tests import workload
from tests.e2e import attachments
from tests.kernel.lab import Lab, open_lab, readable
from tests.workload import CLOSED_PORT, PORT, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.kernel, pytest.mark.needs("pins")]


@pytest.fixture
def options(bpffs: Path) -> Options:
    """Pinned."""
    return Options(pin_path=str(bpffs / "netatop"))


@pytest.fixture
def lab(options: Options) -> Iterator[Lab]:
    """Open a lab whose exporter pins."""
    with open_lab(options) as opened:
        yield opened


def _send(lab: Lab, datagrams: int, size: int = 101, port: int = CLOSED_PORT) -> int:
    sender = lab.start(workload.send_udp, lab.right.ipv4, port, datagrams, size, at=lab.left)
    sender.wait()
    return sender.pid


def _sent(datagrams: int, size: int = 101) -> dict[str, tuple[int, int]]:
    return {"udp transmit": (datagrams, datagrams * (28 + size))}


@pytest.fixture(params=["same", "another"])
def successor(request: pytest.FixtureRequest, options: Options) -> Options:
    """Return the options of the next; `another` can't share the programs and moves the totals."""
    return options._replace(list_sockets=request.param == "another")


def test_pause(lab: Lab, successor: Options) -> None:
    """What is sent while no exporter runs is counted, and who ends meanwhile is in the list."""
    start = lab.read()
    before = _send(lab, 23)
    through = lab.start(
        workload.open_and_send_udp, lab.right.ipv4, CLOSED_PORT, 13, 211, at=lab.left
    )
    through.hear()
    lab.read()
    lab.tracer.close()
    meanwhile = _send(lab, 19)
    lab.trace(successor)
    through.tell()
    through.wait()

    passed = lab.since(start)
    passed.assert_law("udp")
    assert passed.lost == {}
    assert readable(passed.processes[before]) == _sent(23)
    assert readable(passed.processes[meanwhile]) == _sent(19)
    assert readable(passed.processes[through.pid]) == _sent(13, 211)
    ended = passed.records[meanwhile]
    assert ended.end_ns > ended.start_ns
    assert (ended.outcome, ended.sockets, ended.threads) == ("exit", 1, 1)


@pytest.mark.parametrize("program", ["count_receive", "count_transmit"])
def test_severed(lab: Lab, successor: Options, program: str) -> None:
    """What an administrator has detached, pinned or not, is attached again by the next."""
    start = lab.read()
    before = _send(lab, 23)
    attachments.sever(os.getpid(), program)
    lab.tracer.close()
    lab.trace(successor)
    assert {status.attached for status in lab.tracer.programs() if status.name == program} == {True}
    after = _send(lab, 19)
    lab.tracer.close()
    lab.trace(successor)  # and it is what the one after it finds
    last = _send(lab, 13)

    passed = lab.since(start)
    passed.assert_law("udp")
    for pid, datagrams in ((before, 23), (after, 19), (last, 13)):
        assert readable(passed.processes[pid]) == _sent(datagrams)


def test_under_load(lab: Lab, successor: Options) -> None:
    """Programs change places while packets pass: each is counted once."""
    start = lab.read()
    receiver = lab.start(workload.drain_udp, lab.right.ipv4, at=lab.right)
    receiver.hear()
    sender = lab.start(workload.flood_udp, lab.right.ipv4, at=lab.left)
    sender.hear()
    for number in range(6):
        lab.tracer.close()
        # The other kind is another one than the last each time.
        lab.trace(successor._replace(list_sockets=successor.list_sockets and number % 2 == 0))
    sender.tell()
    sent = sender.hear()
    sender.wait()

    passed = lab.since(start)
    receiver.kill()
    assert passed.lost == {}
    assert readable(passed.processes[sender.pid])["udp transmit"] == (sent, sent * 33)
    assert readable(passed.seen[lab.left.namespace], "udp")["udp transmit"][0] == sent
    passed.assert_law("udp")


def _killed_at(module: Any, name: str, options: Options, nth: int = 0) -> None:
    """Have a process take over, and end by SIGKILL when it calls something for the nth time."""
    child = os.fork()
    if child == 0:
        try:
            real: Callable[..., Any] = getattr(module, name)
            calls = iter(range(1 << 30))

            def stop(*arguments: Any, **named: Any) -> Any:
                if next(calls) == nth:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*arguments, **named)

            setattr(module, name, stop)
            CoreTracer(options)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert status == signal.SIGKILL, f"{name} was not called"


MOMENTS = [
    (succession, "_prepare", 0),
    (pins, "pin", 7),
    (pins, "write_text", 0),
    (succession, "_switch", 0),
    (succession, "_attach_rest", 0),
    (succession, "_adopt_nobodys", 0),
    (succession, "_adopt", 0),
    (succession, "_adopt", 2),
    (pins.Generation, "unpin_links", 0),
    (Pins, "commit", 0),
    (pins.Generation, "remove", 0),
]


@pytest.mark.parametrize(
    ("module", "name", "nth"), MOMENTS, ids=[f"{name}-{nth}" for _, name, nth in MOMENTS]
)
def test_killed_while_moving(lab: Lab, options: Options, module: Any, name: str, nth: int) -> None:
    """Whoever comes next does the rest: everything is counted once, whenever it was killed.

    But for strays, whose programs can't change places in one step.
    """
    start = lab.read()
    receiver = lab.start(workload.drain_udp, lab.right.ipv4, at=lab.right)
    receiver.hear()
    before = _send(lab, 23, port=PORT)
    lab.read()
    lab.tracer.close()
    another = options._replace(list_sockets=True)
    _killed_at(module, name, another, nth)
    meanwhile = _send(lab, 19, port=PORT)
    lab.trace(another)

    passed = lab.since(start)
    assert readable(passed.processes[before]) == _sent(23)
    assert readable(passed.processes[meanwhile]) == _sent(19)
    passed.assert_law("udp")
    assert passed.lost == {}


def test_killed_while_beginning(options: Options) -> None:
    """What a first start has left half done is cleared away by the next."""
    before = attachments.all_there().links
    _killed_at(pins, "write_text", options)
    half = attachments.all_there().links - before
    assert half
    with CoreTracer(options):
        wait_until(lambda: not half & attachments.all_there().links, "the half is gone")


def test_ledger_memory(options: Options) -> None:
    """What is remembered is there for the next, whole, however long it is."""
    memory = bytes(range(256)) * 40_000
    with CoreTracer(options) as tracer:
        assert tracer.recall() == b""
        tracer.remember(b"short")
        tracer.remember(memory)
    with CoreTracer(options) as tracer:
        assert tracer.recall() == memory


def test_two_on_one_path(options: Options) -> None:
    """The second is refused and told who is first; it harms nothing."""
    with CoreTracer(options) as tracer:
        with pytest.raises(PinError, match=rf"in use by another exporter \(pid {os.getpid()}\)"):
            CoreTracer(options)
        tracer.settle()


def test_place(tmp_path: Path) -> None:
    """Only a bpf file system will do."""
    with pytest.raises(PinError, match=r"accepted is a directory of a bpf file system: mount"):
        CoreTracer(Options(pin_path=str(tmp_path / "pins")))
    assert not (tmp_path / "pins").exists()


def test_removed(options: Options) -> None:
    """Nothing is left when it is removed; the fixture sees to programs and links."""
    CoreTracer(options).close()
    with Pins(str(options.pin_path)) as found:
        assert found.current.about
        found.remove()
        assert list(found.path.iterdir()) == []


def test_another_cgroup(options: Options, caplog: pytest.LogCaptureFixture) -> None:
    """Counters of another cgroup mean something else: they start anew, and it is said."""
    with open_lab(options) as lab:
        _send(lab, 23)
        assert lab.read().snapshot.tasks
        lab.tracer.close()
        with CoreTracer(options._replace(cgroup_path=str(lab.cgroup))) as tracer:
            tracer.settle()
            assert tracer.read().tasks == ()
    assert "counters start anew" in caplog.text


def test_memory_of_nobody(options: Options) -> None:
    """Unidentified packets go on from where they were."""
    with open_lab(options) as lab:
        start = lab.read()
        _send(lab, 23)
        lab.tracer.close()
        lab.trace(options._replace(count_threads=True))
        passed = lab.since(start)
        assert readable(passed.nobodys, "udp") == {"udp receive": (23, 23 * 129)}
