# SPDX-License-Identifier: Apache-2.0
"""What each feature takes: everything else is dropped, and it works exactly; docs/privileges.md."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import signal
import socket
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from exporter.kernel import features
from tests import workload
from tests.e2e import attachments, program, workers
from tests.e2e.test_exit_log import netatop, semaphores, subscribed
from tests.e2e.test_groups import tree
from tests.e2e.test_hosts import behind, udp_traffic
from tests.e2e.test_hosts import command as asked
from tests.e2e.test_netatop_bpf import reader as stream_reader
from tests.kernel.lab import alone, cgroup
from tests.network import CLONE_NEWNET, LIBC, checked, namespace, run
from tests.traffic import netatop as module
from tests.traffic import udp
from tests.workload import Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from tests.e2e.program import Program
    from tests.network import Namespace

pytestmark = [pytest.mark.e2e, pytest.mark.kernel, pytest.mark.usefixtures("nothing_left")]

__all__ = ["semaphores"]

CORE: Final = ("bpf", "perfmon", "net_admin")
BITS: Final = {
    "dac_override": 1,
    "dac_read_search": 2,
    "net_admin": 12,
    "sys_ptrace": 19,
    "sys_admin": 21,
    "perfmon": 38,
    "bpf": 39,
}
KERNEL: Final = features.Running.here()
NETFILTER: Final = ("sys_admin",) if KERNEL.has_netfilter else ()
"""Kept to enter namespaces, where there is something to attach there."""
needs_netfilter = pytest.mark.skipif(
    not KERNEL.has_netfilter, reason="no netfilter links in this kernel"
)
SIZE: Final = 43
NOBODY: Final = 65534
ECHO: Final = ("::1", socket.SOCK_RAW, 53, 1009)
"""Arguments of `workload.echo`; nobody else asks for so much."""
REQUESTS: Final = {"receive_packets": 53, "receive_bytes": 53 * (40 + 8 + 1009)}
EVERYTHING: Final = tuple(
    f"--collector.{what}" for what in ("threads", "sockets", "remotes", "hosts", "lifecycle")
)


def container(*capabilities: str) -> tuple[str, ...]:
    """Return a prefix that makes of root what it is in a container: all others are taken away."""
    return ("setpriv", "--bounding-set=" + ",".join(("-all", *(f"+{c}" for c in capabilities))))


def user(*capabilities: str) -> tuple[str, ...]:
    """Return a prefix that makes of us an ordinary user with these, as systemd does.

    And with CAP_DAC_READ_SEARCH, to run the program wherever that is installed.
    """
    given = ",".join(("-all", "+dac_read_search", *(f"+{c}" for c in capabilities)))
    return (
        *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
        *(f"--inh-caps={given}", f"--ambient-caps={given}"),
    )


def kept(exporter: Program) -> dict[str, str]:
    """Return what the log says was kept, and for what."""
    (line,) = (line for line in exporter.log.splitlines() if "capabilities kept: " in line)
    said = line.partition("capabilities kept: ")[2].rstrip('"')
    parts = [part.partition(" (") for part in said.split("; ")] if said != "none" else []
    return {name.lower().removeprefix("cap_"): why.rstrip(")") for name, _, why in parts}


def said(exporter: Program, capability: str) -> str:
    """Return what the log says is lost without a capability."""
    missing = f"CAP_{capability.upper()} missing; "
    (line,) = (line for line in exporter.log.splitlines() if missing in line)
    return line.partition(missing)[2]


def sets(exporter: Program) -> set[tuple[str, ...]]:
    """Return the sets of capabilities of all threads, and no_new_privs (proc_pid_status(5))."""
    names = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs")
    found = set()
    for thread in Path(f"/proc/{exporter.pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            lines = (thread / "status").read_text().splitlines()
            fields = dict(line.split(":\t") for line in lines)
            found.add(tuple(fields[name].lstrip("0") or "0" for name in names))
    return found


def mask(*capabilities: str) -> str:
    """Return a set as the kernel prints it, without zeros before it."""
    return f"{sum(1 << BITS[name] for name in capabilities):x}"


# Counting


@pytest.mark.parametrize("how", [container, user], ids=["container", "user"])
def test_core(how: Callable[..., tuple[str, ...]], name: str) -> None:
    """Processes, threads, sockets, classes, hosts and lives take the three, and then none."""
    with (
        Process(workers.talker, name, SIZE) as talker,
        program.serve(*EVERYTHING, prefix=how(*CORE)) as exporter,
    ):
        port = str(talker.hear())
        exporter.scrape()
        talker.tell(23)
        talker.hear()
        workers.live(f"{name}x", 3, SIZE)
        found = exporter.scrape()
        expected = workers.traffic(23, SIZE)
        pid = str(talker.pid)
        assert found.traffic("process_", pid=pid, protocol="udp") == expected
        assert found.traffic("thread_", pid=pid, protocol="udp") == expected
        assert found.traffic("socket_", pid=pid, local_port=port) == expected
        assert found.traffic("group_", group=name, protocol="udp") == expected
        assert found.traffic("group_remote_", group=name) == expected
        assert found.traffic("exited_", group=f"{name}x") == workers.traffic(3, SIZE)
        assert found.sum("netatop_host_receive_bytes_total", address="127.0.0.1") > 0
        assert found.sum("netatop_lifecycle_events_total", event="exit") > 0
        rest = {"dac_read_search"} if how is user else set()
        assert kept(exporter).keys() == rest
        assert {one[1:3] for one in sets(exporter)} == {(mask(*rest),) * 2}


@pytest.mark.parametrize("missing", CORE)
def test_core_without(missing: str) -> None:
    """Each of the three is missed by name."""
    for how in (container, user):
        prefix = how(*(one for one in CORE if one != missing))
        message = program.refusal(program.run("serve", prefix=prefix), 1)
        assert f": CAP_{missing.upper()} missing; " in message


def requests(exporter: Program) -> dict[str, float]:
    """Return what the kernel itself has received by ICMP, in all namespaces."""
    found = exporter.scrape().traffic("unidentified_", reason="kernel", protocol="icmp")
    return {what: found[what] for what in REQUESTS}


def grown(exporter: Program, client: Process, before: dict[str, float]) -> dict[str, float]:
    """Return what a client of `workload.echo` has asked the kernel."""
    assert client.hear() == "done"
    return {what: value - before[what] for what, value in requests(exporter).items()}


@needs_netfilter
@pytest.mark.parametrize("entered", [True, False])
def test_namespaces(*, entered: bool) -> None:
    """With CAP_SYS_ADMIN what the kernel receives in a namespace is counted, also in a new one."""
    prefix = container(*CORE, *(("sys_admin",) if entered else ()))
    with alone(), namespace() as old, program.serve(prefix=prefix) as exporter, namespace() as new:
        if entered:
            assert kept(exporter) == {"sys_admin": "other network namespaces"}
        else:
            assert said(exporter, "sys_admin").startswith("the kernel's own packets there")
        for place in (old, new):
            if place is new:
                _wait_until_found(exporter, place, entered=entered)
            before = requests(exporter)
            with Process(workload.echo, *ECHO, namespace=place) as client:
                expected = REQUESTS if entered else dict.fromkeys(REQUESTS, 0)
                assert grown(exporter, client, before) == expected


def _wait_until_found(exporter: Program, place: Namespace, *, entered: bool) -> None:
    """Wait until what passes in a namespace is counted, or the log says that it is not."""
    inode = str(place.inode)

    def is_found() -> bool:
        if not entered:
            return inode in exporter.log
        before = requests(exporter)
        with Process(workload.echo, "::1", socket.SOCK_RAW, 1, 0, namespace=place) as client:
            return any(grown(exporter, client, before).values())

    wait_until(is_found, "it is found")


def leave_root(talk: Connection) -> None:
    """Become nobody in a network namespace without a name, and when told ask for echoes."""
    checked(LIBC.unshare(CLONE_NEWNET))
    run("ip", "link", "set", "lo", "up")
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as asker:
        workload._receive_only(asker, 129, six=True)
        os.setuid(NOBODY)
        talk.send("ready")
        talk.recv()
        for number in range(ECHO[2]):
            message = struct.pack("!BBHHH", 128, 0, 0, 53, number) + bytes(ECHO[3])
            asker.sendto(message, ("::1", 0))
        talk.send("done")
        talk.recv()


@needs_netfilter
@pytest.mark.parametrize("seen", [True, False])
def test_namespaces_of_others(*, seen: bool) -> None:
    """Those without a name are found by the processes in them, which takes CAP_SYS_PTRACE."""
    prefix = container(*CORE, "sys_admin", *(("sys_ptrace",) if seen else ()))
    with alone(), Process(leave_root) as client:
        client.hear()
        with program.serve(prefix=prefix) as exporter:
            before = requests(exporter)
            client.tell("go")
            expected = REQUESTS if seen else dict.fromkeys(REQUESTS, 0)
            assert grown(exporter, client, before) == expected


# Names


def talk_as_nobody(talk: Connection, name: str) -> None:
    """Send to itself as another user."""
    os.setuid(NOBODY)
    workers.talker(talk, name, SIZE)


@pytest.mark.parametrize("seen", [True, False])
def test_processes_of_others(name: str, tmp_path: Path, *, seen: bool) -> None:
    """Another user's executable takes CAP_SYS_PTRACE; command lines and counts take nothing."""
    file = tmp_path / "netatop-exporter.yml"
    file.write_text(f"groups: [{{name: '{name}-x', comm: [{name}], cmdline: [pytest]}}]\n")
    prefix = container(*CORE, *(("sys_ptrace",) if seen else ()))
    with (
        program.serve("--config.file", str(file), prefix=prefix) as exporter,
        Process(talk_as_nobody, name) as talker,
    ):
        talker.hear()
        talker.tell(23)
        talker.hear()
        found = exporter.scrape()
        labels = {"pid": str(talker.pid), "user": "nobody"}
        own = str(Path("/proc/self/exe").readlink())
        executables = found.label_values("netatop_process_info", "exe", **labels)
        assert executables == {own if seen else ""}
        assert found.traffic("group_", group=f"{name}-x") == workers.traffic(23, SIZE)
        if seen:
            assert kept(exporter) == {"sys_ptrace": "other users' processes"}
        else:
            assert "executables" in said(exporter, "sys_ptrace")


