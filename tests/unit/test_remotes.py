# SPDX-License-Identifier: Apache-2.0
"""Prefixes as the kernel has them, and records of versions that knew no remotes."""

from __future__ import annotations

import struct

import pytest

from exporter.kernel import layouts, remotes, succession
from exporter.kernel.holding import Descriptors
from exporter.kernel.succession import Foreign


@pytest.mark.parametrize(
    ("prefix", "bits", "address"),
    [
        ("10.0.0.0/8", 104, bytes(10) + b"\xff\xff\x0a\0\0\0"),
        ("192.0.2.1", 128, bytes(10) + b"\xff\xff\xc0\0\2\1"),
        ("0.0.0.0/0", 96, bytes(10) + b"\xff\xff" + bytes(4)),
        ("fd00::/8", 8, b"\xfd" + bytes(15)),
        ("::/0", 0, bytes(16)),
    ],
)
def test_entries(prefix: str, bits: int, address: bytes) -> None:
    """IPv4 is mapped into IPv6, and so are its lengths."""
    *_, (key, value) = remotes.entries([(prefix, 7)])
    assert tuple(*layouts.RemotePrefix.unpack_all(key)) == (bits, address)
    assert value == struct.pack("=I", 7)


def test_all_of_ipv6() -> None:
    """It does not take IPv4 with it."""
    found = dict(remotes.entries([("::/0", 1)]))
    assert found == {
        layouts.REMOTE_PREFIX.pack(0, bytes(16)): struct.pack("=I", 1),
        layouts.REMOTE_PREFIX.pack(96, remotes.MAPPED + bytes(4)): struct.pack("=I", 0),
    }


def test_not_a_prefix() -> None:
    """A network with bits of a host is refused, as anything else that is none."""
    for prefix in ("10.0.0.1/8", "fd00::/129", "example.org"):
        with pytest.raises(ValueError, match=prefix):
            list(remotes.entries([(prefix, 1)]))


def test_digest() -> None:
    """It tells other prefixes and other classes, but not another order."""
    one, other = ("10.0.0.0/8", 1), ("fd00::/8", 2)
    assert remotes.digest([one, other]) == remotes.digest([other, one])
    assert len({remotes.digest(r) for r in ([], [one], [other], [one, other], [(one[0], 2)])}) == 5


def _foreign(form: str, fields: tuple[str, ...]) -> Foreign:
    return Foreign(
        held=Descriptors({}, {}, {}),
        task=struct.Struct(form),
        fields=succession._fields(form, fields),
        counters=succession.OWN_PLACES,
        reasons=layouts.REASONS,
        losses=layouts.LOSSES,
        walk="",
    )


def _translate(former: Foreign, *values: object) -> layouts.Task:
    (found,) = layouts.Task.unpack_all(succession._translate(former, values))
    return found


def test_record_without_remotes() -> None:
    """What a former version did not know begins with 0, and is not whole."""
    former = _foreign("<Q 16s 16Q", ("process", "command", "counters"))
    found = _translate(former, 7, b"name", *range(16))
    assert (found.process, found.command.rstrip(b"\0"), found.counters) == (
        *(7, b"name"),
        tuple(range(16)),
    )
    assert (found.remotes, found.remotes_whole) == (bytes(512), 0)


def test_record_with_remotes() -> None:
    """What it knew is taken as it is, wherever it stood."""
    former = _foreign("<512s 16Q Q Q", ("remotes", "counters", "remotes_whole", "process"))
    found = _translate(former, layouts.TASK_REMOTES.pack(*range(64)), *range(16), 1, 7)
    assert layouts.TASK_REMOTES.unpack(found.remotes) == tuple(range(64))
    assert (found.remotes_whole, found.process) == (1, 7)
