# SPDX-License-Identifier: Apache-2.0
"""Has bcc compile kernel programs at run time: source in, instructions by program out.

bcc is taken for the compiler that it brings along, and for nothing else. It makes no maps: the
source names those that we have made, by descriptor. It loads and attaches nothing: so nothing of it
can stay behind, and the kernel's answers come to us. What compiles is a child without privileges.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from exporter.errors import CompilerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

SOURCES: Final = Path(__file__).with_name("bpf")
"""In a checkout a link; what is installed has the files."""
NO_HEADERS: Final = SOURCES / "bcc"
"""In place of the kernel's, the few that bcc can't do without."""
CHILD: Final = Path(__file__).with_name("bcc_child.py")
SYSTEM_PYTHON: Final = "/usr/bin/python3"
"""A virtual environment does not see the distribution's bcc; this one does."""
SECONDS: Final = 600.0
"""It takes a fraction of a second, with the kernel's headers three; an emulated processor 60."""
LINES: Final = 6
"""How much of what clang has said an error message quotes."""

# Its own declarations of helpers cut socket cookies to 32 bits, and need the kernel's headers.
WITHOUT_HELPERS: Final = (
    "-D__BPF_HELPERS_H",
    "-DBCC_SEC(NAME)=__attribute__((section(NAME), used))",
)


class Compiled(NamedTuple):
    """What came of it."""

    version: str
    """Of bcc."""
    programs: Mapping[str, bytes]
    """Instructions, by name."""
    seconds: float
    """It took so long."""


def version() -> str:
    """Return bcc's, by compiling the least. Raises CompilerError."""
    text = "int nothing(void *context) { return 0; }\n"
    return compile_programs("a test", text, [], kernel_source=NO_HEADERS).version


def compile_programs(
    what: str, text: str, flags: Sequence[str], *, kernel_source: Path | None = None
) -> Compiled:
    """Compile every function of a text that is not static. Raises CompilerError.

    what: a name for messages; kernel_source: where kernel headers are, if not where bcc looks.
    """
    request = json.dumps({"text": text, "flags": [*WITHOUT_HELPERS, *flags]})
    known = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    if kernel_source:
        known["BCC_KERNEL_SOURCE"] = str(kernel_source)
    missing: dict[str, str] = {}
    begun = time.monotonic()
    for python in dict.fromkeys((sys.executable, SYSTEM_PYTHON)):
        answer, said = _ask(python, request, known)
        if "missing" in answer:
            missing[python] = answer["missing"]
            continue
        of = answer.get("version", "")
        if "programs" not in answer:
            message = f"{what}: bcc {of} can't compile it: {_quote(said, answer)}"
            raise CompilerError(message, said)
        programs = {name: base64.b64decode(code) for name, code in answer["programs"].items()}
        return Compiled(of, programs, time.monotonic() - begun)
    reasons = "; ".join(f"{python}: {said}" for python, said in missing.items())
    message = f"bcc is missing: apt install python3-bpfcc ({reasons})"
    raise CompilerError(message)


def _ask(python: str, request: str, known: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """Run the child; return its answer and what it said beside."""
    command = (python, "-I", str(CHILD))
    try:
        done = subprocess.run(
            command,
            input=request,
            capture_output=True,
            text=True,
            errors="replace",
            env=dict(known),
            cwd="/",
            timeout=SECONDS,
            check=False,
        )
    except OSError as error:
        return {"missing": error.strerror or str(error)}, ""
    except subprocess.TimeoutExpired:
        return {"failed": f"it took longer than {SECONDS:.0f} s"}, ""
    with contextlib.suppress(ValueError):
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer, done.stderr
    return {"failed": f"{python} ended with status {done.returncode}"}, done.stderr


def _quote(said: str, answer: Mapping[str, str]) -> str:
    """Return the lines that tell most: errors of clang, or the last of anything else."""
    lines = [line for line in said.splitlines() if line.strip()]
    errors = list(_errors(lines))
    shown = errors[:LINES] or lines[-LINES:] or [answer.get("failed", "no reason given")]
    omitted = len(errors) - len(shown)
    return "\n".join([*shown, f"({omitted} lines omitted)"] if omitted > 0 else shown)


def _errors(lines: Sequence[str]) -> Iterator[str]:
    """Yield the errors, each with the two lines that show where it is."""
    left = 0
    for line in lines:
        if " error: " in line:
            left = 3
        if left:
            yield line
            left -= 1