@pytest.mark.parametrize("seen", [True, False])
def test_hidden_processes(name: str, tmp_path: Path, *, seen: bool) -> None:
    """Where /proc hides those of others (proc(5), hidepid) it takes CAP_SYS_PTRACE to see them."""
    file = tmp_path / "netatop-exporter.yml"
    file.write_text(f"groups: [{{name: '{name}-x', comm: [{name}], cmdline: [pytest]}}]\n")
    hide = 'mount -t proc -o hidepid=ptraceable proc /proc; exec "$@"'
    inside = container(*CORE, *(("sys_ptrace",) if seen else ()))
    prefix = ("unshare", "--mount", "sh", "-ec", hide, "sh", *inside)
    with (
        program.serve("--config.file", str(file), prefix=prefix) as exporter,
        Process(talk_as_nobody, name) as talker,
    ):
        talker.hear()
        talker.tell(23)
        talker.hear()
        found = exporter.scrape()
        group = f"{name}-x" if seen else name
        assert found.traffic("group_", group=group) == workers.traffic(23, SIZE)


def test_cgroups_by_id(name: str) -> None:
    """With CAP_DAC_READ_SEARCH the path of a cgroup is known that was made a moment ago."""
    with program.serve(prefix=container(*CORE, "dac_read_search")) as exporter:
        assert kept(exporter) == {"dac_read_search": "cgroups by id, closed directories"}
        for _ in range(3):
            with cgroup() as place, Process(workers.talker, name, SIZE, cgroup=place) as talker:
                talker.hear()
                talker.tell(1)
                talker.hear()
                found = exporter.scrape()
                paths = found.label_values("netatop_process_info", "cgroup", pid=str(talker.pid))
                (path,) = paths
                assert Path(path).name == place.name


