# SPDX-License-Identifier: Apache-2.0
"""What the kernel itself sends and receives, in network namespaces that come and go."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from exporter import model
from exporter.kernel import namespaces
from exporter.kernel.core_loader import CoreTracer, Options
from tests import workload
from tests.e2e import attachments
from tests.kernel.lab import open_lab, readable
from tests.network import namespace, run
from tests.workload import Process, wait_until

if TYPE_CHECKING:
    from tests.kernel.lab import Lab

pytestmark = [pytest.mark.kernel, pytest.mark.needs("netfilter")]

KNOCKS = 23
RST = {4: (KNOCKS, KNOCKS * 40), 6: (KNOCKS, KNOCKS * 60)}


HOST_INODE = Path("/proc/self/ns/net").stat().st_ino


def _knock(lab: Lab, family: int) -> None:
    address = lab.right.address(family)
    lab.start(workload.knock_tcp, address, KNOCKS, at=lab.left).wait()


def test_left_off(family: int) -> None:
    """Without netfilter links the kernel's IPv6 RSTs are not seen; IPv4's have a socket."""
    with open_lab(Options(netfilter=False)) as lab:
        start = lab.read()
        _knock(lab, family)
        passed = lab.since(start)
    sent = {"tcp transmit": RST[family]}
    assert readable(passed.unidentified["kernel"], "tcp") == (sent if family == 4 else {})


@pytest.mark.needs("netfilter")
def test_new_namespace(monkeypatch: pytest.MonkeyPatch) -> None:
    """A namespace that was made after the start is found, and counts from then on."""
    with open_lab(traced=False) as lab, CoreTracer(Options()) as tracer:
        ours = tracer._held.namespaces
        ends = {end.namespace.inode for end in (lab.left, lab.right)}
        assert ours._links.keys() >= {HOST_INODE, *ends}
        for other in ours._links.keys() - ends:  # what happens there is nothing to us
            ours._let_go(other)
            ours._failed.add(other)
        with namespace() as new:
            # Where a namespace has lost the process by which it is known, all are searched.
            monkeypatch.setattr(ours, "_used_by", {})
            monkeypatch.setattr(ours, "_searched_at", time.monotonic())
            tracer.tend()
            assert new.inode not in ours._links  # it does not search at every call
            monkeypatch.setattr(namespaces, "SEARCH_SECONDS", 0.0)
            tracer.tend()
            assert new.inode in ours._links
            start = tracer.read().unidentified["kernel"]
            with Process(workload.knock_tcp, "::1", KNOCKS, namespace=new) as client:
                client.wait()
            end = tracer.read().unidentified["kernel"]
            assert readable(model.subtract(end, start), "tcp") == {"tcp transmit": RST[6]}


@pytest.mark.needs("netfilter")
def test_namespace_goes() -> None:
    """The links do not keep a namespace alive for longer than until the next look."""
    with CoreTracer(Options()) as tracer:
        with namespace() as short:
            run("ip", "link", "add", "ends-here", "type", "veth", "peer", "netns", short.name)
            inode = short.inode
            tracer._held.namespaces._search()
            assert inode in tracer._held.namespaces._links
        time.sleep(0.1)
        assert Path("/sys/class/net/ends-here").exists()  # so it is held
        tracer.tend()
        assert inode not in tracer._held.namespaces._links
        wait_until(lambda: not Path("/sys/class/net/ends-here").exists(), "the cable gone")


@pytest.mark.needs("netfilter")
def test_leaves_nothing() -> None:
    """After the end no link is left in any namespace, and no thread of ours is in another one."""
    before = attachments.all_there()
    with namespace() as one, CoreTracer(Options()) as tracer:
        inode = one.inode
        assert len(tracer._held.namespaces._links[inode]) == 4
    wait_until(lambda: not attachments.left_since(before), "everything gone")
    own = Path("/proc/self/ns/net").stat().st_ino
    tasks = Path("/proc/self/task").iterdir()
    assert {task.joinpath("ns/net").stat().st_ino for task in tasks} == {own}
