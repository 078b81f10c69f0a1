# SPDX-License-Identifier: Apache-2.0
"""Who may ask, and who may not: TLS, certificates, users, headers (--web.config.file)."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import re
import socket
import ssl
import statistics
import subprocess
import time
from typing import TYPE_CHECKING, Final

import bcrypt
import pytest

from tests.e2e import program, workers
from tests.e2e.certificates import Authority, Certificate
from tests.e2e.prometheus import prometheus
from tests.workload import PATIENCE, Process, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.e2e.program import Answer, Program

pytestmark = [pytest.mark.e2e, pytest.mark.kernel]

USER, PASSWORD = "prometheus", "23 datagrams: 4,099 bytes"
PATHS: Final = ("/", "/metrics", "/healthz", "/readyz", "/api/v1/processes", "/nothing", "/top")


def hashed(password: str, cost: int = 4) -> str:
    """Return what stands in the file."""
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()


def basic(user: str, password: str) -> str:
    """Return the value of the header Authorization."""
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


class Secured:
    """What a client needs to know of an exporter that is not open to everybody."""

    def __init__(self, exporter: Program, folder: Path, authority: Authority) -> None:
        self.exporter, self.folder, self.authority = exporter, folder, authority
        self.client = authority.issue("client", "DNS:prometheus.example", "IP:127.0.0.1")

    def ask(
        self, path: str = "/metrics", shown: Certificate | None = None, **headers: str
    ) -> Answer:
        """Ask by TLS. Raises OSError."""
        context = self.authority.trusting(shown)
        connection = http.client.HTTPSConnection(
            "localhost", self.exporter.port, timeout=PATIENCE, context=context
        )
        with contextlib.closing(connection):
            connection.request("GET", path, headers={k.title(): v for k, v in headers.items()})
            answer = connection.getresponse()
            return program.Answer(answer.status, answer.headers, answer.read())


CONFIGURATION: Final = """\
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
  client_allowed_sans: [prometheus.example]
http_server_config:
  headers: {{X-Frame-Options: deny, Strict-Transport-Security: max-age=31536000}}
