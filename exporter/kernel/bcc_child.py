# SPDX-License-Identifier: Apache-2.0
"""Compiles with bcc in a process of its own, and ends: its memory, 100 MB of LLVM, ends with it.

Run by bcc_compiler.py, perhaps with another Python than the exporter's (the system's, which knows
Debian's bcc): so it needs nothing beside the standard library and bcc. A request comes on standard
input and an answer goes to standard output, as JSON; what clang says goes to standard error.
"""

from __future__ import annotations

import base64
import ctypes
import json
import os
import signal
import sys
from typing import Any

PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
CAPABILITY_VERSION = 0x20080522
"""include/uapi/linux/{prctl,capability}.h"""


def bind() -> None:
    """End with the parent, and have no capabilities: a compiler needs none."""
    libc = ctypes.CDLL(None)
    libc.prctl(PR_SET_PDEATHSIG, ctypes.c_ulong(signal.SIGKILL))
    libc.prctl(PR_SET_NO_NEW_PRIVS, *map(ctypes.c_ulong, (1, 0, 0, 0)))
    libc.capset((ctypes.c_uint32 * 2)(CAPABILITY_VERSION, 0), (ctypes.c_uint32 * 6)())


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Return the instructions of each program, or why there are none."""
    try:
        import bcc  # noqa: PLC0415 that it may be missing is an answer
        from bcc import libbcc  # noqa: PLC0415
    except (ImportError, OSError) as error:
        return {"missing": str(error)}
    version = getattr(bcc, "__version__", "")
    try:
        made = bcc.BPF(text=request["text"], cflags=request["flags"])
    except Exception as error:  # noqa: BLE001 bcc raises nothing else
        return {"version": version, "failed": str(error)}
    count = libbcc.lib.bpf_num_functions(made.module)
    names = [libbcc.lib.bpf_function_name(made.module, index) for index in range(count)]
    return {
        "version": version,
        "programs": {
            name.decode(): base64.b64encode(made.dump_func(name)).decode() for name in names
        },
    }


def main() -> None:
    """Answer one request."""
    bind()
    # bcc prints warnings on standard output.
    with os.fdopen(os.dup(1), "w") as output:
        os.dup2(2, 1)
        json.dump(answer(json.load(sys.stdin)), output)


if __name__ == "__main__":
    main()
