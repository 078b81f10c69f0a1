# SPDX-License-Identifier: Apache-2.0
"""Each fault gives one clear message and its exit status, and leaves nothing attached."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from exporter.kernel import layouts
from tests.e2e import program, workers
from tests.e2e.exposition import Exposition
from tests.network import namespace, run
from tests.workload import PATIENCE, Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.kernel, pytest.mark.usefixtures("nothing_left")]

BTF = Path("/sys/kernel/btf/vmlinux")
PACKAGE = Path(layouts.__file__).parents[1]
NEEDED = ("CAP_NET_ADMIN", "CAP_PERFMON", "CAP_BPF")
WITHOUT_ALL = ("setpriv", "--bounding-set=-all", "--inh-caps=-all")
# May read files, so that it can run the program wherever that is installed.
NOBODY = (
    *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
    *("--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"),
)


def _without(*capabilities: str) -> tuple[str, ...]:
    """Return a prefix that takes these capabilities from root."""
    return ("setpriv", "--bounding-set=" + ",".join(f"-{name}" for name in capabilities))


def _in_private(*commands: str) -> tuple[str, ...]:
    """Return a prefix that runs commands in a mount namespace of its own first."""
    return ("unshare", "--mount", "sh", "-ec", "; ".join((*commands, 'exec "$@"')), "sh")


def _without_btf(folder: Path) -> tuple[str, ...]:
    return _in_private(f"mount --bind {folder} {BTF.parent}")


def _cgroup_points() -> list[str]:
    return run("findmnt", "--noheadings", "--output=TARGET", "--types=cgroup2").split()


def _without_cgroup() -> tuple[str, ...]:
    return _in_private(*(f"umount --lazy {point}" for point in _cgroup_points()))


# Privileges


@pytest.mark.parametrize("command", ["serve", "once"])
def test_nobody(command: str) -> None:
    """A user without privileges is told which capabilities it would take."""
    message = program.refusal(program.run(command, prefix=NOBODY), 1)
    missing, _, hint = message.partition(" missing; ")
    assert all(name in missing for name in NEEDED)
    assert hint.startswith("run as root")


def test_root_without_capabilities() -> None:
    """In a container root has few: being root is not enough."""
    message = program.refusal(program.run("once", prefix=WITHOUT_ALL), 1)
    assert all(name in message.partition(" missing; ")[0] for name in NEEDED)


@pytest.mark.parametrize(
    ("dropped", "missing"),
    [
        (("net_admin",), "CAP_NET_ADMIN"),
        (("bpf", "sys_admin"), "CAP_BPF"),
        (("perfmon", "sys_admin"), "CAP_PERFMON"),
        (("bpf", "perfmon", "sys_admin"), "CAP_PERFMON, CAP_BPF"),
        (("net_admin", "sys_admin"), "CAP_NET_ADMIN"),
    ],
)
def test_capability_missing(dropped: tuple[str, ...], missing: str) -> None:
    """The message names exactly what is missing."""
    message = program.refusal(program.run("once", prefix=_without(*dropped)), 1)
    assert f": {missing} missing; " in message


@pytest.mark.parametrize("dropped", ["bpf", "perfmon", "sys_admin"])
def test_capability_not_needed(dropped: str) -> None:
    """CAP_SYS_ADMIN stands for two of the three, and with the three it is not needed."""
    done = program.run("once", "--seconds", "0", prefix=_without(dropped))
    assert (done.returncode, program.complaints(done)) == (0, [])
    Exposition(done.stdout).check_law()


def test_cannot_enter_namespaces() -> None:
    """It counts without the gap there, and says so once, however many they are."""
    with namespace() as one, namespace() as other:
        done = program.run("once", "--seconds", "0", prefix=_without("sys_admin"))
        inodes = sorted(end.inode for end in (one, other))
    assert done.returncode == 0
    Exposition(done.stdout).check_law()
    (line,) = done.stderr.splitlines()
    told = program.run("doctor", prefix=_without("sys_admin"))
    assert "  no  other network namespaces          missing: CAP_SYS_ADMIN; " in told.stdout
    assert told.returncode == 0
    said, _, reason = line.partition(": Operation not permitted; ")
    assert all(str(inode) in said for inode in inodes)
    assert "CAP_SYS_ADMIN" in reason


def test_without_file_handles(name: str) -> None:
    """Without CAP_DAC_READ_SEARCH the paths of cgroups are found by a walk, and nothing is said."""
    with program.serve(prefix=_without("dac_read_search", "dac_override")) as exporter:
        with Process(workers.leave, name, 0) as process:
            process.wait()
        answer = json.loads(exporter.ask("/api/v1/exits").body)
        (entry,) = (e for e in answer["exits"] if e["pid"] == process.pid)
        (line,) = (
            line
            for line in Path("/proc/self/cgroup").read_text().splitlines()
            if line.startswith("0::")
        )
        assert entry["cgroup"] == line[3:]
        assert "level=warn" not in exporter.log


def test_three_capabilities_suffice(name: str) -> None:
    """A user with the three capabilities counts like root, what was open before included."""
    caps = "-all,+bpf,+perfmon,+net_admin,+dac_read_search"
    prefix = (
        *("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"),
        *(f"--inh-caps={caps}", f"--ambient-caps={caps}"),
    )
    with Process(workers.talker, name, 3) as talker:
        talker.hear()
        with program.serve(prefix=prefix) as exporter:
            talker.tell(53)
            talker.hear()
            found = exporter.scrape()
    assert found.traffic("group_", group=name, protocol="udp") == workers.traffic(53, 3)


# The kernel and the host


@pytest.mark.parametrize("command", ["serve", "once", "watch", "wait 1"])
def test_big_endian(command: str) -> None:
    """What is compiled for little-endian machines is not tried on others."""
    pretend = "import sys; sys.byteorder = 'big'; from exporter.cli import main; sys.exit(main())"
    done = subprocess.run(
        (sys.executable, "-c", pretend, *command.split()),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd="/",
    )
    message = program.refusal(done, 1)
    assert f"machine {os.uname().machine}: found big-endian, 64 bits; accepted are " in message


def test_no_type_information(tmp_path: Path) -> None:
    """Without BTF the message names the file and the kernel option."""
    message = program.refusal(program.run("once", prefix=_without_btf(tmp_path)), 1)
    assert str(BTF) in message
    assert "CONFIG_DEBUG_INFO_BTF" in message


def test_no_cgroup_mounted(name: str) -> None:
    """Without a version 2 hierarchy it mounts one for itself, and counts the whole host."""
    with Process(workers.talker, name, 2) as talker:
        talker.hear()
        with program.serve(prefix=_without_cgroup()) as exporter:
            talker.tell(59)
            talker.hear()
            found = exporter.scrape()
            mounts = Path(f"/proc/{exporter.pid}/mountinfo").read_text()
    assert found.traffic("group_", group=name, protocol="udp") == workers.traffic(59, 2)
    assert " - cgroup2 " not in mounts, "nobody sees the mount"


def test_no_cgroup_and_no_right_to_mount() -> None:
    """Where even that is forbidden, the message says what failed and what to do."""
    prefix = (*_without_cgroup(), *_without("sys_admin"))
    message = program.refusal(program.run("once", prefix=prefix), 1)
    assert "version 2 cgroup" in message
    assert "EPERM" in message
    assert "mount -t cgroup2" in message


@pytest.mark.parametrize(
    ("kind", "complaint"),
    [
        ("absent", "No such file or directory"),
        ("file", "Not a directory"),
        ("folder", "not in a version 2 hierarchy"),
    ],
)
def test_cgroup_path(tmp_path: Path, kind: str, complaint: str) -> None:
    """A path that is no version 2 cgroup is named, with what is wrong with it."""
    path = tmp_path / "some cgroup"
    if kind == "file":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    message = program.refusal(program.run("once", "--cgroup-path", path), 1)
    assert f"cgroup {path}: " in message
    assert complaint in message


@pytest.fixture
def cgroup(name: str) -> Iterator[Path]:
    """Make a cgroup below the root."""
    path = Path(_cgroup_points()[0], name)
    path.mkdir()
    yield path
    wait_until(lambda: _removed(path), "the cgroup is empty")


def _removed(path: Path) -> bool:
    with contextlib.suppress(OSError):
        path.rmdir()
    return not path.exists()


def test_one_cgroup_only(name: str, cgroup: Path) -> None:
    """With --cgroup-path the processes in there are counted and no others."""
    outside = f"{name}o"
    with (
        program.serve("--cgroup-path", str(cgroup)) as exporter,
        Process(workers.talker, name, 1, cgroup=cgroup) as inner,
        Process(workers.talker, outside, 1) as outer,
    ):
        for talker in (inner, outer):
            talker.hear()
            talker.tell(61)
            talker.hear()
        found = exporter.scrape()
        assert found.label_values("netatop_group_receive_packets_total", "group") == {name}
        assert found.traffic("group_", protocol="udp") == workers.traffic(61, 1)


@pytest.fixture(params=["truncated", "empty", "garbage", "another program", "absent"])
def damage(request: pytest.FixtureRequest) -> Callable[[Path], None]:
    """Return a way to spoil the kernel object."""
    ways: dict[str, Callable[[Path], Any]] = {
        "truncated": lambda path: os.truncate(path, 4099),
        "empty": lambda path: os.truncate(path, 0),
        "garbage": lambda path: path.write_bytes(b"garbage" * 101),
        "another program": lambda path: shutil.copy("/bin/true", path),
        "absent": lambda path: path.unlink(),
    }
    return ways[request.param]


def _copy(folder: Path) -> Path:
    """Copy the installed package and return the copy of its kernel object."""
    copy = folder / PACKAGE.name
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy / "kernel" / "netatop.bpf.o"


def test_object_damaged(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """A kernel object that can't be read is named, with the way to build it."""
    path = _copy(tmp_path)
    damage(path)
    done = program.run("once", more={"PYTHONPATH": str(tmp_path)})
    message = program.refusal(done, 1)
    assert str(path) in message
    assert "make bpf" in message
    assert "Unknown error" not in message