basic_auth_users: {{{user}: {hash}}}
"""


def is_ready(exporter: Program) -> bool:
    """Tell whether it serves; its log says so, for nobody may ask."""
    assert exporter.process.poll() is None, exporter.log
    return " serves http" in exporter.log


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    """Serve to one client: by his certificate, its name, his user and his password."""
    folder = tmp_path_factory.mktemp("secured")
    authority = Authority(folder)
    authority.issue("server", "DNS:localhost")
    configuration = folder / "web.yml"
    configuration.write_text(CONFIGURATION.format(user=USER, hash=hashed(PASSWORD)))
    with program.start("--web.config.file", str(configuration)) as exporter:
        wait_until(lambda: is_ready(exporter), "the exporter is ready")
        yield Secured(exporter, folder, authority)
        assert exporter.end() == 0
        assert "Traceback" not in exporter.log


def test_who_may(secured: Secured) -> None:
    """Certificate, name, user and password are right: everything is there, with the headers."""
    for path in ("/", "/metrics", "/healthz", "/readyz"):
        answer = secured.ask(path, secured.client, authorization=basic(USER, PASSWORD))
        assert answer.status == 200
        assert answer.headers["X-Frame-Options"] == "deny"
        assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        basic(USER, "wrong"),
        basic(USER, ""),
        basic(USER, PASSWORD[:-1]),
        basic(USER, f"{PASSWORD} "),
        basic(USER, f"{PASSWORD}\0"),
        basic(USER, "x" * 73),
        basic("nobody", PASSWORD),
        basic("", PASSWORD),
        basic("", ""),
        "Basic",
        "Basic !!!!",
        f"Basic {base64.b64encode(USER.encode()).decode()}",
        basic(USER, PASSWORD).replace("Basic", "Bearer"),
    ],
)
def test_wrong_password(secured: Secured, authorization: str) -> None:
    """Whatever is wrong with it, it is refused on every path in the same words."""
    with_header = {"authorization": authorization} if authorization else {}
    found = {secured.ask(path, secured.client, **with_header)[0::2] for path in PATHS}
    assert found == {(401, b"user and password are needed\n")}


def test_password_of_bytes(secured: Secured) -> None:
    """A password that is no UTF-8, and a user neither."""
    for pair in (b"\xff:\xfe", USER.encode() + b":\xff", b"\xff:" + PASSWORD.encode()):
        header = f"Basic {base64.b64encode(pair).decode()}"
        assert secured.ask(shown=secured.client, authorization=header).status == 401


def test_no_certificate(secured: Secured) -> None:
    """There is no answer at all, on any path."""
    for path in PATHS:
        with pytest.raises(OSError, match=r"certificate required|reset|EOF|closed"):
            secured.ask(path, authorization=basic(USER, PASSWORD))


def test_certificate_of_another_authority(secured: Secured, tmp_path: Path) -> None:
    """With the same names, but signed by somebody else."""
    stranger = Authority(tmp_path).issue("stranger", "DNS:prometheus.example")
    for path in PATHS:
        with pytest.raises(OSError, match=r"unknown ca|reset|EOF|closed"):
            secured.ask(path, stranger, authorization=basic(USER, PASSWORD))


@pytest.mark.parametrize(
    "names",
    [(), ("DNS:other.example",), ("DNS:prometheus.example.org", "email:prometheus@example")],
    ids=["none", "another", "longer"],
)
def test_certificate_of_another_name(secured: Secured, names: tuple[str, ...]) -> None:
    """Signed by the right one, for somebody else: refused on every path."""
    other = secured.authority.issue("other", *names)
    found = {secured.ask(path, other, authorization=basic(USER, PASSWORD))[0::2] for path in PATHS}
    said = b"none of the certificate's names is among client_allowed_sans\n"
    assert found == {(403, said)}


@pytest.mark.parametrize("path", PATHS)
def test_plain_http(secured: Secured, path: str) -> None:
    """It is refused, and says why: nothing else."""
    answer = secured.exporter.ask(path, authorization=basic(USER, PASSWORD))
    assert (answer.status, answer.body) == (400, b"this port speaks TLS: ask https://\n")


def test_other_protocols(secured: Secured) -> None:
    """Old versions of TLS, and what is no TLS at all, are hung up on; others are served."""
    for said in (b"\x16", b"\x16\x03\x01\x00\x05hello", b"\x80\x2e\x01\x00\x02", b"\0"):
        with socket.create_connection((program.LOCAL, secured.exporter.port)) as client:
            client.settimeout(PATIENCE)
            with contextlib.suppress(OSError):  # it may have gone by then
                client.sendall(said)
                client.shutdown(socket.SHUT_WR)
                assert b" 200 " not in client.recv(4099)
    context = secured.authority.trusting(secured.client)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        socket.create_connection((program.LOCAL, secured.exporter.port)) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as client,
    ):
        assert client.version() == "TLSv1.2"


def test_nothing_of_the_host_is_shown(secured: Secured, name: str) -> None:
    """A process that used the network is in no refusal, whatever was asked."""
    with Process(workers.talker, name, 3) as talker:
        talker.hear()
        talker.tell(23)
        talker.hear()
        right = secured.ask(shown=secured.client, authorization=basic(USER, PASSWORD))
        assert name.encode() in right.body
        for path in PATHS:
            refusals = (
                secured.ask(path, secured.client),
                secured.ask(path, secured.authority.issue("other", "DNS:other.example")),
                secured.exporter.ask(path),
            )
            for answer in refusals:
                assert 400 <= answer.status < 500
                assert len(answer.body) < 100
                assert name.encode() not in answer.body
                assert "Server" not in answer.headers


def test_unknown_users_take_as_long(tmp_path: Path) -> None:
    """Comparing is what takes time, and is done for names that do not exist as well."""
    configuration = tmp_path / "web.yml"
    configuration.write_text(f"basic_auth_users: {{{USER}: {hashed(PASSWORD, 12)}}}\n")
    with serve(configuration) as exporter:

        def seconds(user: str) -> float:
            started = time.perf_counter()
            wrong = basic(user, os.urandom(8).hex())
            assert exporter.ask("/", authorization=wrong).status == 401
            return time.perf_counter() - started

        known = [seconds(USER) for _ in range(5)]
        unknown = [seconds("nobody") for _ in range(5)]
        assert min(unknown) > 0.7 * min(known)
        assert min(known) > 0.7 * min(unknown)
        # What was tried before costs nothing: 5 of them in less than one takes.
        started = time.perf_counter()
        assert exporter.ask("/", authorization=basic(USER, PASSWORD)).status == 200
        first = time.perf_counter() - started
        started = time.perf_counter()
        for _ in range(5):
            assert exporter.ask("/", authorization=basic(USER, PASSWORD)).status == 200
        assert time.perf_counter() - started < first
        assert statistics.median(known) > 0.01


@contextlib.contextmanager
def serve(configuration: Path, *words: str) -> Iterator[Program]:
    """Run an exporter with such a file."""
    with program.start("--web.config.file", str(configuration), *words) as exporter:
        wait_until(lambda: is_ready(exporter), "the exporter is ready")
        yield exporter
        assert exporter.end() == 0
        assert "Traceback" not in exporter.log


def test_excluded_paths(tmp_path: Path) -> None:
    """Probes need nothing; the rest needs certificate, user and password."""
    authority = Authority(tmp_path)
    authority.issue("server", "DNS:localhost")
    configuration = tmp_path / "web.yml"
    configuration.write_text(
        CONFIGURATION.format(user=USER, hash=hashed(PASSWORD))
        + "auth_excluded_paths: [/healthz, /readyz]\n"
    )
    with serve(configuration) as exporter:
        secured = Secured(exporter, tmp_path, authority)
        for path in PATHS:
            is_excluded = path in {"/healthz", "/readyz"}
            assert secured.ask(path).status == (200 if is_excluded else 403)
            assert secured.ask(path, secured.client).status == (200 if is_excluded else 401)
        right = secured.ask(shown=secured.client, authorization=basic(USER, PASSWORD))
        assert right.status == 200
        # Under whatever name: no browser would show what is here to who asks under it.
        headers = {"authorization": basic(USER, PASSWORD), "host": "proxy.example.org"}
        assert secured.ask(shown=secured.client, **headers).status == 200


def test_changes_while_it_runs(tmp_path: Path) -> None:
    """Users and certificates come and go without a restart; a broken file lets nobody in."""
    authority = Authority(tmp_path)
    authority.issue("server", "DNS:localhost")
    configuration = tmp_path / "web.yml"
    good = f"""\