@pytest.mark.parametrize("listed", [True, False])
def test_pods(name: str, tmp_path: Path, *, listed: bool) -> None:
    """Where another user's directory is closed, the names of pods take CAP_DAC_READ_SEARCH."""
    number = "5a" * 32
    logs = tmp_path / "containers"
    logs.mkdir()
    (logs / f"web_shop_app-{number}.log").symlink_to("/nowhere")
    os.chown(logs, NOBODY, NOBODY)
    logs.chmod(0o700)
    file = tmp_path / "netatop-exporter.yml"
    file.write_text(f"kubernetes: {{container_logs: {logs}, pod_logs: {logs}}}\n")
    prefix = container(*CORE, *(("dac_read_search",) if listed else ()))
    path = f"kubepods.slice/cri-containerd-{number}.scope"
    with (
        program.serve("--config.file", str(file), prefix=prefix) as exporter,
        cgroup() as root,
        tree(root, path) as place,
    ):
        with Process(workers.talker, name, SIZE, cgroup=place) as talker:
            talker.hear()
            talker.tell(23)
            talker.hear()
            found = exporter.scrape()
            talker.tell(0)
            talker.wait()
        labels = {"container": "app", "pod": "web", "namespace": "shop"}
        expected = workers.traffic(23, SIZE) if listed else workers.traffic(0, 0)
        assert found.traffic("group_", **labels) == expected
        if not listed:
            assert said(exporter, "dac_read_search")


