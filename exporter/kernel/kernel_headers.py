# SPDX-License-Identifier: Apache-2.0
"""The headers of the running kernel: where they are, and whether they are really its own.

Only for kernels without type information (BTF), and only to tell where members of structs are: what
is taken from the headers of another kernel would be read from wrong places.
"""

from __future__ import annotations

import contextlib
import os
import re
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from exporter.errors import CompilerError
from exporter.kernel import host

if TYPE_CHECKING:
    from collections.abc import Iterator

MODULES: Final = Path("/lib/modules")
ARCHIVE: Final = Path("/sys/kernel/kheaders.tar.xz")
"""The kernel's own, if the module kheaders is loaded (CONFIG_IKHEADERS)."""
CHOSEN: Final = "BCC_KERNEL_SOURCE"
"""The variable by which users of bcc say where headers are."""
RELEASE: Final = Path("include/generated/utsrelease.h")


@contextlib.contextmanager
def prepared(release: str = "") -> Iterator[Path | None]:
    """Return a directory for bcc; None: it finds them itself. Raises CompilerError."""
    release = release or host.kernel_release()
    chosen, build = os.environ.get(CHOSEN), MODULES / release / "build"
    if chosen:
        check(Path(chosen), release)
        yield Path(chosen)
    elif (build / RELEASE).exists():
        check(build, release)
        yield None  # Debian's are in two parts, which bcc puts together
    elif ARCHIVE.exists():
        with tempfile.TemporaryDirectory(prefix="netatop-kheaders-") as folder:
            with tarfile.open(ARCHIVE) as archive:
                # Python 3.11.4 has filters; what the kernel itself has packed needs none.
                archive.extraction_filter = getattr(tarfile, "data_filter", None)
                archive.extractall(folder)  # noqa: S202
            check(Path(folder), release)
            yield Path(folder)
    else:
        message = (
            f"kernel headers: no {build}, and no {ARCHIVE}; where the kernel has no type "
            "information (BTF) they are needed: "
            f"apt install linux-headers-{release}, or modprobe kheaders"
        )
        raise CompilerError(message)


def check(place: Path, release: str) -> None:
    """Hold that these are the headers of a release of Linux. Raises CompilerError."""
    file = place / RELEASE
    try:
        found = re.search(r'UTS_RELEASE "([^"]*)"', file.read_text())
    except OSError as error:
        message = (
            f"kernel headers: {file}: {error.strerror}; accepted is a directory of headers as they "
            f"are after a build: apt install linux-headers-{release}"
        )
        raise CompilerError(message) from error
    of = found[1] if found else "no release"
    if of != release:
        message = (
            f"kernel headers: {place} holds those of {of}, and {release} is running; "
            f"apt install linux-headers-{release}"
        )
        raise CompilerError(message)
