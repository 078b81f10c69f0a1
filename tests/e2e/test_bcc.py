# SPDX-License-Identifier: Apache-2.0
"""The program with programs that bcc compiles: exact, small, gone in the end; and its messages."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Final

import psutil
import pytest

from exporter.kernel.kernel_headers import CHOSEN, MODULES
from tests import headers
from tests.e2e import program, workers
from tests.e2e.attachments import all_there, held_by
from tests.workload import Process, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.kernel, pytest.mark.usefixtures("nothing_left")]

BCC: Final = ("--loader", "bcc")
SIZE: Final = 43
GIVEN: Final = "-all,+bpf,+perfmon,+net_admin,+dac_read_search"
USER: Final = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *(f"--inh-caps={GIVEN}", f"--ambient-caps={GIVEN}"),
)
"""Makes of us an ordinary user with these: the last one to reach the program, wherever it is."""
COMPILER: Final = ("LLVM", "clang", "bcc")
MORE: Final = 16 << 20
"""Bytes that it may take beside the other loader: it reads all sockets at once, 11 MB."""
WITHOUT_BCC: Final = (
    *("unshare", "--mount", "--propagation", "private", "sh", "-ec"),
    'mount -t tmpfs none /usr/lib/python3/dist-packages/bcc && exec "$@"',
    "sh",
)
NO_TYPES: Final = "/sys/kernel/btf/vmlinux does not exist"
INSTALL: Final = "apt install linux-headers-"


@pytest.mark.parametrize("prefix", [(), USER], ids=["root", "user"])
def test_counts(prefix: tuple[str, ...], name: str) -> None:
    """By process, thread, socket and group, as with the other loader; as whom it may be."""
    flags = (*BCC, "--collector.threads", "--collector.sockets", "--collector.remotes")
    with (
        Process(workers.talker, name, SIZE) as talker,
        program.serve(*flags, prefix=prefix) as exporter,
    ):
        port = str(talker.hear())
        exporter.scrape()
        talker.tell(23)
        talker.hear()
        found = exporter.scrape()
        expected = workers.traffic(23, SIZE)
        pid = str(talker.pid)
        assert found.traffic("process_", pid=pid, protocol="udp") == expected
        assert found.traffic("thread_", pid=pid, protocol="udp") == expected
        assert found.traffic("socket_", pid=pid, local_port=port) == expected
        assert found.traffic("group_", group=name, protocol="udp") == expected
        assert found.sum("netatop_loader_info", loader="bcc") == 1
        assert "loader bcc, users of sockets by" in exporter.log
        if prefix:
            status = Path(f"/proc/{exporter.pid}/status").read_text()
            assert "CapEff:\t0000000000000004" in status  # CAP_DAC_READ_SEARCH


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_end(number: int) -> None:
    """A signal ends it, and whatever it had attached is gone."""
    with program.start(*BCC) as exporter:
        wait_until(exporter.is_ready, "the exporter is ready")
        held = held_by(exporter.pid)
        assert len(held.links) >= 8
        assert held == held & all_there()
        status = exporter.end(number)
        assert status == (-number if number == signal.SIGKILL else 0)
        wait_until(lambda: not held & all_there(), "its links and programs are gone")


def test_end_while_compiling() -> None:
    """Killed early, it takes the compiler with it."""
    with program.start(*BCC) as exporter:
        us = psutil.Process(exporter.pid)
        wait_until(lambda: bool(us.children()), "the compiler runs")
        (compiler,) = us.children()
        exporter.end(signal.SIGKILL)
        wait_until(lambda: not compiler.is_running(), "the compiler has ended")


def test_memory() -> None:
    """Nothing of the compiler is left: no process, no library, no memory."""
    with program.serve("--loader", "core") as core, program.serve(*BCC) as bcc:
        processes = [psutil.Process(exporter.pid) for exporter in (core, bcc)]
        assert processes[1].children() == []
        mapped = {mapping.path for mapping in processes[1].memory_maps()}
        assert [path for path in mapped if any(word in path for word in COMPILER)] == []
        core.scrape()
        bcc.scrape()
        less, more = (process.memory_full_info().uss for process in processes)
        assert more < less + MORE


def test_doctor() -> None:
    """It tells that there is a compiler, and which loader would be used."""
    done = program.run("doctor", *BCC)
    assert done.returncode == 0, done
    assert "yes bcc  " in done.stdout
    assert "serve would work: loader bcc, " in done.stdout


def test_without_types(tmp_path: Path, name: str) -> None:
    """A kernel without type information: bcc is taken, the log says why, and it counts exactly."""
    mine = {CHOSEN: str(headers.make(tmp_path))}
    with (
        Process(workers.talker, name, SIZE) as talker,
        program.serve(prefix=headers.WITHOUT_TYPES, more=mine) as exporter,
    ):
        talker.hear()
        exporter.scrape()
        talker.tell(23)
        talker.hear()
        expected = workers.traffic(23, SIZE)
        found = exporter.scrape()
        assert found.traffic("group_", group=name, protocol="udp") == expected
        assert found.sum("netatop_loader_info", loader="bcc") == 1
        assert f"loader bcc is used, since core can't be: {NO_TYPES}" in exporter.log


# Messages


def test_core_was_chosen() -> None:
    """Then bcc is not tried."""
    done = program.run("once", "--loader", "core", prefix=headers.WITHOUT_TYPES)
    assert NO_TYPES in program.refusal(done, 1)
    assert "bcc" not in done.stderr


def test_no_headers() -> None:
    """Why each loader can't work, and how to mend it."""
    if (MODULES / headers.RUNNING).exists():
        pytest.skip("there are headers of this kernel")
    done = program.run("once", prefix=headers.WITHOUT_TYPES)
    said = program.refusal(done, 1)
    assert f"no loader works here; core: {NO_TYPES}" in said
    assert "bcc: kernel headers: no /lib/modules/" in said
    assert f"{INSTALL}{headers.RUNNING}, or modprobe kheaders" in said


def test_headers_of_another_kernel(tmp_path: Path) -> None:
    """Both versions, and how to mend it."""
    wrong = {CHOSEN: str(headers.make(tmp_path, "6.1.0-53-amd64"))}
    done = program.run("once", prefix=headers.WITHOUT_TYPES, more=wrong)
    said = program.refusal(done, 1)
    assert f"{tmp_path} holds those of 6.1.0-53-amd64, and {headers.RUNNING} is running" in said
    assert f"{INSTALL}{headers.RUNNING}" in said


def test_no_bcc() -> None:
    """What to install; doctor says the same."""
    done = program.run("once", *BCC, prefix=WITHOUT_BCC)
    said = program.refusal(done, 1)
    assert said.startswith("netatop-exporter: bcc is missing: apt install python3-bpfcc (")
    doctor = program.run("doctor", *BCC, prefix=WITHOUT_BCC)
    assert doctor.returncode == 1
    assert "no  bcc  " in doctor.stdout
    assert "serve would not work: bcc is missing: " in doctor.stdout


def test_unknown_loader() -> None:
    """What was found, and what is accepted."""
    done = program.run("once", "--loader", "perl")
    assert done.returncode == 2
    assert "'perl'" in done.stderr
    assert "'auto', 'core', 'bcc'" in done.stderr
