# SPDX-License-Identifier: Apache-2.0
"""The service in a booted systemd: what it may do, how it is watched, and what goes wrong."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, Final

import pytest

from exporter.kernel.capabilities import Capability
from tests.deploy.service.machine import CONFIG, PINS, SERVICE, wait_for
from tests.deploy.service.talker import UNIT, check, talker
from tests.deploy.service.tree import CHECKOUT
from tests.workload import PATIENCE

if TYPE_CHECKING:
    from tests.deploy.service.machine import Machine

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

RESTARTS: Final = 3
OTHER: Final = ("python3", "-m", "http.server", "--bind", "127.0.0.1", "10048")
SCORE: Final = 2.4
"""As systemd 252 counts; less is better."""
KEPT: Final = {Capability.CAP_BPF, Capability.CAP_SYS_PTRACE, Capability.CAP_DAC_READ_SEARCH}
BOUND: Final = {*KEPT, Capability.CAP_PERFMON, Capability.CAP_NET_ADMIN}

FORBIDDEN: Final = {
    "write /etc/x": "EROFS",
    "write /usr/x": "EROFS",
    "write /proc/sys/kernel/hostname": "EROFS",
    "write /sys/fs/bpf/x": "EROFS",
    "write /sys/fs/cgroup/x": "EROFS",
    "read /dev/mem": "ENOENT",
    "read /home/somebody": "ENOENT",
    "packet socket": "EAFNOSUPPORT",
    "hostname": "EPERM",
    "namespace": "EPERM",
    "executable memory": "EPERM",
    "write /sys/fs/bpf/netatop-exporter/x": "EACCES",  # no files there, but it is not read-only
    "write /var/log/netatop-exporter/x": "",
    "write /var/lib/netatop-exporter/x": "",
    "write /run/netatop-exporter/x": "",
}
"""What is tried in the service's place, and what comes of it."""
TRY: Final = """
import ctypes, errno, json, mmap, os, socket, sys
def attempt(words):
    verb, _, rest = words.partition(" ")
    try:
        if words == "packet socket":
            socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
        elif words == "executable memory":
            mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        elif words == "hostname":
            socket.sethostname("x")
        elif words == "namespace":
            if ctypes.CDLL(None, use_errno=True).unshare(0x10000000):
                raise OSError(ctypes.get_errno(), "")
        elif verb == "read":
            open(rest).close()
        else:
            open(rest, "w").close()
    except OSError as error:
        return errno.errorcode[error.errno]
    return ""
with open("/run/netatop-exporter/tried", "w") as file:
    json.dump({words: attempt(words) for words in json.loads(sys.argv[1])}, file)
"""


ASK_ON: Final = """
import http.client, json, os
answered, dropped, refused = 0, [], []
while not os.path.exists("/root/stop"):
    connection = http.client.HTTPConnection("127.0.0.1", 10048, timeout=30)
    try:
        connection.connect()
    except OSError as error:
        refused.append(repr(error))
        continue
    try:
        connection.request("GET", "/metrics", headers={"Connection": "close"})
        answer = connection.getresponse()
        assert answer.status == 200 and len(answer.read()) > 4099, answer.status
        answered += 1
    except Exception as error:
        dropped.append(repr(error))
    connection.close()
print(json.dumps({"answered": answered, "dropped": dropped, "refused": refused}))
"""
ASK_UNIX: Final = """
import http.client, socket
connection = http.client.HTTPConnection("localhost")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect("/run/netatop-exporter.socket")
connection.request("GET", "/readyz")
print(connection.getresponse().status)
"""


def _restarts(service: Machine, number: int = 1) -> None:
    """Wait until systemd has restarted it, and it is ready."""
    wait_for(lambda: int(service.show("NRestarts")) >= number, "it is restarted")
    wait_for(lambda: service.show("ActiveState") == "active", "it is active")
    wait_for(service.is_ready, "it is ready")


def _fails(service: Machine) -> str:
    """Start it, see it fail for good, and return what it has said."""
    assert service.attempt("systemctl", "restart", SERVICE).returncode == 1
    said = service.journal()
    assert service.show("ActiveState") == "failed", said
    assert service.show("ExecMainStatus") == "2"
    assert service.show("NRestarts") == "0"
    assert "Traceback" not in said
    return said