def test_object_of_another_version(tmp_path: Path) -> None:
    """An object that was built with other structs is not loaded."""
    path = _copy(tmp_path)
    own = struct.pack("=I", layouts.FINGERPRINT)
    content = path.read_bytes()
    assert content.count(own) == 1
    path.write_bytes(content.replace(own, struct.pack("=I", 0x01020304)))
    message = program.refusal(program.run("once", more={"PYTHONPATH": str(tmp_path)}), 1)
    assert "fingerprint 01020304 in the object" in message
    assert f"{layouts.FINGERPRINT:08X} in layouts.py" in message
    assert "make layouts bpf" in message


def test_object_refused_by_the_kernel(tmp_path: Path) -> None:
    """When the verifier refuses a program, its last words are quoted."""
    path = _copy(tmp_path)
    content = bytearray(path.read_bytes())
    # The first instruction of a program: r10, which is read-only, becomes its target.
    start = _first_instruction(bytes(content))
    content[start : start + 8] = struct.pack("=BBhi", 0xB7, 10, 0, 0)
    path.write_bytes(content)
    done = program.run("once", more={"PYTHONPATH": str(tmp_path)})
    assert done.returncode == 1
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith(f"netatop-exporter: {path}: the kernel refused it: ")
    assert "frame pointer is read only" in done.stderr