# Devices, other programs, files


def test_devices(tmp_path: Path) -> None:
    """With links (Linux 6.6) a device that comes later takes nothing any more."""
    rest = {} if KERNEL.has_tcx else {"net_admin": "devices that come later"}
    device = f"nt{os.getpid()}"
    file = tmp_path / "netatop-exporter.yml"
    file.write_text(f"hosts: {{devices: [{device}]}}\n")
    with program.serve("--config.file", str(file), prefix=container(*CORE)) as exporter:
        assert kept(exporter) == rest
        with behind(device) as (address, place):
            _echo(exporter, device, place)
            found = exporter.scrape()
            seen = found.traffic("host_", address=address, device=device, protocol="udp")
            assert seen == udp_traffic(23, 23)


def _echo(exporter: Program, device: str, place: Namespace) -> None:
    """Let what is behind a device talk to this host, when the device is known."""
    wait_until(lambda: f"{device}: counting what is behind" in exporter.log, "the device")
    with Process(udp.echo, "198.18.0.1", 23) as echo:
        echo.hear()
        with Process(udp.ask, "198.18.0.1", 23, 41, namespace=place) as asker:
            asker.wait()


def test_compat_netatop(name: str) -> None:
    """The reader's capability is what counts, not ours."""
    with (
        alone(),
        program.serve("--compat.netatop", prefix=container(*CORE)) as exporter,
        Process(workers.talker, name, SIZE) as talker,
    ):
        assert kept(exporter) == {}
        talker.hear()
        talker.tell(23)
        talker.hear()
        with module.reader() as reader:
            counts = reader.ask(module.GETCNT_TGID, talker.pid).counts
            total = (23, 23 * (workers.HEADERS + SIZE))
            assert counts == {"udp transmit": total, "udp receive": total}


@pytest.mark.usefixtures("semaphores")
def test_exit_log_for_atop(tmp_path: Path, name: str) -> None:
    """The exit list is read through the same options as by others: CAP_NET_ADMIN stays."""
    path = tmp_path / "netatop.log"
    file = tmp_path / "netatop-exporter.yml"
    file.write_text(f"exit_log: {{format: netatop, path: {path}}}\ncompat: {{netatop: true}}\n")
    with (
        alone(),
        program.serve("--config.file", str(file), prefix=container(*CORE)) as exporter,
        subscribed(),
    ):
        assert kept(exporter) == {"net_admin": "exit_log for atop"}
        pid = workers.live(name, 23, SIZE)
        wait_until(lambda: any(r[0] == pid for r in netatop(path)[1]), "it is written")
        (record,) = (r for r in netatop(path)[1] if r[0] == pid)
        size = 23 * (workers.HEADERS + SIZE)
        assert record[3:] == (0, 0, 0, 0, 23, size, 23, size)