tls_server_config: {{cert_file: server.crt, key_file: server.key}}
basic_auth_users: {{{USER}: {hashed(PASSWORD)}}}
"""
    configuration.write_text(good)
    with serve(configuration) as exporter:
        secured = Secured(exporter, tmp_path, authority)

        def status(user: str = USER) -> int:
            return secured.ask("/", authorization=basic(user, PASSWORD)).status

        def serial() -> object:
            with (
                socket.create_connection((program.LOCAL, exporter.port)) as plain,
                authority.trusting().wrap_socket(plain, server_hostname="localhost") as client,
            ):
                found = client.getpeercert()
                assert found
                return found["serialNumber"]

        assert status() == 200
        before = serial()
        authority.issue("server", "DNS:localhost")
        assert serial() != before
        configuration.write_text(good.replace(USER, "grafana"))
        assert (status(), status("grafana")) == (401, 200)
        configuration.write_text(good.replace("basic_auth_users", "basic_auth"))
        assert secured.ask("/").status == 500
        assert status() == 500
        assert f"{configuration}:2:1: found the key 'basic_auth'" in exporter.log
        complaints = exporter.log.count("nobody is let in until")
        assert complaints == 1
        configuration.write_text(good)
        assert status() == 200
        (tmp_path / "server.key").unlink()
        assert secured.ask("/").status == 500
        assert "server.crt and server.key: No such file or directory" in exporter.log
        authority.issue("server", "DNS:localhost")
        assert status() == 200


def test_prometheus_asks(secured: Secured, tmp_path: Path, name: str) -> None:
    """A real Prometheus, with certificate, user and password; with a wrong one it gets nothing."""
    shown = secured.client
    files = f"ca_file: {secured.authority.file}, cert_file: {shown.certificate}"
    tls = f"{{server_name: localhost, {files}, key_file: {shown.key}}}"

    def scrape(password: str) -> str:
        auth = f"{{username: {USER}, password: '{password}'}}"
        return f"    scheme: https\n    tls_config: {tls}\n    basic_auth: {auth}\n"

    with Process(workers.talker, name, 7) as talker:
        talker.hear()
        talker.tell(31)
        talker.hear()
        packets = f'netatop_group_transmit_packets_total{{group="{name}",protocol="udp"}}'
        right, wrong = tmp_path / "right", tmp_path / "wrong"
        right.mkdir()
        wrong.mkdir()
        with prometheus(secured.exporter.address, right, scrape(PASSWORD)) as server:
            wait_until(lambda: server.value(packets) == 31, "Prometheus has the counters")
            assert server.value("up") == 1
        with prometheus(secured.exporter.address, wrong, scrape("wrong")) as server:
            wait_until(lambda: server.query("up") != [], "Prometheus has tried")
            assert server.value("up") == 0


@pytest.fixture
def credentials(secured: Secured, tmp_path: Path) -> Path:
    """Return the file with which the program's own commands may ask."""
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    file = tmp_path / "http.yml"
    file.write_text(f"""\
basic_auth: {{username: {USER}, password_file: password}}
tls_config:
  server_name: localhost
  ca_file: {secured.authority.file}
  cert_file: {secured.client.certificate}
  key_file: {secured.client.key}
""")
    return file


