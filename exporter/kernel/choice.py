# SPDX-License-Identifier: Apache-2.0
"""Which kernel object, by what loads: the main one, else the portable one."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from exporter.errors import UnsupportedKernelError
from exporter.kernel import portable_object
from exporter.kernel.core_loader import CoreTracer
from exporter.kernel.portable_tracer import PortableTracer

if TYPE_CHECKING:
    from exporter.kernel.core_object import Options
    from exporter.kernel.tracer import Tracer

log = logging.getLogger(__name__)


def open_tracer(options: Options) -> Tracer:
    """Load and attach what this kernel can take. Raises KernelError, with nothing left behind."""
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
