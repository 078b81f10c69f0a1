# SPDX-License-Identifier: Apache-2.0
"""libbpf through ctypes: one table of signatures, the log, and one place that looks at errno.

Nothing here decides anything. A function that is not in the table can't be called: ctypes would
take its result for an int and cut a pointer in half. Signatures: libbpf 1.1, libbpf.h, bpf.h.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import os
from contextlib import contextmanager
from ctypes import c_char_p, c_int, c_size_t, c_uint32, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from exporter.errors import MapReadError, UnsupportedKernelError
from exporter.kernel import machine

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SONAME: Final = "libbpf.so.1"
LOG_CALLBACK = ctypes.CFUNCTYPE(c_int, c_int, c_char_p, c_void_p)
RING_CALLBACK = ctypes.CFUNCTYPE(c_int, c_void_p, c_void_p, c_size_t)
"""ring_buffer_sample_fn (libbpf.h)."""
WARN: Final = 0
"""enum libbpf_print_level (libbpf.h)."""
OWN_ERRORS: Final = 4000
"""enum libbpf_errno begins here (libbpf_legacy.h)."""
LINE_BYTES: Final = 1 << 24
"""What the verifier says of a program is one line to libbpf, and its end tells most."""
VERIFIER_LINES: Final = 12
"""How much of a log an error message quotes; the rest is in LoadError.log."""


class IterOptions(ctypes.Structure):
    """struct bpf_iter_attach_opts, with union bpf_iter_link_info pointed to."""

    _fields_ = (("sz", c_size_t), ("link_info", c_void_p), ("link_info_len", c_uint32))


class IterMap(ctypes.Structure):
    """union bpf_iter_link_info (include/uapi/linux/bpf.h), the map's member; 16 bytes in all."""

    _fields_ = (("map_fd", c_uint32), ("_rest", c_uint32 * 3))


def over_map(fd: int) -> IterOptions:
    """Return what has an iterator go over the entries of a map, or the storages of its sockets."""
    target = IterMap(map_fd=fd)
    options = IterOptions(
        sz=ctypes.sizeof(IterOptions),
        link_info=ctypes.cast(ctypes.byref(target), c_void_p),
        link_info_len=ctypes.sizeof(target),
    )
    options.target = target  # which only a pointer leads to
    return options


class MapOptions(ctypes.Structure):
    """struct bpf_map_create_opts (src/bpf.h, libbpf 1.0)."""

    _fields_ = (
        ("sz", c_size_t),
        ("btf_fd", c_uint32),
        ("btf_key_type_id", c_uint32),
        ("btf_value_type_id", c_uint32),
        ("btf_vmlinux_value_type_id", c_uint32),
        ("inner_map_fd", c_uint32),
        ("map_flags", c_uint32),
        ("map_extra", c_uint64),
        ("numa_node", c_uint32),
        ("map_ifindex", c_uint32),
    )


class LoadOptions(ctypes.Structure):
    """struct bpf_prog_load_opts (src/bpf.h, libbpf 1.0)."""

    _fields_ = (
        ("sz", c_size_t),
        ("attempts", c_int),
        ("expected_attach_type", c_int),
        ("prog_btf_fd", c_uint32),
        ("prog_flags", c_uint32),
        ("prog_ifindex", c_uint32),
        ("kern_version", c_uint32),
        ("attach_btf_id", c_uint32),
        ("attach_prog_fd", c_uint32),
        ("attach_btf_obj_fd", c_uint32),
        ("fd_array", c_void_p),
        ("func_info", c_void_p),
        ("func_info_cnt", c_uint32),
        ("func_info_rec_size", c_uint32),
        ("line_info", c_void_p),
        ("line_info_cnt", c_uint32),
        ("line_info_rec_size", c_uint32),
        ("log_level", c_uint32),
        ("log_size", c_uint32),
        ("log_buf", c_void_p),
    )


