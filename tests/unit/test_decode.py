# SPDX-License-Identifier: Apache-2.0
"""Bytes become types of the model."""

from __future__ import annotations

import pytest

from exporter import model
from exporter.kernel import decode, layouts


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"nginx\0\0\0\0\0\0\0\0\0\0\0", "nginx"),
        (b"fifteen-letters\0", "fifteen-letters"),
        (b"a\0rest of before", "a"),
        (b"\xff\xfe\0", "\ufffd\ufffd"),
        ("ä".encode()[:1] + b"\0", "\ufffd"),
        (b"\0" * 16, ""),
    ],
)
def test_command_names(raw: bytes, name: str) -> None:
    """Up to the first NUL; what is not UTF-8 is replaced."""
    assert decode.command_name(raw) == name


REMOTES = (*(1,) * 60, 9, 13, 17, 21)
"""Sums up to what the counters do: 24, 28, 32, 36."""


def _task(process: int, whole: int = 1) -> bytes:
    rest = (1, 2, b"name", *range(16), 3, 4, 5, 6, *range(10))
    remotes = layouts.TASK_REMOTES.pack(*REMOTES)
    return layouts.TASK.pack(process, 2, 3, 4, 100, 101, 5, 9, *rest, remotes, whole)


def test_half_filled() -> None:
    """A record that the kernel is still filling has no process yet; the next read finds it."""
    assert decode.tasks((7).to_bytes(8, "little"), _task(process=0)) == ()


def test_words_change_here() -> None:
    """The kernel's tgid is our pid, its pid our tid."""
    value = _task(process=7)
    (task,) = decode.tasks((7).to_bytes(8, "little"), value)
    assert (task.pid, task.tid) == (100, 101)
    assert task.is_process
    assert (task.start_ns, task.end_ns, task.cgroup_id, task.uid) == (2, 3, 4, 5)
    assert task.outcome == "signal"
    assert task.counters == tuple(range(16))


def test_remotes() -> None:
    """Of processes only, and only where they are counted."""
    key, value = (7).to_bytes(8, "little"), _task(process=7)
    assert decode.tasks(key, value)[0].remotes == ()
    assert decode.tasks(key, value, lambda _: value)[0].remotes == REMOTES
    assert decode.tasks((8).to_bytes(8, "little"), value, lambda _: value)[0].remotes == ()


def test_torn() -> None:
    """What was read while a packet was added is read again; what never adds up is left alone."""
    key, value = (7).to_bytes(8, "little"), _task(process=7)
    torn = value.replace(layouts.TASK_REMOTES.pack(*REMOTES), bytes(512))
    answers = iter((torn, torn, value))
    (task,) = decode.tasks(key, torn, lambda _: next(answers))
    assert task.remotes == REMOTES
    assert next(answers, None) is None
    before = _task(process=7, whole=0).replace(layouts.TASK_REMOTES.pack(*REMOTES), bytes(512))
    (task,) = decode.tasks(key, before, lambda _: pytest.fail("read again"))
    assert task.remotes == (0,) * 64


def test_torn_for_good() -> None:
    """It ends, whatever the kernel says."""
    torn = _task(process=7).replace(layouts.TASK_REMOTES.pack(*REMOTES), bytes(512))
    assert decode.tasks((7).to_bytes(8, "little"), torn, lambda _: torn)[0].remotes == (0,) * 64


@pytest.mark.parametrize(
    ("raw", "family", "text"),
    [
        (bytes([127, 0, 0, 1]) + bytes(12), 2, "127.0.0.1"),
        (bytes(15) + b"\1", 10, "::1"),
        (bytes(10) + b"\xff\xff" + bytes([192, 0, 2, 1]), 10, "192.0.2.1"),
        (bytes(16), 10, "::"),
    ],
)
def test_addresses(raw: bytes, family: int, text: str) -> None:
    """IPv4 mapped into IPv6 is IPv4."""
    assert decode.address(raw, family) == text


def test_losses_are_object_and_reason() -> None:
    """The enumerators of the contract name both."""
    found = [decode.loss(index) for index in range(len(layouts.LOSSES))]
    assert found[0] == ("task", "full")
    assert all(thing and reason for thing, reason in found)


def test_the_contracts_words_are_the_models() -> None:
    """Numbers of C and names of Python stand in the same order."""
    assert layouts.PROTOCOLS == model.PROTOCOLS
    assert layouts.DIRECTIONS == model.DIRECTIONS
    assert layouts.REASONS == model.REASONS


def test_counters_of_all_processors_add_up() -> None:
    """Two processors, each with its own."""
    one = layouts.COUNTERS.pack(*range(16))
    assert decode.sum_counters(one + one) == tuple(2 * n for n in range(16))


def test_a_walk_without_records() -> None:
    """The summary alone."""
    walk, session = decode.walk(layouts.SOCKET_SUMMARY.pack(1, 2, 3, 4, 5))
    assert session == 5
    assert walk.counts == {"tcp": 1, "udp": 2, "icmp": 3, "other": 4}
    assert walk.sockets == ()
