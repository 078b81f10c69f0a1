# SPDX-License-Identifier: Apache-2.0
"""What a virtual machine starts from: the kernel without its compression, and a first file system.

An emulated processor would take longer to unpack the kernel than to boot it.
"""

from __future__ import annotations

import lzma
import stat
import struct
import subprocess
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tests.network import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.kernels.kernel import Kernel

BUSYBOX: Final = Path("/bin/busybox")
INIT: Final = Path(__file__).with_name("init")
MODULES: Final = ("virtio_pci", "virtiofs", "overlay")
"""What it takes to reach the host's files."""

SECTOR: Final = 512
# The boot protocol's header (Documentation/arch/x86/boot.rst).
SETUP_SECTORS, MAGIC, PAYLOAD = 0x1F1, 0x202, 0x248
ELF: Final = b"\x7fELF"
TOOLS: Final = {b"\x02\x21\x4c\x18": "lz4", b"\x28\xb5\x2f\xfd": "zstd"}


def unpack(compressed: bytes) -> bytes:
    """Return the ELF image in a bzImage. Raises ValueError."""
    if compressed[MAGIC : MAGIC + 4] != b"HdrS":
        message = f"a kernel image: found {compressed[MAGIC : MAGIC + 4]!r}, accepted is a bzImage"
        raise ValueError(message)
    offset, length = struct.unpack_from("<II", compressed, PAYLOAD)
    start = ((compressed[SETUP_SECTORS] or 4) + 1) * SECTOR + offset
    payload = compressed[start : start + length]
    (size,) = struct.unpack("<I", payload[-4:])  # appended by the kernel's build
    found = expand(payload)[:size]
    if found[:4] != ELF or len(found) != size:
        message = f"a kernel image: its payload is {found[:4]!r}, accepted is ELF"
        raise ValueError(message)
    return found


def expand(data: bytes) -> bytes:
    """Return data without its compression, whatever may follow it; as it is, if it has none."""
    if data.startswith(b"\xfd7zXZ"):
        return lzma.LZMADecompressor().decompress(data)
    if data.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(wbits=31).decompress(data)
    if tool := TOOLS.get(data[:4]):
        # They complain of what follows.
        done = subprocess.run((tool, "-dc"), input=data, capture_output=True, check=False)
        return done.stdout
    return data


def initial_files(kernel: Kernel) -> bytes:
    """Return the archive that the kernel unpacks at first."""
    files = {"bin/busybox": BUSYBOX.read_bytes(), "init": INIT.read_bytes()}
    for number, path in enumerate(_modules(kernel)):
        files[f"modules/{number:02}.ko"] = expand(path.read_bytes())
    return archive(("bin", "modules", "dev", "proc", "sys", "host", "own", "new"), files)


def _modules(kernel: Kernel) -> list[Path]:
    """Return the modules that are needed and not built in, in the order of their dependencies."""
    found: dict[Path, None] = {}
    for module in MODULES:
        said = run(
            *("modprobe", "--dirname", str(kernel.place), "--set-version", kernel.version),
            *("--show-depends", module),
        )
        lines = (line.split() for line in said.splitlines())
        found.update({Path(words[1]): None for words in lines if words[0] == "insmod"})
    return list(found)


def archive(directories: tuple[str, ...], files: Mapping[str, bytes]) -> bytes:
    """Return a cpio archive (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    entries = [(name, stat.S_IFDIR | 0o755, b"") for name in directories]
    entries += [(name, stat.S_IFREG | 0o755, data) for name, data in files.items()]
    entries.append(("TRAILER!!!", 0, b""))
    return b"".join(
        part for number, entry in enumerate(entries, 1) for part in _cpio(number, *entry)
    )


def _cpio(inode: int, name: str, mode: int, data: bytes) -> Iterator[bytes]:
    encoded = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    for part in (head, data):
        yield part
        yield bytes(-len(part) % 4)