@pytest.mark.parametrize("words", ["status", "exits --json", "top --batch --count 1"])
def test_own_commands(secured: Secured, credentials: Path, words: str) -> None:
    """They ask as promtool does; without user and certificate they say what is missing."""
    where = (*words.split(), "--web.listen-address", secured.exporter.address)
    done = program.run(*where, "--http.config.file", credentials)
    assert (done.returncode, done.stderr) == (0, "")
    message = program.refusal(program.run(*where), 1)
    assert "this port speaks TLS: ask https:// (HTTP status 400); name user, password" in message
    credentials.write_text(credentials.read_text().replace(USER, "nobody"))
    message = program.refusal(program.run(*where, "--http.config.file", credentials), 1)
    assert "user and password are needed (HTTP status 401); name user, password" in message
    credentials.write_text(credentials.read_text().replace("localhost", "elsewhere"))
    message = program.refusal(program.run(*where, "--http.config.file", credentials), 1)
    assert f"no exporter answers at https://{secured.exporter.address}" in message
    assert "certificate is not valid for 'elsewhere'" in message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("basic_auth: {username: a}", "found no password"),
        ("basic_auth: {username: a, password: b, password_file: c}", "found both password and"),
        ("basic_auth: {username: a, password_file: nowhere}", "No such file or directory"),
        ("tls_config: {cert_file: a}", "found one of cert_file and key_file"),
        ("tls_config: {ca_file: nowhere}", "No such file or directory"),
        ("tls_config: {ca_file: http.yml}", "accepted are files that can be read, in PEM"),
        ("bearer_token: a", "found the key 'bearer_token'"),
    ],
)
def test_bad_file_of_a_client(tmp_path: Path, text: str, said: str) -> None:
    """The mistake is named."""
    file = tmp_path / "http.yml"
    file.write_text(text)
    assert said in program.refusal(program.run("status", "--http.config.file", file), 2)


def test_rate_limit(tmp_path: Path) -> None:
    """Who asks more often than is permitted has to wait."""
    configuration = tmp_path / "web.yml"
    configuration.write_text("rate_limit: {interval: 10m, burst: 7}\n")
    with serve(configuration) as exporter:
        found = [exporter.ask("/").status for _ in range(11)]
    assert found == [200] * 7 + [429] * 4


# What the file may hold


def tls(more: str) -> str:
    """Return a file with good certificates and something more."""
    return f"tls_server_config: {{cert_file: server.crt, key_file: server.key, {more}}}"