def _capabilities(mask: str) -> set[int]:
    return {number for number in range(64) if int(mask, 16) >> number & 1}


def test_least_privilege(service: Machine) -> None:
    """A user of its own with three capabilities, of five it can ever have; local, by default."""
    assert service.is_ready()
    status = service.status()
    [uid] = set(status["Uid"].split())
    assert service.run("id", "-un", uid) == "netatop-exporter\n"
    assert _capabilities(status["CapEff"]) == _capabilities(status["CapPrm"]) == KEPT
    assert _capabilities(status["CapBnd"]) <= BOUND
    assert _capabilities(status["CapAmb"]) == set()
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    listening = service.run("ss", "-Hltn").split()
    assert [word for word in listening if word.endswith(":10048")] == ["127.0.0.1:10048"]
    assert service.path(PINS).stat().st_uid == int(uid)
    assert re.fullmatch(r"\d+ programs attached; lost: nothing", service.show("StatusText"))


def test_sandbox(service: Machine) -> None:
    """What the unit forbids is forbidden to a process in its place; what it needs it has."""
    service.write("/usr/local/bin/try", TRY)
    service.write("/home/somebody", "a secret")
    words = json.dumps(list(FORBIDDEN)).replace('"', '\\"')
    service.drop_in(f'ExecStartPost=/usr/bin/python3 /usr/local/bin/try "{words}"')
    service.run("systemctl", "restart", SERVICE)
    assert json.loads(service.path("/run/netatop-exporter/tried").read_text()) == FORBIDDEN


def test_unit(service: Machine) -> None:
    """Nothing is said against the units, and little against the exposure."""
    for unit in (SERVICE, "netatop-exporter.socket"):
        done = service.attempt("systemd-analyze", "verify", "--man=no", unit)
        assert (done.returncode, done.stderr) == (0, "")
    said = service.run("systemd-analyze", "security", "--no-pager", SERVICE)
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", said)
    assert found, said
    assert float(found[1]) <= SCORE, said


def test_nothing_to_complain_of(service: Machine) -> None:
    """Without /var/log/containers, and as it is installed: no error, no warning but of the test."""
    assert not service.path("/var/log/containers").exists()
    service.scrape()
    said = service.journal()
    assert "level=error" not in said
    [warning] = re.findall("level=warn .*", said)
    assert "process ids are those of a pid namespace" in warning


def test_watchdog(service: Machine) -> None:
    """One that hangs is ended and started again; what was sent meanwhile is counted."""
    service.drop_in("WatchdogSec=1s")
    service.run("systemctl", "restart", SERVICE)
    with talker(service) as talk:
        before = service.scrape()
        service.run("kill", "-STOP", service.show("MainPID"))
        talk.send_more()
        _restarts(service)
        sent = talk.stop()
        after = service.scrape()
    after.check_growth(before)
    check(after, sent)
    said = service.journal()
    assert "Watchdog timeout (limit 1s)!" in said
    assert "Fatal Python error: Aborted" in said, "where it hung"


def test_killed(service: Machine) -> None:
    """SIGKILL: systemd starts it again, and nothing is missing."""
    with talker(service) as talk:
        before = service.scrape()
        pid = service.show("MainPID")
        service.run("kill", "-KILL", pid)
        talk.send_more()
        _restarts(service)
        assert service.show("MainPID") != pid
        sent = talk.stop()
        after = service.scrape()
    after.check_growth(before)
    check(after, sent)