class ProgramInfo(ctypes.Structure):
    """struct bpf_prog_info (include/uapi/linux/bpf.h), up to recursion_misses (Linux 5.12)."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("_to_name", ctypes.c_uint8 * 56),
        ("name", ctypes.c_char * 16),
        ("_to_run_time", ctypes.c_uint8 * 112),
        ("run_time_ns", c_uint64),
        ("run_cnt", c_uint64),
        ("recursion_misses", c_uint64),
    )


class BtfType(ctypes.Structure):
    """struct btf_type (include/uapi/linux/btf.h); a struct's members follow it."""

    _fields_ = (("name_off", c_uint32), ("info", c_uint32), ("size_or_type", c_uint32))


class BtfMember(ctypes.Structure):
    """struct btf_member (include/uapi/linux/btf.h)."""

    _fields_ = (("name_off", c_uint32), ("type", c_uint32), ("offset", c_uint32))


class BtfEnum(ctypes.Structure):
    """struct btf_enum (include/uapi/linux/btf.h)."""

    _fields_ = (("name_off", c_uint32), ("value", ctypes.c_int32))


class MapInfo(ctypes.Structure):
    """struct bpf_map_info (include/uapi/linux/bpf.h), the first members."""

    _fields_ = (
        ("type", c_uint32),
        ("id", c_uint32),
        ("key_size", c_uint32),
        ("value_size", c_uint32),
        ("max_entries", c_uint32),
    )


class TcHook(ctypes.Structure):
    """struct bpf_tc_hook (src/libbpf.h, libbpf 0.6)."""

    _fields_ = (
        ("sz", c_size_t),
        ("ifindex", c_int),
        ("attach_point", c_int),
        ("parent", c_uint32),
    )


class TcOptions(ctypes.Structure):
    """struct bpf_tc_opts (src/libbpf.h, libbpf 0.6)."""

    _fields_ = (
        ("sz", c_size_t),
        ("prog_fd", c_int),
        ("flags", c_uint32),
        ("prog_id", c_uint32),
        ("handle", c_uint32),
        ("priority", c_uint32),
    )


class RunOptions(ctypes.Structure):
    """struct bpf_test_run_opts (src/bpf.h), up to ctx_size_in."""

    _fields_ = (
        ("sz", c_size_t),
        ("data_in", c_void_p),
        ("data_out", c_void_p),
        ("data_size_in", c_uint32),
        ("data_size_out", c_uint32),
        ("ctx_in", c_void_p),
        ("ctx_out", c_void_p),
        ("ctx_size_in", c_uint32),
        ("ctx_size_out", c_uint32),
        ("retval", c_uint32),
        ("repeat", c_int),
        ("duration", c_uint32),
        ("flags", c_uint32),
        ("cpu", c_uint32),
        ("batch_size", c_uint32),
    )


