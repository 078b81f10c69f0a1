# SPDX-License-Identifier: Apache-2.0
"""What a test needs that not every kernel has: asked of the kernel that runs, never of its version.

`@pytest.mark.needs("netfilter")`: without it the test is skipped as a loss, with what is lost. With
parameters, as `needs("netfilter", family=6)`, only the test with these needs it.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.errors import UnsupportedKernelError
from exporter.kernel.hooks import NO_PAYLOAD, UNSEEN_KERNEL
from exporter.kernel.types import KernelTypes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pytest

LOSS: Final = "loss: "
"""How the reason of such a skip begins."""


class Need(NamedTuple):
    """A feature."""

    is_there: Callable[[KernelTypes], bool]
    lost: str
    """What is lost without it."""


NEEDS: Final = {
    "netfilter": Need(KernelTypes.has_netfilter_links, UNSEEN_KERNEL),
    "payload": Need(KernelTypes.has_casts, NO_PAYLOAD),
}


@functools.cache
def is_there(name: str) -> bool:
    """Tell whether the kernel has it. One without type information has nothing to lose."""
    try:
        with KernelTypes() as types:
            return NEEDS[name].is_there(types)
    except UnsupportedKernelError:
        return True


def loss(marks: list[pytest.Mark], parameters: Mapping[str, object]) -> str:
    """Say what makes a test with these parameters pointless here, or nothing."""
    for mark in marks:
        applies = all(parameters.get(name) == value for name, value in mark.kwargs.items())
        for name in mark.args if applies else ():
            if not is_there(name):
                return f"{LOSS}{NEEDS[name].lost}"
    return ""