def test_reload(service: Machine) -> None:
    """A good file is applied, a broken one fails the reload; the process stays."""
    pid = service.show("MainPID")
    service.write(CONFIG, "groups: [{name: chatty, unit: ['talker[.]service']}]\n")
    service.run("systemctl", "reload", SERVICE)
    wait_for(lambda: f"{CONFIG}: applied" in service.journal(), "it is applied")
    with talker(service) as talk:
        sent = talk.stop()
        found = service.scrape().traffic("group_", group="chatty", protocol="udp")
    assert found["receive_packets"] == sent

    service.write(CONFIG, "groups: many\n")
    assert service.attempt("systemctl", "reload", SERVICE).returncode == 1
    assert f"netatop-exporter: {CONFIG}:1:9: groups: found 'many'; accepted is" in service.journal()

    # One that takes a restart is no mistake to `check-config`, but can't be applied now.
    service.write(CONFIG, "threads: true\n")
    service.run("systemctl", "reload", SERVICE)
    wait_for(lambda: "refused" in service.show("StatusText"), "systemctl status says so")
    assert "accepted without a restart is false" in service.journal()
    assert (service.show("MainPID"), service.show("ActiveState")) == (pid, "active")
    service.run("systemctl", "restart", SERVICE)
    assert "refused" not in service.show("StatusText")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("groups: many\n", f"{CONFIG}:1:9: groups: found 'many'; accepted is a list"),
        ("limit: {}\n", f"{CONFIG}:1:1: found the key 'limit'; accepted is"),
        (None, f"{CONFIG}: No such file or directory"),
    ],
)
def test_broken_configuration(service: Machine, text: str | None, said: str) -> None:
    """It says what is wrong and is not started again and again."""
    service.path(CONFIG).unlink()
    if text:
        service.write(CONFIG, text)
    assert f"netatop-exporter: {said}" in _fails(service)


def test_unreadable_configuration(service: Machine) -> None:
    """A file that is root's can be read, by a capability; without that it says why not."""
    service.write(CONFIG, "threads: true\n")
    service.path(CONFIG).chmod(0o600)
    service.run("systemctl", "restart", SERVICE)
    few = "CAP_BPF CAP_PERFMON CAP_NET_ADMIN"
    reset = "AmbientCapabilities=\nCapabilityBoundingSet=\n"
    service.drop_in(f"{reset}AmbientCapabilities={few}\nCapabilityBoundingSet={few}")
    assert f"netatop-exporter: {CONFIG}: Permission denied" in _fails(service)


def test_wrong_flags(service: Machine) -> None:
    """A mistake in ARGS is said, and not tried again."""
    service.write("/etc/default/netatop-exporter", 'ARGS="--tasks.max none"\n')
    assert "netatop-exporter: --tasks.max: found 'none'" in _fails(service)


def test_address_in_use(service: Machine) -> None:
    """It says so, and is there when the address is free."""
    service.run("systemctl", "stop", SERVICE)
    service.run("systemd-run", "--unit=other", "--quiet", *OTHER)
    wait_for(service.listens, "the other one listens")
    service.attempt("systemctl", "start", SERVICE)
    said = service.journal()
    assert "cannot listen on 127.0.0.1:10048: Address already in use; choose another" in said
    service.run("systemctl", "stop", "other")
    wait_for(service.is_ready, "it is ready")


@pytest.mark.parametrize(
    ("breaks", "mends", "said"),
    [
        (
            "umount /sys/fs/bpf",
            "mount -t bpf bpf /sys/fs/bpf",
            f"--pin-path {PINS}: is on sysfs; accepted is a directory of a bpf file system: mount",
        ),
        (
            "echo ARGS=--web.systemd-socket >/etc/default/netatop-exporter",
            "echo ARGS= >/etc/default/netatop-exporter",
            "--web.systemd-socket: found no sockets from systemd (LISTEN_FDS); accepted is a start",
        ),
        (
            f"netatop-exporter detach --pin-path {PINS} && chmod 0 /usr/bin/install",
            "chmod 755 /usr/bin/install",
            f"--pin-path {PINS}: Read-only file system; name a directory",
        ),
    ],
    ids=["no bpf file system", "no sockets", "no directory"],
)
def test_mended(service: Machine, breaks: str, mends: str, said: str) -> None:
    """It says what is missing, tries again, and starts when it is there."""
    service.run("systemctl", "stop", SERVICE)
    service.run("sh", "-c", breaks)
    assert service.attempt("systemctl", "start", SERVICE).returncode == 1
    assert f"netatop-exporter: {said}" in service.journal()
    service.run("sh", "-c", mends)
    wait_for(service.is_ready, "it is ready")


def _netfilter_links(service: Machine) -> int:
    """Return how many the service holds (proc_pid_fdinfo(5))."""
    place = service.path(f"/proc/{service.show('MainPID')}/fdinfo")
    return sum("link_type:\tnetfilter" in file.read_text() for file in place.iterdir())


