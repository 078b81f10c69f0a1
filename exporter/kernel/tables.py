# SPDX-License-Identifier: Apache-2.0
"""Reads the kernel's tables: whole hashes in batches, per-CPU entries, iterators."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING, Final

from exporter.errors import MapReadError
from exporter.kernel.libbpf import MapInfo, describe, possible_processors

if TYPE_CHECKING:
    from collections.abc import Callable

    from exporter.kernel.libbpf import Libbpf

BATCH: Final = 512
"""Entries per system call; also more than any one bucket of a hash holds."""
READ_SIZE: Final = 1 << 18
PER_CPU: Final = {5, 6, 10}
"""BPF_MAP_TYPE_PERCPU_HASH, _ARRAY, _LRU_HASH (include/uapi/linux/bpf.h)."""
NO_SUCH_COMMAND: Final = {errno.EINVAL, errno.EOPNOTSUPP, 524}
"""What kernels say that can't look up and delete at once; 524 is ENOTSUPP."""


class Table:
    """A map of the kernel, opened."""

    def __init__(self, bpf: Libbpf, fd: int, name: str) -> None:
        """Take a descriptor; whoever has opened it closes it, and not before."""
        self._bpf = bpf
        self._fd = fd
        self.name = name
        info = MapInfo()
        size = ctypes.c_uint32(ctypes.sizeof(info))
        bpf.call(
            "bpf_obj_get_info_by_fd",
            fd,
            ctypes.byref(info),
            ctypes.byref(size),
            error=self._failed("asking for its size"),
        )
        self._key_size: int = info.key_size
        self._value_size: int = info.value_size
        """Of an entry, of all processors where each has values of its own."""
        if info.type in PER_CPU:
            self._value_size = -(-info.value_size // 8) * 8 * possible_processors()
        self.capacity: int = info.max_entries

    def _failed(self, operation: str) -> Callable[[int], MapReadError]:
        return lambda code: MapReadError(f"map {self.name}: {operation} failed: {describe(code)}")

    def read_all(self) -> tuple[memoryview, memoryview]:
        """Return all keys and all values, packed; entries that come meanwhile may be missed."""
        all_keys, all_values = bytearray(), bytearray()
        keys = ctypes.create_string_buffer(BATCH * self._key_size)
        values = ctypes.create_string_buffer(BATCH * self._value_size)
        cursor = ctypes.create_string_buffer(max(self._key_size, 4))
        cursor_in: ctypes.Array[ctypes.c_char] | None = None
        count = ctypes.c_uint32()
        done = False
        while not done:
            count.value = BATCH
            code = -self._bpf.bpf_map_lookup_batch(
                self._fd, cursor_in, cursor, keys, values, ctypes.byref(count), None
            )
            if code in NO_SUCH_COMMAND and cursor_in is None:  # before 5.6
                return self._read_each()
            if code not in {0, errno.ENOENT}:
                raise self._failed("reading a batch")(code)
            done = code == errno.ENOENT
            all_keys += memoryview(keys)[: count.value * self._key_size]
            all_values += memoryview(values)[: count.value * self._value_size]
            cursor_in = cursor
        return memoryview(all_keys), memoryview(all_values)

    def _read_each(self) -> tuple[memoryview, memoryview]:
        """Do the same one by one; an entry that goes meanwhile may have all come again."""
        found: dict[bytes, bytes] = {}
        key = ctypes.create_string_buffer(self._key_size)
        value = ctypes.create_string_buffer(self._value_size)
        before: ctypes.Array[ctypes.c_char] | None = None
        while not self._bpf.bpf_map_get_next_key(self._fd, before, key):
            if not self._bpf.bpf_map_lookup_elem(self._fd, key, value):
                found[key.raw] = value.raw
            before = key
        return memoryview(b"".join(found)), memoryview(b"".join(found.values()))

    def write(self, key: bytes, value: bytes) -> None:
        """Set an entry."""
        self._bpf.call(
            *("bpf_map_update_elem", self._fd, key, value, 0),
            error=self._failed("writing an entry"),
        )

    def read_one(self) -> bytes:
        """Return the value of the only entry of an array."""
        return self._read_entry(ctypes.c_uint32(0))

    def write_one(self, value: int) -> None:
        """Set the only entry of an array of 64-bit numbers."""
        self._bpf.call(
            *("bpf_map_update_elem", self._fd, ctypes.byref(ctypes.c_uint32(0))),
            *(ctypes.byref(ctypes.c_uint64(value)), 0),
            error=self._failed("writing an entry"),
        )

    def read(self, key: int) -> bytes:
        """Return the value of an entry with a 64-bit key."""
        return self._read_entry(ctypes.c_uint64(key))

    def _read_entry(self, key: ctypes.c_uint32 | ctypes.c_uint64) -> bytes:
        value = ctypes.create_string_buffer(self._value_size)
        self._bpf.call(
            "bpf_map_lookup_elem",
            self._fd,
            ctypes.byref(key),
            value,
            error=self._failed("reading an entry"),
        )
        return value.raw

    def read_per_cpu(self, index: int) -> memoryview:
        """Return the values of one entry of a per-CPU array, one after the other."""
        return memoryview(self._read_entry(ctypes.c_uint32(index)))

    def take(self, key: bytes) -> bytes:
        """Delete an entry of a hash and return the value that it had; empty: it was gone."""
        value = ctypes.create_string_buffer(self._value_size)
        code = -self._bpf.bpf_map_lookup_and_delete_elem(self._fd, key, value)
        if code in NO_SUCH_COMMAND:  # before 5.14
            code = -self._bpf.bpf_map_lookup_elem(self._fd, key, value)
            code = code or -self._bpf.bpf_map_delete_elem(self._fd, key)
        if code not in {0, errno.ENOENT}:
            raise self._failed("taking an entry")(code)
        return b"" if code else value.raw

    def delete(self, key: int) -> None:
        """Delete an entry with a 64-bit key; it may be gone already."""
        code = -self._bpf.bpf_map_delete_elem(self._fd, ctypes.byref(ctypes.c_uint64(key)))
        if code not in {0, errno.ENOENT}:
            raise self._failed("deleting an entry")(code)


def read_iterator(bpf: Libbpf, link_fd: int, name: str) -> bytes:
    """Run an iterator program over everything and return what it wrote."""

    def failed(code: int) -> MapReadError:
        return MapReadError(f"iterator {name}: {describe(code)}")

    fd = bpf.call("bpf_iter_create", link_fd, error=failed)
    output = bytearray()
    try:
        while part := os.read(fd, READ_SIZE):
            output += part
    except OSError as error:
        raise failed(error.errno or 0) from error
    finally:
        os.close(fd)
    return bytes(output)