def test_compat_netatop_bpf(tmp_path: Path, name: str) -> None:
    """The socket is answered, and removed in the end."""
    path = tmp_path / "socket"
    prefix = container(*CORE)
    with program.serve(f"--compat.netatop-bpf={path}", prefix=prefix) as exporter:
        assert kept(exporter) == {}
        with Process(workers.talker, name, SIZE) as talker, stream_reader(path) as reader:
            talker.hear()
            talker.tell(23)
            talker.hear()
            assert reader.ask()[talker.pid].udp == workers.traffic(23, SIZE)
        assert exporter.end() == 0
        assert not path.exists()


def test_exit_log(tmp_path: Path, name: str) -> None:
    """A log that is rotated; in another user's directory that takes CAP_DAC_OVERRIDE."""
    with contextlib.ExitStack() as stack:
        exporters = {}
        for owner in (0, NOBODY):
            folder = tmp_path / str(owner)
            folder.mkdir()
            os.chown(folder, owner, owner)
            path = folder / "exits.jsonl"
            file = tmp_path / f"{owner}.yml"
            file.write_text(f"exit_log: {{path: {path}, max_bytes: 4096, keep: 31}}\n")
            flags = ("--config.file", str(file))
            if owner:
                done = program.run("serve", *flags, prefix=container(*CORE))
                assert "exits.jsonl: Permission denied" in program.refusal(done, 1)
            prefix = container(*CORE, *(("dac_override",) if owner else ()))
            one = exporters[folder] = stack.enter_context(program.serve(*flags, prefix=prefix))
            assert kept(one) == ({"dac_override": "directory of another user"} if owner else {})
        pids = {workers.live(name, 23, SIZE) for _ in range(17)}
        for folder, one in exporters.items():
            wait_until(
                lambda folder=folder, one=one: one.scrape() and pids <= {*_logged(folder, name)},
                "all are written",
            )
            assert (folder / "exits.jsonl.1.gz").exists()
            assert len(_logged(folder, name)) == len(pids)


def _logged(folder: Path, name: str) -> list[int]:
    """Return the processes in a log and in what was put away of it."""
    texts = [(folder / "exits.jsonl").read_text()]
    texts += [gzip.decompress(part.read_bytes()).decode() for part in folder.glob("*.gz")]
    entries = (json.loads(line) for text in texts for line in text.splitlines())
    return [entry["pid"] for entry in entries if entry["process"] == name]


def test_pins(bpffs: Path, name: str) -> None:
    """What is remembered beside the pins is in a table, and making one takes CAP_BPF."""
    flags = ("--pin-path", str(bpffs / "netatop"))
    for number in (1, 2, 3):
        with program.serve(*flags, prefix=container(*CORE)) as exporter:
            assert kept(exporter) == {"bpf": "memory beside the pins"}
            workers.live(name, 23, SIZE)
            found = exporter.scrape()
            assert found.traffic("exited_", group=name) == workers.traffic(number * 23, SIZE)
            assert found.sum("netatop_exited_processes_total", group=name) == number


def test_system_administrator(bpffs: Path, name: str) -> None:
    """CAP_SYS_ADMIN stands for two of the three, also for the one that stays."""
    flags = ("--pin-path", str(bpffs / "netatop"), "--no-collector.netfilter")
    for number in (1, 2):
        prefix = container("sys_admin", "net_admin")
        with program.serve(*flags, prefix=prefix) as exporter:
            assert kept(exporter) == {"sys_admin": "memory beside the pins"}
            workers.live(name, 23, SIZE)
            found = exporter.scrape()
            assert found.traffic("exited_", group=name) == workers.traffic(number * 23, SIZE)


