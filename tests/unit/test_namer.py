# SPDX-License-Identifier: Apache-2.0
"""Which group a process is in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.attribution.namer import MAX_NAME, VALUES, legal
from exporter.config import document, template
from exporter.model import OTHER, Group
from exporter.pods import Names
from tests.unit.facts import NoPods, namer, process

if TYPE_CHECKING:
    from exporter.attribution.namer import Named, Namer

CONTAINER, UID = "0123456789ab" + "c" * 52, "6eb5044d-ef2e-49d1-a9cc-28f4e3fe88a3"
POD_CGROUP = f"/kubepods/burstable/pod{UID}/{CONTAINER}"
STRANGER = "9" + CONTAINER[1:]
"""A container whose names nobody knows."""
DOCKER_CGROUP = f"/system.slice/docker-{STRANGER}.scope"


def by_rules(rules: str, **sources: Any) -> Namer:
    """Return a namer with rules as they stand in a file."""
    return namer(document.parse(f"groups: {rules}".encode(), "f.yml"), **sources)


def found(rules: str, name: str = "python3", *, cgroup: str = "/", **sources: Any) -> Named:
    """Return what is known of a process."""
    return by_rules(rules, cgroup_path=lambda _: cgroup, **sources).name(process(10, name, uid=33))


def reads(executable: str = "", command_line: str = "", *cgroups: str) -> dict[str, Any]:
    """Return what /proc says."""
    return {
        "executable": lambda _pid, _start: executable,
        "command_line": lambda _pid, _start: command_line,
        "legacy_cgroups": lambda _pid, _start: cgroups,
    }


WEB = reads("/usr/bin/python3.11", "python3 -m http.server --bind 127.0.0.1 8000")


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ("{comm: [ruby, python3]}", True),
        ("{comm: [python]}", False),
        ("{exe: [/usr/bin/python3.11]}", True),
        ("{exe: [bash, python3.11]}", True),
        ("{exe: [/opt/python3.11]}", False),
        ("{cmdline: ['http\\.server']}", True),
        ("{cmdline: ['http\\.server', '8000$']}", True),
        ("{cmdline: ['http\\.server', '8001']}", False),
        ("{cmdline: ['.*'], comm: [python3]}", True),
        ("{user: [www-data]}", True),
        ("{user: ['33']}", True),
        ("{user: [root, '34']}", False),
        ("{unit: [web.service]}", True),
        ("{unit: ['.*\\.service']}", True),
        ("{unit: ['web']}", False),
        ("{cgroup: ['^/system', x]}", True),
        ("{cgroup: ['^web']}", False),
        ("{container: ['.*']}", False),
        ("{pod: ['.*']}", False),
        ("{namespace: ['.*']}", False),
        ("{comm: [python3], user: [www-data], exe: [python3.11]}", True),
        ("{comm: [python3], user: [www-data], exe: [bash]}", False),
        ("{}", True),
    ],
)
def test_conditions(rule: str, fits: object) -> None:
    """Every key of a rule must be satisfied; for most, one of a list is enough."""
    users = {33: "www-data"}.__getitem__
    name = found(
        f"[{{{rule[1:-1]}{', ' if len(rule) > 2 else ''}name: hit}}]",
        cgroup="/system.slice/web.service",
        user=users,
        **WEB,
    ).group.name
    assert name == ("hit" if fits else "web.service")


def test_the_first_rule_decides() -> None:
    """Also about threads and sockets."""
    rules = "[{comm: [x]}, {comm: [python3], name: a, threads: true}, {name: b, sockets: true}]"
    named = found(rules)
    assert (named.group, named.threads, named.sockets) == (Group("a"), True, False)
    named = found(rules, "y")
    assert (named.group, named.threads, named.sockets) == (Group("b"), False, True)


@pytest.mark.parametrize(
    ("template_", "name"),
    [
        ("{{.Comm}}", "python3"),
        ("{{ .ExeBase }} as {{.Username}}", "python3.11 as 33"),
        ("{{.ExeFull}}", "/usr/bin/python3.11"),
        ("{{.PID}}", "10"),
        ("{{.Cgroup}}", "/system.slice/web.service"),
        ("{{.Unit}}", "web.service"),
        ("{{.Matches.port}}", "8000"),
        ("x{{.Matches.other}}", "x"),
        ("{{.Pod}}{{.Container}}{{.Namespace}}", "web.service"),
        ("  spaced  ", "spaced"),
        ("other", "other_"),
    ],
)
def test_templates(template_: str, name: str) -> None:
    """What has no value is empty; a name that is empty is no name."""
    rule = f"[{{name: '{template_}', cmdline: ['(?P<port>\\d+)$|(?P<other>x)$']}}]"
    assert found(rule, cgroup="/system.slice/web.service", **WEB).group.name == name


def test_every_variable_has_a_value() -> None:
    """Those that a file may have are those that are filled in."""
    assert set(VALUES) == set(template.VARIABLES)


@pytest.mark.parametrize(
    ("cgroup", "group"),
    [
        ("/", Group("python3")),
        ("", Group("python3", "unknown")),
        ("/user.slice/user-0.slice/session-3.scope", Group("python3")),
        ("/system.slice/nginx.service", Group("nginx.service")),
        (DOCKER_CGROUP, Group("9123456789ab", "9123456789ab")),
        ("/lxc.payload.web1", Group("web1", "web1")),
        (POD_CGROUP, Group("app", "app", "web-7d9f", "shop")),
        (
            f"/kubepods/pod{UID}/{STRANGER}",
            Group("9123456789ab", "9123456789ab", "unknown", "unknown"),
        ),
    ],
)
def test_defaults(cgroup: str, group: Group) -> None:
    """The container or pod, else the service, else the command."""
    pods = NoPods(**{CONTAINER: Names("app", "web-7d9f", "shop")})
    named = found("[{comm: [nobody]}]", cgroup=cgroup, pods=pods)
    assert named.group == group
    assert named.container == group._replace(name="") or not group.container


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("nginx.service", "nginx.service_"),
        ("nginx.service ", "nginx.service_"),
        ("zz.service", "zz.service_"),
        ("web", "web_"),
        (" web", "web_"),
        ("user root", "user root_"),
        ("user", "user"),
        ("b", "b"),
        ("other", "other_"),
    ],
)
def test_nobody_calls_himself_what_is_not_his(name: str, group: str) -> None:
    """What a service or a rule is called; no rule fits here, and there is no service."""
    rules = (
        "[{comm: [x], name: web}, {comm: [y], name: 'user {{.Username}}'},"
        " {comm: [z, zz.service], name: '{{.Comm}}'}]"
    )
    assert found(rules, name).group == Group(group)


def test_a_pod_whose_container_has_no_name() -> None:
    """The pod's name is the group's, the id tells containers apart."""
    pods = NoPods(**{UID: Names("", "web-7d9f", "shop")})
    named = found("[{comm: [nobody]}]", cgroup=POD_CGROUP, pods=pods)
    assert named.group == Group("web-7d9f", "0123456789ab", "web-7d9f", "shop")


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        ("container: [app]", True),
        ("pod: ['web-.*'], namespace: [shop]", True),
        ("namespace: [sho]", False),
        ("pod: [eb-7d9f]", False),
        ("unit: ['.*']", False),
    ],
)
def test_conditions_on_containers(rule: str, fits: object) -> None:
    """An expression fits the whole name."""
    pods = NoPods(**{CONTAINER: Names("app", "web-7d9f", "shop")})
    named = found(f"[{{{rule}, name: hit}}]", cgroup=POD_CGROUP, pods=pods)
    assert named.group == Group("hit" if fits else "app", "app", "web-7d9f", "shop")


def test_one_group_for_many_containers() -> None:
    """Without the labels of each; the process keeps them for itself."""
    pods = NoPods(**{CONTAINER: Names("app", "web-7d9f", "shop")})
    rules = "[{namespace: [shop], name: 'all of {{.Namespace}}', container_labels: false}]"
    named = found(rules, cgroup=POD_CGROUP, pods=pods)
    assert named.group == Group("all of shop")
    assert named.container == Group("", "app", "web-7d9f", "shop")


@pytest.mark.parametrize(
    ("paths", "group", "unit"),
    [
        (("/docker.service", DOCKER_CGROUP), Group("9123456789ab", "9123456789ab"), ""),
        (("/system.slice/web.service", "/"), Group("web.service"), "web.service"),
        (("/", "/"), Group("python3"), ""),
        ((), Group("python3"), ""),
    ],
)
def test_version_1_hierarchies(paths: tuple[str, ...], group: Group, unit: str) -> None:
    """Where the version 2 path says nothing, or only which service has started the container."""
    files = reads("", "", *paths)
    named = found("[{comm: [nobody]}]", cgroup="/", has_legacy_cgroups=True, **files)
    assert (named.group, named.unit) == (group, unit)
    assert found("[{comm: [nobody]}]", has_legacy_cgroups=False, **files).group == Group("python3")


@pytest.mark.parametrize("expression", [".*", "^$", "^(x .*)?$"])
def test_what_is_not_known_fits_nothing(expression: str) -> None:
    """A process that has ended has no command line any more."""
    assert found(f"[{{cmdline: ['{expression}'], name: hit}}]").group == Group("python3")


def test_users_with_long_numbers() -> None:
    """Two of them are never one."""
    names = {
        found(
            "[{comm: [x]}]", cgroup=DOCKER_CGROUP.replace("system.slice", f"user-{uid}.slice")
        ).group.container
        for uid in (10000001, 10000002)
    }
    assert len(names) == 2


def test_one_that_can_not_be_named(caplog: pytest.LogCaptureFixture) -> None:
    """Costs the others nothing; it is said where it is not known to be."""

    def broken(_cgroup_id: int) -> str:
        raise ZeroDivisionError

    named = namer(cgroup_path=broken).name(process(10))
    assert named.group == Group("p", "unknown")
    assert "its group can't be found" in caplog.text


def test_a_name_is_decided_once() -> None:
    """And again when the command, the user or the cgroup has changed; /proc is read when needed."""
    calls = []

    def executable(pid: int, start: int) -> str:
        calls.append((pid, start))
        return "/bin/a"

    book = by_rules("[{comm: [x], exe: [a], name: hit}]", executable=executable)
    task = process(10, "y")
    assert book.name(task).group == book.name(task).group == Group("y")
    assert calls == []
    renamed = task._replace(name="x")
    assert book.name(renamed).group == book.name(renamed).group == Group("hit")
    assert calls == [(10, task.start_ns)]
    for change in ({"uid": 5}, {"cgroup_id": 7}):
        book.name(renamed._replace(**change))
    assert len(calls) == 3


def test_a_name_that_is_learned_later() -> None:
    """The kubelet makes its links when the container runs already; then nothing is asked again."""
    pods = NoPods()
    book = namer(cgroup_path=lambda _: POD_CGROUP, pods=pods)
    unknown = Group("0123456789ab", "0123456789ab", "unknown", "unknown")
    assert book.name(process(10)).group == unknown
    pods.names[CONTAINER] = Names("app", "web-7d9f", "shop")
    assert book.name(process(10)).group == unknown
    pods.generation += 1
    assert book.name(process(10)).group == Group("app", "app", "web-7d9f", "shop")
    pods.generation += 1
    del pods.names[CONTAINER]
    assert book.name(process(10)).group == Group("app", "app", "web-7d9f", "shop")


def test_executables_are_read_once() -> None:
    """And again after exec, which changes the command name."""
    paths = iter(["/bin/sh", "/bin/ls"])
    book = namer(executable=lambda _pid, _start: next(paths))
    task = process(10, "sh")
    assert book.executable(task) == book.executable(task) == "/bin/sh"
    assert book.executable(task._replace(name="ls")) == "/bin/ls"


def test_what_is_gone_is_forgotten() -> None:
    """Memory is that of the processes there are."""
    book = namer()
    for pid in range(10, 33):
        book.name(process(pid))
        book.executable(process(pid))
    book.keep({process(12).identity})
    assert len(book._kept) == len(book._executables) == 1


@given(st.text(), st.text())
def test_legal_names(one: str, two: str) -> None:
    """Short, visible, and never what is reserved; two reserved ones never become one."""
    for name in (one, two):
        assert 0 < len(legal(name)) <= MAX_NAME
        assert legal(name).isprintable()
        assert legal(name) != OTHER.name
    tails = ["other" + "_" * len(text) for text in (one, two)]
    if tails[0] != tails[1] and max(map(len, tails)) < MAX_NAME:
        assert legal(tails[0]) != legal(tails[1])


@pytest.mark.parametrize(
    ("name", "expected"),
    [("other", "other_"), ("other_", "other__"), ("another", "another"), ("", "unnamed")],
)
def test_reserved_names(name: str, expected: str) -> None:
    """`other` is what has no series of its own."""
    assert legal(name) == expected
