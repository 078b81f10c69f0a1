# SPDX-License-Identifier: Apache-2.0
"""The bcc loader: the portable object's source, compiled for the running kernel when it is started.

For kernels without type information (BTF), where libbpf can't find the places of what is read. bcc
compiles; tables and programs are made here, and all that is left in the end is their descriptors.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import os
import re
from typing import TYPE_CHECKING, Final

from exporter.errors import LoadError
from exporter.kernel import bcc_compiler, members
from exporter.kernel.holding import Descriptors
from exporter.kernel.kinds import ProgramType
from exporter.kernel.libbpf import LoadOptions, MapOptions, describe, open_library, quote

if TYPE_CHECKING:
    from collections.abc import Iterator

    from exporter.kernel.bcc_compiler import Compiled
    from exporter.kernel.members import Places
    from exporter.kernel.portable import Blueprint, MapShape, Program

log = logging.getLogger(__name__)

SOURCE: Final = "portable.bpf.c"
PROGRAM: Final = re.compile(
    r'^SEC\("[^"]*"\)\nint (?P<name>\w+)\(.*?^\}\n', re.MULTILINE | re.DOTALL
)
"""A program in the source, as clang-format leaves it."""
LOAD_64, PSEUDO_MAP_FD = 0x18, 1
"""A load of 64 bits, and what says that it is of a map (BPF_PSEUDO_MAP_FD)."""
LICENSE: Final = b"Dual MIT/GPL"
LOG_SIZE: Final = 1 << 20
READ, READ_STR, READ_KERNEL, BOOT_CLOCK = 4, 45, 113, 125
"""enum bpf_func_id: bpf_probe_read(), ..., bpf_ktime_get_boot_ns() (include/uapi/linux/bpf.h)."""
MACHINES: Final = {"x86_64": "x86", "aarch64": "arm64"}
"""As libbpf's headers call them."""


def load(blueprint: Blueprint, *, use_types: bool = True) -> Descriptors:
    """Compile and load. Raises KernelError, with nothing left behind.

    Not `use_types`: as if the kernel had no type information, for tests.
    """
    compiled = _compile(
        frozenset(program.name for program in blueprint.programs),
        tuple(_flags(blueprint, members.find(use_types=use_types))),
    )
    numbers = [*blueprint.maps]
    held = Descriptors({}, {}, {})
    with contextlib.ExitStack() as stack:
        stack.callback(held.close)
        for name, shape in blueprint.maps.items():
            held.maps[name] = _make_map(name, shape)
        for program in blueprint.programs:
            if program.name in compiled.programs:
                code = _with_maps(
                    compiled.programs[program.name], [held.maps[name] for name in numbers]
                )
                fd = _load_program(program, code)
                if fd is not None:
                    held.programs[program.name] = fd
        stack.pop_all()
    log.info(
        "bcc %s has compiled %d kernel programs in %.1f s",
        *(compiled.version, len(compiled.programs), compiled.seconds),
    )
    return held


@functools.lru_cache(maxsize=4)
def _compile(names: frozenset[str], flags: tuple[str, ...]) -> Compiled:
    """Compile the programs with these names, and no other: each takes its time."""
    source = (bcc_compiler.SOURCES / SOURCE).read_text()
    text = PROGRAM.sub(lambda found: found[0] if found["name"] in names else "", source)
    return bcc_compiler.compile_programs(SOURCE, text, flags, kernel_source=bcc_compiler.NO_HEADERS)


def _flags(blueprint: Blueprint, places: Places) -> Iterator[str]:
    """Yield all that the source does not say by itself."""
    helpers = bcc_compiler.NO_HEADERS / "helpers.h"
    yield from (f"-I{bcc_compiler.SOURCES}", "-include", str(helpers), "-DNETATOP_BCC")
    # Warnings are for the build, which has the same source: here they differ from clang to clang.
    yield from ("-g0", "-Wno-everything", "-Werror=implicit-function-declaration")
    yield f"-D__TARGET_ARCH_{MACHINES[os.uname().machine]}"
    # Not descriptors, but which of the tables it is: so what was compiled is good for others, too.
    yield from (f"-DMAP_{name}={number}" for number, name in enumerate(blueprint.maps))
    yield from (f"-D{macro}={place}" for macro, place in places.macros.items())
    yield from (f"-DSETTING_{name}={value}ULL" for name, value in _settings(blueprint))
    yield f"-DHAS_BOOT_CLOCK={int(_has_helper(BOOT_CLOCK))}"
    if not _has_helper(READ_KERNEL):
        yield from (f"-DREAD_KERNEL={READ}", f"-DREAD_KERNEL_STR={READ_STR}")


def _with_maps(code: bytes, fds: list[int]) -> bytes:
    """Return a program with descriptors in place of the numbers of its tables."""
    linked = bytearray(code)
    for at in range(0, len(code), 8):
        if code[at] == LOAD_64 and code[at + 1] >> 4 == PSEUDO_MAP_FD:
            number = int.from_bytes(code[at + 4 : at + 8], "little")
            linked[at + 4 : at + 8] = fds[number].to_bytes(4, "little")
    return bytes(linked)


def _settings(blueprint: Blueprint) -> Iterator[tuple[str, int]]:
    for name, value in blueprint.settings._asdict().items():
        if name != "fingerprint":
            yield name, int(value)


def _has_helper(number: int) -> bool:
    """Tell whether tracing programs can call it."""
    found: int = open_library().libbpf_probe_bpf_helper(ProgramType.RAW_TRACEPOINT, number, None)
    return found == 1


def _make_map(name: str, shape: MapShape) -> int:
    """Make a table; return its descriptor."""
    options = MapOptions(sz=ctypes.sizeof(MapOptions), map_flags=shape.flags)
    return open_library().call(
        *("bpf_map_create", shape.kind, name.encode(), shape.key_size, shape.value_size),
        *(shape.entries, ctypes.byref(options)),
        error=lambda code: LoadError(f"map {name}: {describe(code)}"),
    )


def _load_program(program: Program, code: bytes) -> int | None:
    """Have the kernel verify a program; return its descriptor, or None if it can be done without.

    Raises LoadError.
    """
    said = ctypes.create_string_buffer(LOG_SIZE)
    options = LoadOptions(
        sz=ctypes.sizeof(LoadOptions),
        expected_attach_type=program.attach_type,
        log_buf=ctypes.addressof(said),
        log_size=LOG_SIZE,
    )
    fd: int = open_library().bpf_prog_load(
        *(program.kind, program.name.encode(), LICENSE, code, len(code) // 8),
        ctypes.byref(options),
    )
    if fd >= 0:
        return fd
    text = said.value.decode(errors="replace")
    if program.without:
        log.debug("program %s: %s: %s", program.name, describe(-fd), text)
        return None
    message = (
        f"{SOURCE}: program {program.name}: the kernel refused it: {describe(-fd)}\n{quote(text)}"
    )
    raise LoadError(message.rstrip(), text)