def test_low_port() -> None:
    """It takes CAP_NET_BIND_SERVICE, until it is open."""
    with namespace() as place:  # whatever this host permits
        place.set("net.ipv4.ip_unprivileged_port_start", 1024)
        where = ("--web.listen-address", f"{program.LOCAL}:997")
        inside = ("nsenter", f"--net=/run/netns/{place.name}")
        done = program.run("serve", *where, prefix=(*inside, *container(*CORE)))
        assert "cannot listen on 127.0.0.1:997: Permission denied" in program.refusal(done, 1)
        prefix = (*inside, *container(*CORE, "net_bind_service"))
        with program.start(*where, prefix=prefix) as exporter:
            wait_until(lambda: "serves http://127.0.0.1:997/" in exporter.log, "it serves")
            assert kept(exporter) == {}
            assert exporter.end() == 0


# Commands


def leave_later(talk: Connection, how: int) -> None:
    """End when somebody listens to the kernel's events, which is seen by its program."""
    before = attachments.all_there()
    talk.send("ready")
    wait_until(lambda: (attachments.all_there() - before).links, "somebody waits")
    time.sleep(1)
    raise SystemExit(how)


def test_wait() -> None:
    """To watch takes two of the three."""
    with Process(leave_later, 7) as process:
        process.hear()
        done = program.run("wait", str(process.pid), prefix=container("bpf", "perfmon"))
        assert (done.returncode, done.stdout) == (7, f"{process.pid}: exit status 7\n")


@pytest.mark.parametrize("missing", ["bpf", "perfmon"])
def test_wait_without(missing: str) -> None:
    """Each of the two is missed by name."""
    prefix = container(*(one for one in ("bpf", "perfmon") if one != missing))
    message = program.refusal(program.run("wait", "1", prefix=prefix), 1)
    assert f"watching processes: CAP_{missing.upper()} missing; run as root" in message


@pytest.mark.parametrize("told", [True, False])
def test_wait_for_one_that_has_ended(name: str, *, told: bool) -> None:
    """The kernel says how to those who may look into it; to others it says 0, which we do not."""
    prefix = container("bpf", "perfmon", *(("sys_ptrace",) if told else ()))
    with Process(workers.leave, name, 7) as process:
        wait_until(lambda: process.ended, "it has ended")
        done = program.run("wait", str(process.pid), prefix=prefix)
    if told:
        assert (done.returncode, done.stdout) == (7, f"{process.pid}: exit status 7\n")
    else:
        assert "CAP_SYS_PTRACE" in program.refusal(done, 1)


@pytest.mark.parametrize(
    "words", ["status", "exits", "hosts", "connections 127.0.0.1", "top --batch --count=1"]
)
def test_questions(words: str) -> None:
    """Who asks a running exporter needs nothing."""
    with program.serve("--collector.hosts") as exporter:
        where = ("--web.listen-address", exporter.address)
        done = program.run(*words.split(), *where, prefix=container())
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_doctor() -> None:
    """It says of each feature that is on what is missing and what is lost."""
    done = program.run("doctor", prefix=container(*CORE, "sys_ptrace"))
    assert (done.returncode, program.complaints(done)) == (0, [])
    lines = done.stdout.splitlines()
    assert "  yes capabilities                      CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF" in lines
    assert "  yes other users' processes            CAP_SYS_PTRACE" in lines
    (line,) = (line for line in lines if "missing: CAP_SYS_ADMIN" in line)
    assert line.startswith("  no  other network namespaces ")
    (line,) = (line for line in lines if "missing: CAP_DAC_READ_SEARCH" in line)
    assert line.startswith("  no  cgroups by id, closed directories missing: ")
    less = program.run("doctor", "--no-collector.netfilter", prefix=container(*CORE))
    assert "other network namespaces" not in less.stdout


# What is given up