# The result, then the arguments.
SIGNATURES: Final[dict[str, tuple[Any, ...]]] = {
    "libbpf_version_string": (c_char_p,),
    "libbpf_set_print": (c_void_p, LOG_CALLBACK),
    "libbpf_strerror": (c_int, c_int, c_char_p, c_size_t),
    "libbpf_num_possible_cpus": (c_int,),
    "libbpf_probe_bpf_prog_type": (c_int, c_int, c_void_p),
    "libbpf_probe_bpf_map_type": (c_int, c_int, c_void_p),
    "libbpf_probe_bpf_helper": (c_int, c_int, c_int, c_void_p),
    "bpf_object__open_file": (c_void_p, c_char_p, c_void_p),
    "bpf_object__load": (c_int, c_void_p),
    "bpf_object__close": (None, c_void_p),
    "bpf_object__find_map_by_name": (c_void_p, c_void_p, c_char_p),
    "bpf_object__find_program_by_name": (c_void_p, c_void_p, c_char_p),
    "bpf_object__next_map": (c_void_p, c_void_p, c_void_p),
    "bpf_object__next_program": (c_void_p, c_void_p, c_void_p),
    "bpf_map__name": (c_char_p, c_void_p),
    "bpf_map__fd": (c_int, c_void_p),
    "bpf_map__key_size": (c_uint32, c_void_p),
    "bpf_map__value_size": (c_uint32, c_void_p),
    "bpf_map__max_entries": (c_uint32, c_void_p),
    "bpf_map__set_max_entries": (c_int, c_void_p, c_uint32),
    "bpf_map__initial_value": (c_void_p, c_void_p, ctypes.POINTER(c_size_t)),
    "bpf_map__set_initial_value": (c_int, c_void_p, c_void_p, c_size_t),
    "bpf_program__name": (c_char_p, c_void_p),
    "bpf_program__section_name": (c_char_p, c_void_p),
    "bpf_program__fd": (c_int, c_void_p),
    "bpf_program__set_autoload": (c_int, c_void_p, ctypes.c_bool),
    "bpf_program__set_type": (c_int, c_void_p, c_int),
    "bpf_program__set_expected_attach_type": (c_int, c_void_p, c_int),
    "bpf_program__attach": (c_void_p, c_void_p),
    "bpf_program__attach_cgroup": (c_void_p, c_void_p, c_int),
    "bpf_program__attach_iter": (c_void_p, c_void_p, ctypes.POINTER(IterOptions)),
    "bpf_link__fd": (c_int, c_void_p),
    "bpf_link__destroy": (c_int, c_void_p),
    "ring_buffer__new": (c_void_p, c_int, RING_CALLBACK, c_void_p, c_void_p),
    "ring_buffer__poll": (c_int, c_void_p, c_int),
    "ring_buffer__free": (None, c_void_p),
    "bpf_iter_create": (c_int, c_int),
    "bpf_link_update": (c_int, c_int, c_int, c_void_p),
    "bpf_obj_pin": (c_int, c_int, c_char_p),
    "bpf_obj_get": (c_int, c_char_p),
    "bpf_map_create": (c_int, c_int, c_char_p, c_uint32, c_uint32, c_uint32, c_void_p),
    "bpf_prog_test_run_opts": (c_int, c_int, ctypes.POINTER(RunOptions)),
    "bpf_map_lookup_elem": (c_int, c_int, c_void_p, c_void_p),
    "bpf_map_update_elem": (c_int, c_int, c_void_p, c_void_p, c_uint64),
    "bpf_map_delete_elem": (c_int, c_int, c_void_p),
    "bpf_map_get_next_key": (c_int, c_int, c_void_p, c_void_p),
    "bpf_map_lookup_and_delete_elem": (c_int, c_int, c_void_p, c_void_p),
    "bpf_map_lookup_batch": (
        c_int,
        c_int,
        c_void_p,
        c_void_p,
        c_void_p,
        c_void_p,
        ctypes.POINTER(c_uint32),
        c_void_p,
    ),
    "bpf_prog_load": (c_int, c_int, c_char_p, c_char_p, c_void_p, c_size_t, c_void_p),
    "bpf_link_create": (c_int, c_int, c_int, c_int, c_void_p),
    "bpf_raw_tracepoint_open": (c_int, c_char_p, c_int),
    "bpf_obj_get_info_by_fd": (c_int, c_int, c_void_p, ctypes.POINTER(c_uint32)),
    "bpf_tc_hook_create": (c_int, ctypes.POINTER(TcHook)),
    "bpf_tc_attach": (c_int, ctypes.POINTER(TcHook), ctypes.POINTER(TcOptions)),
    "bpf_tc_query": (c_int, ctypes.POINTER(TcHook), ctypes.POINTER(TcOptions)),
    "bpf_tc_detach": (c_int, ctypes.POINTER(TcHook), ctypes.POINTER(TcOptions)),
    "bpf_enable_stats": (c_int, c_int),
    "btf__load_vmlinux_btf": (c_void_p,),
    "btf__find_by_name_kind": (ctypes.c_int32, c_void_p, c_char_p, c_uint32),
    "btf__type_by_id": (ctypes.POINTER(BtfType), c_void_p, c_uint32),
    "btf__name_by_offset": (c_char_p, c_void_p, c_uint32),
    "btf__free": (None, c_void_p),
}


Translate: TypeAlias = "Callable[[int], Exception]"
"""Makes the error of a failed call from its errno."""


class Log:
    """What libbpf says while `capture` is active, last lines last."""

    def __init__(self) -> None:
        self.messages: list[tuple[int, str]] = []
        """Level (enum libbpf_print_level) and text."""

    @property
    def text(self) -> str:
        """Return all of it."""
        return "".join(text for _, text in self.messages)

    def quote(self) -> str:
        """Return the lines that tell most: the last of the warnings."""
        return quote("".join(text for level, text in self.messages if level == WARN))


