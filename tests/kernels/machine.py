# SPDX-License-Identifier: Apache-2.0
"""A virtual machine: a kernel, this host's files, one command; emulated, so that it runs anywhere.

The guest sees the host's file system as it is and can't write to it: what it writes stays in its
memory, but for the directory that results go to. It has no network but its own.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from tests.kernels import image
from tests.kernels.kernel import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.kernels.kernel import Kernel

MEMORY: Final = 1024
"""MiB."""
SERVERS: Final = (Path("/usr/lib/qemu/virtiofsd"), Path("/usr/libexec/virtiofsd"))
"""Where Debian 12 and 13 have it."""
START_SECONDS: Final = 10.0

# One processor: with several, emulated in parallel, the kernel's text patching oopses now and then.
MACHINE: Final = (
    *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"),
    *("-machine", "q35,memory-backend=memory", "-cpu", "max", "-smp", "1", "-nic", "none"),
    *("-accel", "tcg,tb-size=256", "-m", str(MEMORY)),
    *("-object", f"memory-backend-memfd,id=memory,size={MEMORY}M,share=on"),
)
# What protects a kernel from others than us takes time; the emulated clock is no worse than ours.
ARGUMENTS: Final = (
    "console=ttyS0 quiet panic=-1 reboot=t tsc=reliable no_timer_check nokaslr mitigations=off "
    "nopti audit=0 random.trust_cpu=on cryptomgr.notests"
)
READ_ONLY: Final = 'mount --bind "$1" "$2" && mount -o remount,bind,ro "$2" && shift 2 && exec "$@"'
WRITABLE: Final = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
RUN: Final = """\
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8
export PYTHONPATH={checkout} PYTHONDONTWRITEBYTECODE=1
exec >/out/log 2>&1 </dev/null
mount -t cgroup2 none /sys/fs/cgroup
mount -t bpf none /sys/fs/bpf
mount -t securityfs none /sys/kernel/security
mount -t virtiofs -o ro checkout {checkout}
mkdir -p /lib/modules/{version}
mount -t virtiofs -o ro modules /lib/modules/{version}
{headers}
ip link set lo up
cd {checkout}
{command}
echo $? >/out/status
sync
echo b >/proc/sysrq-trigger
sleep 9
"""


class Ended(NamedTuple):
    """What came of it."""

    status: int | None
    """Of the command; None: the guest died or ran out of time."""
    seconds: float
    console: str
    log: str
    """What the command printed."""


def missing() -> str:
    """Say what this host lacks, or nothing."""
    if os.geteuid() != 0:
        return "needs root"
    commands = ("qemu-system-x86_64", "busybox", "depmod", "lz4", "zstd", "unshare")
    lacking = [name for name in commands if not _is_there(name)]
    lacking += [] if any(server.exists() for server in SERVERS) else ["virtiofsd"]
    if lacking:
        packages = "qemu-system-x86 busybox-static kmod lz4 zstd"
        return f"{', '.join(lacking)} missing: apt-get install {packages}"
    return ""


def _is_there(command: str) -> bool:
    return any(Path(place, command).exists() for place in os.get_exec_path())


def run(kernel: Kernel, out: Path, *command: str, seconds: float) -> Ended:
    """Boot a kernel, run a command in the checkout, and wait for its end."""
    out.mkdir(parents=True, exist_ok=True)
    for stale in ("status", "log", "console"):
        (out / stale).unlink(missing_ok=True)
    script = RUN.format(
        checkout=shlex.quote(str(CHECKOUT)),
        version=kernel.version,
        headers="mount -t virtiofs -o ro headers /usr/src" if kernel.loader == "bcc" else "",
        command=shlex.join(command),
    )
    (out / "run").write_text(script)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        files = Path(folder, "initial")
        files.write_bytes(image.initial_files(kernel))
        devices: list[str] = []
        for tag, source in (
            ("root", Path("/")),
            ("checkout", CHECKOUT),
            ("modules", kernel.modules),
            *((("headers", kernel.headers),) if kernel.loader == "bcc" else ()),
        ):
            devices += stack.enter_context(_share(Path(folder), tag, source))
        devices += stack.enter_context(_share(Path(folder), "out", out, writable=True))
        console = out / "console"
        arguments = f"{ARGUMENTS} lockdown={kernel.lockdown}" if kernel.lockdown else ARGUMENTS
        start = ("-kernel", str(kernel.image), "-initrd", str(files), "-append", arguments)
        guest = subprocess.Popen(
            (*MACHINE, *start, "-serial", f"file:{console}", *devices),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        stack.callback(_end, guest)
        try:
            _, complaint = guest.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            complaint = f"the guest was ended after {seconds:.0f} s\n"
    said = _read(out / "status")
    return Ended(
        status=int(said) if said else None,
        seconds=time.monotonic() - begun,
        console=_read(console) + complaint,
        log=_read(out / "log"),
    )


def _read(file: Path) -> str:
    return file.read_text(errors="replace") if file.exists() else ""


@contextlib.contextmanager
def _share(folder: Path, tag: str, source: Path, *, writable: bool = False) -> Iterator[list[str]]:
    """Serve a directory to the guest, and no other file system that is mounted in it."""
    place, talk = folder / tag, folder / f"{tag}.socket"
    place.mkdir()
    server = next(server for server in SERVERS if server.exists())
    mount = ("unshare", "--mount", "--propagation", "private", "sh", "-ec")
    options = (
        f"source={place},sandbox=chroot,no_posix_lock,cache={'auto' if writable else 'always'}"
    )
    with (folder / f"{tag}.log").open("w+") as log:
        serving = subprocess.Popen(
            (
                *(*mount, WRITABLE if writable else READ_ONLY, "sh", str(source.resolve())),
                *(str(place), str(server), f"--socket-path={talk}", "-o", options),
            ),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            deadline = time.monotonic() + START_SECONDS
            while not talk.exists():
                if serving.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    message = f"{server} does not serve {source}: {log.read().strip()}"
                    raise RuntimeError(message)
                time.sleep(0.01)
            yield [
                *("-chardev", f"socket,id={tag},path={talk}"),
                *("-device", f"vhost-user-fs-pci,chardev={tag},tag={tag}"),
            ]
        finally:
            _end(serving)


def _end(process: subprocess.Popen[str]) -> None:
    """End a process of ours, if it has not ended by itself."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs a module of the checkout in the guest."""
    return (sys.executable, "-m", module, *arguments)