@pytest.mark.parametrize(
    ("flags", "rest"),
    [
        ((), ("dac_read_search", "sys_ptrace", *NETFILTER)),
        (("--no-collector.netfilter", *EVERYTHING), ("dac_read_search", "sys_ptrace")),
        (("--compat.netatop",), ("dac_read_search", "sys_ptrace", *NETFILTER)),
    ],
)
def test_given_up(flags: tuple[str, ...], rest: tuple[str, ...]) -> None:
    """In every thread, those of requests too, there is what is needed and nothing else."""
    with (
        program.serve(*flags) as exporter,
        socket.create_connection((program.LOCAL, exporter.port)) as idle,
    ):
        idle.send(b"GET /metrics HTTP/1.1\r\n")
        exporter.scrape()
        wait_until(lambda: len(list(Path(f"/proc/{exporter.pid}/task").iterdir())) >= 3, "a thread")
        whole = mask(*rest)
        assert sets(exporter) == {("0", whole, whole, "0", "0", "1")}
        assert kept(exporter).keys() == set(rest)


def test_given_up_by_user() -> None:
    """Who is not root has no more than he was given; the bounding set is not his to change."""
    with program.serve(prefix=user(*CORE)) as exporter:
        exporter.scrape()
        whole = mask("dac_read_search")
        (found,) = sets(exporter)
        assert (*found[:3], *found[4:]) == ("0", whole, whole, "0", "1")


def test_kept() -> None:
    """With --capabilities.keep nothing is given up, nor can anything be won."""
    mine = Path("/proc/self/status").read_text().partition("CapEff:\t")[2].split()[0].lstrip("0")
    with program.serve("--capabilities.keep") as exporter:
        exporter.scrape()
        (found,) = sets(exporter)
        assert (found[1], found[2], found[5]) == (mine, mine, "1")
        assert "all were kept (--capabilities.keep)" in exporter.log


@needs_netfilter
@pytest.mark.usefixtures("semaphores")
def test_goes_on(bpffs: Path, tmp_path: Path, name: str) -> None:
    """All at once, as root: what is opened, found, read again and removed later still is."""
    device, log, path = f"nt{os.getpid()}", tmp_path / "log" / "exits.jsonl", tmp_path / "socket"
    file = tmp_path / "netatop-exporter.yml"
    text = f"exit_log: {{path: {log}}}\nhosts: {{devices: [{device}]}}\n"
    file.write_text(text)
    flags = ("--config.file", str(file), "--pin-path", str(bpffs / "netatop"), "--compat.netatop")
    with alone(), program.serve(*flags, f"--compat.netatop-bpf={path}", *EVERYTHING) as exporter:
        whole = mask("dac_read_search", "sys_ptrace", "sys_admin", "bpf")
        assert {one[1] for one in sets(exporter)} == {whole}
        file.write_text(f"{text}groups: [{{name: {name}-x, comm: [{name}]}}]\n")
        file.chmod(0o600)
        os.chown(file, NOBODY, NOBODY)
        exporter.reload()
        with behind(device) as (_, place):
            _wait_until_found(exporter, place, entered=True)
            before = requests(exporter)
            with Process(workload.echo, *ECHO, namespace=place) as client:
                assert grown(exporter, client, before) == REQUESTS
            _echo(exporter, device, place)
            (flow,) = (
                flow
                for line in asked(exporter, "connections", "198.18.0.2", "--json").splitlines()
                if (flow := json.loads(line))["device"] == device
            )
            assert flow["transmit_packets"] == 23
        pid = workers.live(name, 23, SIZE)
        wait_until(lambda: exporter.scrape() and pid in _logged(log.parent, name), "it is written")
        found = exporter.scrape()
        assert found.traffic("exited_", group=f"{name}-x") == workers.traffic(23, SIZE)
        with stream_reader(path) as reader:
            assert reader.ask()
        assert {one[1] for one in sets(exporter)} == {whole}
        assert exporter.end(signal.SIGTERM) == 0
        assert not path.exists()
    assert program.run("detach", "--pin-path", str(bpffs / "netatop")).returncode == 0