GOOD: Final = {
    "nothing": "",
    "tls": "tls_server_config: {cert_file: server.crt, key_file: server.key}",
    "clients": """\
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_auth_type: VerifyClientCertIfGiven
  client_ca_file: ca.crt""",
    "versions": """\
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  min_version: TLS13
  max_version: TLS13""",
    "ciphers": """\
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  prefer_server_cipher_suites: false
  curve_preferences: [CurveP256]
  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, TLS_AES_128_GCM_SHA256]""",
    "headers": """\
http_server_config:
  http2: false
  headers:
    Content-Security-Policy: default-src 'none'
    X-Content-Type-Options: nosniff
    X-Frame-Options: sameorigin
    X-XSS-Protection: 1; mode=block""",
    "users": f"basic_auth_users: {{a: '{hashed('a')}', b: '{hashed('b', 5)}'}}",
}
BAD: Final = {
    "key": ("tls_server_configs: {}", "1:1: found the key 'tls_server_configs'"),
    "inner": (
        tls("client_auth: x"),
        "1:66: tls_server_config: found the key 'client_auth'",
    ),
    "no_key": ("tls_server_config: {cert_file: server.crt}", "found no key_file"),
    "no_file": (
        "tls_server_config: {cert_file: none.crt, key_file: server.key}",
        "tls_server_config: none.crt and server.key: No such file or directory",
    ),
    "other_key": (
        "tls_server_config: {cert_file: server.crt, key_file: ca.key}",
        "server.crt and ca.key: key values mismatch",
    ),
    "no_pem": (
        "tls_server_config: {cert_file: web.yml, key_file: server.key}",
        "web.yml and server.key: ",
    ),
    "ca_alone": (
        tls("client_ca_file: ca.crt"),
        "found NoClientCert with a client CA",
    ),
    "policy": (
        tls("client_auth_type: Perhaps"),
        "accepted is NoClientCert, VerifyClientCertIfGiven or RequireAndVerifyClientCert",
    ),
    "version": (
        tls("min_version: TLS14"),
        "min_version: found 'TLS14'; accepted is TLS12 or TLS13",
    ),
    "cipher": (
        tls("cipher_suites: [ROT13]"),
        "cipher_suites[0]: found 'ROT13'",
    ),
    "header": ("http_server_config: {headers: {X-Mine: a}}", "headers: found 'X-Mine'"),
    "header_value": (
        "http_server_config: {headers: {X-Frame-Options: maybe}}",
        "found 'maybe'; accepted is deny or sameorigin",
    ),
    "hash": (
        "basic_auth_users: {alice: hunter2}",
        "basic_auth_users.alice: found another text; accepted is a bcrypt hash",
    ),
}
MORE: Final = {
    "no_ca": (
        tls("client_auth_type: RequireAndVerifyClientCert"),
        "found RequireAndVerifyClientCert without a client CA",
    ),
    "oldest": (
        tls("min_version: TLS10"),
        "found 'TLS10'; accepted is TLS12 or TLS13",
    ),
    "request": (
        tls("client_auth_type: RequestClientCert"),
        "found 'RequestClientCert'; accepted is NoClientCert",
    ),
    "curves": (
        tls("curve_preferences: [X25519, CurveP256]"),
        "found several curves; accepted is one",
    ),
    "http2": ("http_server_config: {http2: true}", "found true; accepted is false"),
    "cost": (
        "basic_auth_users: {alice: $2b$31$" + "a" * 53 + "}",
        "accepted is a bcrypt hash of cost 4 to 16",
    ),
    "sans": (
        tls("client_allowed_sans: [a]"),
        "found it with NoClientCert; accepted is it with RequireAndVerifyClientCert",
    ),
    "bucket": ("rate_limit: {interval: 1s}", "found no room for a request"),
}
"""What exporter-toolkit would take, and what can't be done here or makes no sense."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with certificates, for files that name them."""
    made = tmp_path_factory.mktemp("web")
    Authority(made).issue("server", "DNS:localhost")
    return made


def promtool(configuration: Path) -> int:
    """Return whether exporter-toolkit takes a file: 0 if it does."""
    done = subprocess.run(
        ("promtool", "check", "web-config", configuration),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    return done.returncode


@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_good_file(folder: Path, text: str) -> None:
    """What exporter-toolkit takes is taken, and served with."""
    configuration = folder / "web.yml"
    configuration.write_text(f"{text}\n")
    assert promtool(configuration) == 0
    with serve(configuration) as exporter:
        scheme = "https" if "tls" in text else "http"
        assert f" serves {scheme}://{exporter.address}/metrics" in exporter.log


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD)
def test_bad_file(folder: Path, text: str, said: str) -> None:
    """What it refuses is refused, in words that help, before anything is loaded."""
    configuration = folder / "web.yml"
    configuration.write_text(f"{text}\n")
    assert promtool(configuration) != 0
    message = program.refusal(program.run("serve", "--web.config.file", configuration), 2)
    assert said in message
    assert "hunter2" not in message


@pytest.mark.parametrize(("text", "said"), MORE.values(), ids=MORE)
def test_what_cannot_be_done(folder: Path, text: str, said: str) -> None:
    """It is refused, not passed over."""
    configuration = folder / "web.yml"
    configuration.write_text(f"{text}\n")
    message = program.refusal(program.run("serve", "--web.config.file", configuration), 2)
    assert said in message


def test_in_place(folder: Path) -> None:
    """Certificates and keys may stand in the file itself."""
    texts = {
        key: re.sub("(?m)^", "    ", (folder / file).read_text())
        for key, file in (("cert", "server.crt"), ("key", "server.key"), ("client_ca", "ca.crt"))
    }
    lines = "".join(f"  {key}: |\n{text}\n" for key, text in texts.items())
    configuration = folder / "web.yml"
    policy = "  client_auth_type: VerifyClientCertIfGiven\n"
    configuration.write_text(f"tls_server_config:\n{policy}{lines}")
    with serve(configuration) as exporter:
        context = ssl.create_default_context(cafile=str(folder / "ca.crt"))
        connection = http.client.HTTPSConnection("localhost", exporter.port, context=context)
        with contextlib.closing(connection):
            connection.request("GET", "/readyz")
            assert connection.getresponse().status == 200


def test_no_file() -> None:
    """A file that is not there is named."""
    message = program.refusal(program.run("serve", "--web.config.file", "/nowhere/web.yml"), 2)
    assert "/nowhere/web.yml: No such file or directory" in message
