# SPDX-License-Identifier: Apache-2.0
"""What a test needs that not every kernel has: asked of the kernel that runs, never of its version.

`@pytest.mark.needs("netfilter")`: without it the test is skipped as a loss, with what is lost. With
parameters, as `needs("netfilter", family=6)`, only the test with these needs it.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter.errors import UnsupportedKernelError
from exporter.kernel.features import KPROBE_PMU, Answer, Probes
from exporter.kernel.hooks import NO_PAYLOAD, UNSEEN_KERNEL, UNSEEN_STRAYS
from exporter.kernel.portable import FIRST_DATAGRAM, NOT_OPENED, ONLY_CGROUPS
from exporter.kernel.types import KernelTypes

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pytest

    from exporter.kernel.core_object import Options

LAYOUT: Final = os.environ.get("NETATOP_LAYOUT", "")
"""The kernel object that the tests are for (core_object.LAYOUTS); empty: what the kernel takes."""
OWNERS: Final = os.environ.get("NETATOP_OWNERS", "")
"""Of the portable object, the set of hooks (portable.OWNERS); likewise."""
LOADER: Final = os.environ.get("NETATOP_LOADER", "core")
"""Whom the tests are for (config.flags.LOADERS)."""
PLACES: Final = os.environ.get("NETATOP_PLACES", "")
"""For bcc: `headers` if the kernel's type information is not to be asked."""
LOSS: Final = "loss: "
"""How the reason of such a skip begins."""


class Need(NamedTuple):
    """A feature."""

    is_there: Callable[[KernelTypes], bool]
    lost: str
    """What is lost without it."""


def chosen(options: Options) -> Options:
    """Return these options for the kernel object that the tests are for."""
    return options._replace(layout=options.layout or LAYOUT, owners=options.owners or OWNERS)


@functools.cache
def is_portable() -> bool:
    """Tell whether it is the portable object."""
    return (
        LAYOUT == "portable"
        or LOADER == "bcc"
        or (not LAYOUT and Probes().atomics().answer is Answer.NOT_THERE)
    )


def _of_main(is_there: Callable[[KernelTypes], bool]) -> Callable[[KernelTypes], bool]:
    """Make what the portable object does not have, whatever the kernel has."""
    return lambda types: not is_portable() and is_there(types)


def _always(_: KernelTypes) -> bool:
    """Every kernel has it."""
    return True


NEEDS: Final = {
    "netfilter": Need(_of_main(KernelTypes.has_netfilter_links), UNSEEN_KERNEL),
    "pins": Need(_of_main(_always), "nothing outlives the program (--pin-path)"),
    "hosts": Need(_of_main(_always), "IP addresses are not counted (hosts)"),
    "devices": Need(_of_main(_always), "what is behind devices is not counted (hosts.devices)"),
    "compat": Need(_of_main(_always), "netatop's options of getsockopt(2) are not answered"),
    "mptcp": Need(
        _of_main(_always),
        "MPTCP's connections stay with who opened them, and further ones are nobody's",
    ),
    "datagrams": Need(lambda _: not is_portable() or KPROBE_PMU.exists(), FIRST_DATAGRAM),
    "opened": Need(lambda _: LOADER != "bcc", NOT_OPENED),
    "kprobes": Need(lambda _: KPROBE_PMU.exists(), "kprobes tell no users of sockets here"),
    "strays": Need(KernelTypes.has_drop_reasons, UNSEEN_STRAYS),
    "users": Need(lambda _: OWNERS != "cgroup", ONLY_CGROUPS),
    "payload": Need(_of_main(KernelTypes.has_casts), NO_PAYLOAD),
}


@functools.cache
def filters_unopened() -> bool:
    """Tell whether socket filters see what is sent for a connection that is not open, over IPv6.

    They do on kernels that have netfilter links, and perhaps on some before.
    """
    try:
        with KernelTypes() as types:
            return types.has_netfilter_links()
    except UnsupportedKernelError:
        return False


@functools.cache
def is_there(name: str) -> bool:
    """Tell whether the kernel has it. One without type information has nothing to lose."""
    try:
        with KernelTypes() as types:
            return NEEDS[name].is_there(types)
    except UnsupportedKernelError:
        return not is_portable()


def loss(marks: list[pytest.Mark], parameters: Mapping[str, object]) -> str:
    """Say what makes a test with these parameters pointless here, or nothing."""
    for mark in marks:
        applies = all(parameters.get(name) == value for name, value in mark.kwargs.items())
        for name in mark.args if applies else ():
            if not is_there(name):
                return f"{LOSS}{NEEDS[name].lost}"
    return ""