def _first_instruction(elf: bytes) -> int:
    """Return the offset of the section of count_receive (elf(5))."""
    (table,) = struct.unpack_from("=Q", elf, 40)
    size, count, names = struct.unpack_from("=HHH", elf, 58)
    headers = [struct.unpack_from("=IIQQQQ", elf, table + i * size) for i in range(count)]
    strings = headers[names][4]
    for header in headers:
        if elf[strings + header[0] :].startswith(b"cgroup_skb/ingress\0"):
            offset: int = header[4]
            return offset
    raise AssertionError


def test_table_of_one_task(name: str) -> None:
    """What finds no room is counted as overflow and as lost; the law holds all the same."""
    with (
        program.serve("--tasks.max", "1") as exporter,
        Process(workers.talker, name, 1) as one,
        Process(workers.talker, f"{name}b", 1) as other,
    ):
        before = exporter.scrape()
        for talker in (one, other):
            talker.hear()
            talker.tell(67)
            talker.hear()
        after = exporter.scrape()
        strangers = [
            found.sum("netatop_unidentified_transmit_packets_total", reason="overflow")
            for found in (before, after)
        ]
        assert strangers[1] - strangers[0] >= 67
        assert after.sum("netatop_lost_total", object="task", reason="full") > 0
        assert after.sum("netatop_map_entries", map="tasks") == 1
        assert after.sum("netatop_map_capacity", map="tasks") == 1
        assert after.sum("netatop_tasks") == 1


def test_address_taken() -> None:
    """The address is named; nothing is loaded for it."""
    with socket.create_server((program.LOCAL, 0)) as server:
        address = f"{program.LOCAL}:{server.getsockname()[1]}"
        done = program.run("serve", "--web.listen-address", address)
    message = program.refusal(done, 1)
    assert f"cannot listen on {address}: Address already in use" in message
    assert "--web.listen-address" in message


@pytest.mark.parametrize(
    ("address", "complaint"),
    [
        ("192.0.2.1:10048", "Cannot assign requested address"),
        ("nobody.invalid:10048", "nobody.invalid:10048"),
    ],
)
def test_address_of_nobody(address: str, complaint: str) -> None:
    """An address that is not this host's is refused."""
    message = program.refusal(program.run("--web.listen-address", address), 1)
    assert complaint in message


# Usage


