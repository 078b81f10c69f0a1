# SPDX-License-Identifier: Apache-2.0
"""Which kernel object and loader, by what loads: the main object, else the portable one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from exporter.errors import KernelError, UnsupportedKernelError
from exporter.kernel import bcc_loader, portable_object
from exporter.kernel.core_loader import CoreTracer
from exporter.kernel.libbpf import open_library
from exporter.kernel.portable_tracer import PortableTracer

if TYPE_CHECKING:
    from exporter.kernel.core_object import Options
    from exporter.kernel.tracer import Tracer

log = logging.getLogger(__name__)


CORE: Final = "core"
BCC: Final = "bcc"
AUTO: Final = "auto"


def open_tracer(options: Options, loader: str = AUTO) -> Tracer:
    """Load and attach what this kernel can take. Raises KernelError, with nothing left behind.

    bcc is taken where it was chosen, or where the kernel can't do what libbpf needs. An error of
    ours, a missing capability, a refusal by the verifier would be hidden by it, or come again.
    """
    open_library()  # all need it: that it is missing is no reason for another loader
    if loader == BCC:
        return PortableTracer(options, bcc_loader.load, BCC)
    try:
        return _open_core(options)
    except UnsupportedKernelError as core:
        if loader == CORE:
            raise
        unfit = core
    try:
        tracer = PortableTracer(options, bcc_loader.load, BCC)
    except KernelError as bcc:
        message = f"no loader works here; core: {unfit}; bcc: {bcc}"
        raise UnsupportedKernelError(message) from bcc
    log.warning("loader bcc is used, since core can't be: %s", unfit)
    return tracer


def _open_core(options: Options) -> Tracer:
    if options.layout == "portable":
        return PortableTracer(options, portable_object.load)
    try:
        return CoreTracer(options)
    except UnsupportedKernelError as error:
        if options.layout == "main":
            raise
        unfit = error
    tracer = PortableTracer(options, portable_object.load)
    log.info("the portable kernel object is used: %s", unfit)
    return tracer