def quote(log: str) -> str:
    """Return the last lines of what the verifier has said, without mere statistics."""
    lines = [line for line in log.splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith(("processed ", "-- "))]
    shown = lines[-VERIFIER_LINES:]
    omitted = len(lines) - len(shown)
    return "\n".join([f"({omitted} lines omitted)", *shown] if omitted else shown)


class Libbpf:
    """The library, loaded; its functions are attributes."""

    def __init__(self) -> None:
        machine.check()  # what is made through it is made for some machines
        try:
            self._library = ctypes.CDLL(SONAME, use_errno=True)
        except OSError as error:
            message = f"{SONAME}: {error}; libbpf 1.1 or later is needed: apt-get install libbpf1"
            raise UnsupportedKernelError(message) from error
        libc = ctypes.CDLL(None)
        self._vsnprintf = libc.vsnprintf
        self._vsnprintf.argtypes = (c_char_p, c_size_t, c_char_p, c_void_p)
        self._vsnprintf.restype = c_int
        for name, (result, *arguments) in SIGNATURES.items():
            function = getattr(self._library, name, None)
            if function is None:
                message = f"{SONAME} has no {name}: libbpf 1.1 or later is needed"
                raise UnsupportedKernelError(message)
            function.restype = result
            function.argtypes = arguments
        self._log: Log | None = None
        # One for all lines, of which there are thousands; memory is taken when it is written to.
        memory = mmap.mmap(-1, LINE_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._line = (ctypes.c_char * LINE_BYTES).from_buffer(memory)
        # libbpf keeps the pointer: the object must live as long as the process.
        self._callback = LOG_CALLBACK(self._on_log)
        self._library.libbpf_set_print(self._callback)

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in SIGNATURES:
            raise AttributeError(name)
        function: Callable[..., Any] = getattr(self._library, name)
        return function

    @property
    def version(self) -> str:
        """Return for instance "1.1"."""
        text: bytes = self._library.libbpf_version_string()
        return text.decode().removeprefix("v")

    def _on_log(self, level: int, form: bytes, arguments: int) -> int:
        log = self._log
        if log is None:
            return 0
        length: int = self._vsnprintf(self._line, len(self._line), form, arguments)
        said = ctypes.string_at(self._line, min(length, len(self._line) - 1))
        log.messages.append((level, said.decode(errors="replace")))
        return length

    @contextmanager
    def capture(self) -> Iterator[Log]:
        """Collect what libbpf prints; it prints nothing anywhere else."""
        self._log = log = Log()
        try:
            yield log
        finally:
            self._log = None

    def pointer(self, name: str, *arguments: Any, error: Translate) -> int:
        """Call a function that returns a pointer, NULL with errno on failure (libbpf 1.0)."""
        value: int | None = getattr(self, name)(*arguments)
        if not value:
            raise error(ctypes.get_errno())
        return value

    def call(self, name: str, *arguments: Any, error: Translate) -> int:
        """Call a function that returns an int, -errno on failure (libbpf 1.0)."""
        value: int = getattr(self, name)(*arguments)
        if value < 0:
            raise error(-value)
        return value


@functools.cache
def open_library() -> Libbpf:
    """Return the library; there is one in a process, since libbpf knows one log only.

    Raises UnsupportedKernelError if it is missing or too old, or for other machines.
    """
    return Libbpf()


def possible_processors() -> int:
    """Return how many values a per-CPU entry has."""
    return open_library().call(
        "libbpf_num_possible_cpus", error=lambda code: MapReadError(f"processors: {describe(code)}")
    )


def describe(code: int) -> str:
    """Return an errno as `EPERM (Operation not permitted)`, one of libbpf's own in its words."""
    if code >= OWN_ERRORS:
        text = ctypes.create_string_buffer(128)
        open_library().libbpf_strerror(code, text, len(text))
        return text.value.decode(errors="replace")
    return f"{errno.errorcode.get(code, code)} ({os.strerror(code)})"