@pytest.mark.parametrize(
    "words",
    [
        "--web.listen-address 10048",
        "--web.listen-address 127.0.0.1:65536",
        "--web.listen-address 127.0.0.1:-1",
        "--web.listen-address [::1",
        "--web.listen-address ::1:10048",
        "--web.listen-address http://127.0.0.1:10048",
        "--web.telemetry-path metrics",
        "--web.telemetry-path /",
        "--web.telemetry-path /healthz",
        "--web.telemetry-path /readyz",
        "--web.telemetry-path /a?b",
        "--web.allowed-host http://a",
        "--web.allowed-host a:1",
        "--web.max-requests 0",
        "--web.max-requests 1001",
        "--tasks.max 0",
        "--tasks.max -1",
        "--tasks.max 1.5",
        "--tasks.max 16777217",
        "--tasks.max many",
        "once --seconds -1",
        "once --seconds x",
        "once --seconds 86401",
        "status --web.listen-address nowhere",
    ],
)
def test_wrong_value(words: str) -> None:
    """The message names the flag, what was found, and what is accepted."""
    message = program.refusal(program.run(*words.split()), 2)
    *_, flag, value = words.split()
    assert f"{flag}: found '{value}'; accepted " in message


def test_unknown_command() -> None:
    """The message names those that there are."""
    message = program.refusal(program.run("frobnicate"), 2)
    accepted = (
        "serve, once, top, status, exits, hosts, connections, watch, wait, check-config, doctor, "
        "detach"
    )
    assert f"command: found 'frobnicate'; accepted are {accepted}" in message


@pytest.mark.parametrize(
    "words",
    [
        "--frobnicate",
        "serve extra",
        "serve --tasks.max",
        "--tasks.max",
        "--tasks 5",
        "--log.level loud",
        "--log.format xml",
        "once --web.listen-address :1",
        "doctor --seconds 1",
        "status --collector.threads",
    ],
)
def test_wrong_usage(words: str) -> None:
    """The usage is shown, and what is wrong with what was asked for."""
    done = program.run(*words.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: netatop-exporter ")
    last = done.stderr.splitlines()[-1]
    assert last.startswith("netatop-exporter")
    assert ": error: " in last
    assert any(word.lstrip("-") in last for word in words.split())


# What doctor says of it


def _needed(report: str) -> dict[str, str]:
    """Return the answers by feature."""
    lines = report.partition("needed:\n")[2].partition("\n\n")[0].splitlines()
    return {line[6:40].strip(): line[2:6].strip() for line in lines}


@pytest.mark.parametrize("prefix", [NOBODY, WITHOUT_ALL], ids=["nobody", "root without"])
def test_doctor_without_privileges(prefix: tuple[str, ...]) -> None:
    """It names what is missing, what it could not tell, and fails."""
    done = program.run("doctor", prefix=prefix)
    assert (done.returncode, done.stderr) == (1, "")
    assert f"missing: {', '.join(NEEDED)}; run as root" in done.stdout
    assert "serve would not work: " in done.stdout
    found = _needed(done.stdout)
    assert found["capabilities"] == "no"
    assert found["cgroup_skb"] == "?", "what it may not ask it does not deny"


def test_doctor_without_type_information(tmp_path: Path) -> None:
    """It tells the kernel option, and that it can't tell what hangs on it."""
    done = program.run("doctor", prefix=_without_btf(tmp_path))
    assert (done.returncode, done.stderr) == (1, "")
    found = _needed(done.stdout)
    assert "no  type information (BTF)" in done.stdout
    assert found["tracepoint sched_process_exit"] == "?"
    assert found["cgroup_skb"] == "yes"
    assert "CONFIG_DEBUG_INFO_BTF" in done.stdout


def test_doctor_without_cgroup() -> None:
    """A private mount will do."""
    done = program.run("doctor", prefix=_without_cgroup())
    assert (done.returncode, done.stderr) == (0, "")
    assert "mounted privately" in done.stdout


def test_doctor_of_a_damaged_object(tmp_path: Path) -> None:
    """It says what `serve` would say."""
    _copy(tmp_path).write_bytes(b"")
    done = program.run("doctor", more={"PYTHONPATH": str(tmp_path)})
    assert (done.returncode, done.stderr) == (1, "")
    assert "serve would not work: " in done.stdout
    assert "make bpf" in done.stdout


def test_no_libbpf(tmp_path: Path) -> None:
    """Without the library, the message names the package that has it."""
    fake = tmp_path / "libbpf.so.1"
    fake.write_bytes(b"not a library")
    more = {"LD_LIBRARY_PATH": str(tmp_path)}
    message = program.refusal(program.run("once", more=more), 1)
    assert "libbpf.so.1" in message
    assert "apt-get install libbpf1" in message
    done = program.run("doctor", more=more)
    assert (done.returncode, done.stderr) == (1, "")
    assert "apt-get install libbpf1" in done.stdout


def test_capsh_agrees() -> None:
    """A second tool that takes capabilities away comes to the same message."""
    done = subprocess.run(
        ("capsh", "--drop=cap_net_admin", "--", "-c", 'exec "$@"', "sh", *program.COMMAND, "once"),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
        cwd="/",
    )
    assert "CAP_NET_ADMIN missing; " in program.refusal(done, 1)
