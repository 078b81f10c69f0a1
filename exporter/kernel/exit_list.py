# SPDX-License-Identifier: Apache-2.0
"""The exit list of the kernel programs, read as netatop's daemon read netatop's."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

FORCE_GC: Final = 15662
GETCNT_EXIT: Final = 15664
"""Of getsockopt(2) at level SOL_IP: bpf/compat.bpf.h answers them."""
RECORD_BYTES: Final = 96
MOST: Final = 1 << 14
"""As many as the list holds: the reader comes to an end however many come meanwhile."""


class ExitList:
    """A reader. There should be no other: each finished process is handed out once."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)

    def take(self) -> Iterator[bytes]:
        """Yield the `struct netpertask` of each that had ended when this was last called.

        So the time between two calls is what is left to a FIN and its acknowledgement.
        """
        for _ in range(MOST):
            try:
                yield self._socket.getsockopt(socket.SOL_IP, GETCNT_EXIT, RECORD_BYTES)
            except OSError:  # there is no more
                break
        self._socket.getsockopt(socket.SOL_IP, FORCE_GC)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