def _drop_ins() -> dict[str, str]:
    """Return what docs/install.md says to add, by a word of what it is for."""
    page = (CHECKOUT / "docs/install.md").read_text()
    [lines] = re.findall(r"```ini\n\[Service\]\n(.*?)```", page, re.DOTALL)
    found = {"namespaces": lines}
    for what, cell in re.findall(r"^\| (.*?) \| (.*?) \|$", page, re.MULTILINE):
        said = "".join(f"{line}\n" for line in re.findall(r"`([A-Z]\w+=\S+)`", cell))
        for capability in re.findall(r"`(CAP_\w+)`", cell):
            said += f"AmbientCapabilities={capability}\nCapabilityBoundingSet={capability}\n"
        found |= {word: said for word in ("/run", "1024") if word in what and said}
    return found


@pytest.mark.parametrize(
    ("word", "flags", "shown"),
    [
        ("namespaces", "", "CAP_SYS_ADMIN (other network namespaces)"),
        ("/run", "--compat.netatop-bpf", ""),
        ("1024", "--web.listen-address 127.0.0.1:1023", "serves http://127.0.0.1:1023/metrics"),
    ],
)
def test_drop_in(service: Machine, word: str, flags: str, shown: str) -> None:
    """What the documentation adds for a feature is what it takes."""
    service.write("/etc/default/netatop-exporter", f'ARGS="{flags}"\n')
    if flags:
        assert service.attempt("systemctl", "restart", SERVICE).returncode == 1, "it is needed"
    service.drop_in(_drop_ins()[word])
    service.run("systemctl", "restart", SERVICE)
    assert shown in service.journal()
    if word == "/run":
        assert service.path("/run/netatop-bpf-socket").is_socket()
    if word == "namespaces":
        links = _netfilter_links(service)
        service.run("ip", "netns", "add", "other")
        wait_for(lambda: _netfilter_links(service) > links, "there are links there, too")


def test_full_disk(service: Machine) -> None:
    """A log that can't be written is counted as lost, and said; scrapes go on, and so does it."""
    place = "/var/log/netatop-exporter"
    service.run("mount", "-t", "tmpfs", "-o", "size=256k,mode=777", "tmpfs", place)
    service.run("sh", "-c", f"head -c 1M /dev/zero >{place}/full || true")
    service.write(CONFIG, "exit_log: {format: json}\n")
    service.run("systemctl", "restart", SERVICE)
    with talker(service) as talk:
        talk.stop()
    ended = time.monotonic()
    time.sleep(4)
    with talker(service) as talk:
        sent = talk.stop()
        service.scrape()

    # Nothing can join a finished process after 16 s: then it is written.
    time.sleep(ended + 17.5 - time.monotonic())
    wait_for(lambda: service.scrape().sum("netatop_exit_log_lost_total") > 0, "it is lost")
    assert f"exit log: {place}/exits.jsonl: not written, reason full" in service.journal()
    service.path(f"{place}/full").unlink()
    log = service.path(f"{place}/exits.jsonl")

    def is_written() -> bool:
        service.scrape()
        return log.exists() and f'"unit": "{UNIT}"' in log.read_text()

    wait_for(is_written, "the second one is written")
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    talked = [entry["udp"]["transmit_packets"] for entry in entries if entry["unit"] == UNIT]
    assert talked == [sent]


def test_socket_activation(service: Machine) -> None:
    """Who asks while it is restarted waits, and is answered; at a Unix socket, too."""
    service.write("/etc/default/netatop-exporter", "ARGS=--web.systemd-socket\n")
    service.write(
        "/etc/systemd/system/netatop-exporter.socket.d/test.conf",
        "[Socket]\nListenStream=/run/netatop-exporter.socket\n",
    )
    service.run("systemctl", "daemon-reload")
    service.run("systemctl", "stop", SERVICE)
    service.run("systemctl", "enable", "--now", "netatop-exporter.socket")
    assert service.show("ActiveState") == "inactive"
    assert service.is_ready(), "the first question starts it"
    before = service.scrape()
    service.write("/root/ask", ASK_ON)
    asking = service.start("python3", "/root/ask")
    try:
        for _ in range(RESTARTS):
            service.run("systemctl", "restart", SERVICE)
    finally:
        service.write("/root/stop", "")
        said = asking.communicate(timeout=PATIENCE)[0]
    counted = json.loads(said)
    assert counted["refused"] == [], counted
    assert counted["answered"] >= RESTARTS, counted
    assert counted["dropped"] == [], counted
    service.scrape().check_growth(before)
    assert service.run("python3", "-c", ASK_UNIX) == "200\n"
