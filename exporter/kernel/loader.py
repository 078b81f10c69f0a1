# SPDX-License-Identifier: Apache-2.0
"""Which loader: the CO-RE one, and bcc only where the kernel can't do that.

An error of ours, a missing capability, a refusal by the verifier: all of these would come again with
the other loader, or be hidden by it. So they end the program.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from exporter.errors import KernelError, UnsupportedKernelError
from exporter.kernel.bcc_loader import BccTracer
from exporter.kernel.core_loader import CoreTracer

if TYPE_CHECKING:
    from exporter.kernel.core_object import Options
    from exporter.kernel.tracer import Tracer

AUTO: Final = "auto"
CORE: Final = "core"
BCC: Final = "bcc"

log = logging.getLogger(__name__)


def trace(options: Options, choice: str = AUTO) -> Tracer:
    """Load and attach by the loader that was chosen. Raises KernelError."""
    if choice == BCC:
        return BccTracer(options)
    try:
        return CoreTracer(options)
    except UnsupportedKernelError as core:
        if choice == CORE:
            raise
        log.warning("loader core: %s; trying bcc", core)
        try:
            return BccTracer(options)
        except KernelError as bcc:
            message = f"no loader works here: core: {core}; bcc: {bcc}"
            raise UnsupportedKernelError(message) from bcc
