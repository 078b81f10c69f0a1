# SPDX-License-Identifier: Apache-2.0
"""The configuration file: what is read, and how each mistake is told."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any, Final

import jsonschema
import pytest
import yaml

from exporter.config import document
from exporter.config.settings import Limits, Settings
from exporter.errors import ConfigError
from tests.unit import fuzz_document

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
EXAMPLE: Final = DEPLOY / "netatop-exporter.yml"
SCHEMA: Final = DEPLOY / "netatop-exporter.schema.json"


def parse(text: str) -> Settings:
    """Return what a file says."""
    return document.parse(text.encode(), "f.yml")


def mistakes(text: str | bytes) -> list[str]:
    """Return a line for each mistake."""
    with pytest.raises(ConfigError) as caught:
        document.parse(text if isinstance(text, bytes) else text.encode(), "f.yml")
    return str(caught.value).splitlines()


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "---\n", "\ufeff"])
def test_nothing_is_all_defaults(text: str) -> None:
    """A file that says nothing changes nothing."""
    assert parse(text) == Settings()


def test_what_is_said() -> None:
    """In frozen settings; what is not said is as by default."""
    found = parse("limits: {processes: 23}\nthreads: true\ngroups:\n- {name: x, comm: [a, b]}\n")
    assert found.limits == Limits(processes=23)
    assert (found.threads, found.sockets) == (True, False)
    (rule,) = found.groups
    assert rule.name
    assert (rule.name.text, rule.comm) == ("x", ("a", "b"))
    with pytest.raises(AttributeError):
        found.threads = False  # type: ignore[misc]


def test_all_mistakes_at_once() -> None:
    """Each with file, line, column and key path, what was found and what is accepted."""
    assert mistakes(
        "groups:\n"
        "- comm: [a, 5]\n"
        "  cmdline: ['(']\n"
        "  label: x\n"
        "- name: '{{.Comm}'\n"
        "limits:\n"
        "  processes: 1_000\n"
        "  threads: -1\n"
        "threads: yes\n"
        "threads: true\n"
    ) == [
        (
            "f.yml:2:13: groups[0].comm[1]: found '5' (int); "
            "accepted is a command name of 1 to 15 bytes, as ps -o comm prints it "
            "(in quotes, if it is meant as text)"
        ),
        (
            "f.yml:3:13: groups[0].cmdline[0]: found '(' (missing ): (); "
            "accepted is a regular expression (RE2)"
        ),
        (
            "f.yml:4:3: groups[0]: found the key 'label'; accepted is name, comm, exe, cmdline, "
            "user, cgroup, unit, container, pod, namespace, container_labels, threads, sockets"
        ),
        (
            "f.yml:5:9: groups[1].name: found '{{.Comm}' (braces that hold no variable); accepted "
            "is text that is not empty, in which may stand {{.Comm}}, {{.ExeBase}}, {{.ExeFull}}, "
            "{{.Username}}, {{.PID}}, {{.Cgroup}}, {{.Unit}}, {{.Container}}, {{.Pod}}, "
            "{{.Namespace}}, {{.Matches.NAME}}"
        ),
        (
            "f.yml:7:14: limits.processes: found '1_000' (int); "
            "accepted is a whole number from 0 to 100000"
        ),
        "f.yml:8:12: limits.threads: found '-1' (int); accepted is a whole number from 0 to 100000",
        "f.yml:9:10: threads: found 'yes' (bool); accepted is true or false",
        "f.yml:10:1: threads: found the key again, as in line 9; accepted is it once",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: &x 1\nthreads: *x\n", "2:10: found the alias *x; accepted is YAML without aliases"),
        ("[", "1:2: found while parsing a flow node"),
        ("threads: true\n---\nthreads: true\n", "2:1: found expected a single document"),
        ("a: \x00", "1:4: found the character '\\x00'; accepted is text"),
        (b"\n\na: \xff", "3:4: found the byte 0xff; accepted is UTF-8"),
        ("[" * 5000, "1:1: found lists or mappings too deep in each other; accepted is fewer"),
        (b"#" * (document.LIMIT_BYTES + 1), "1:1: found a larger file; accepted is one of up to"),
        ("5", "1:1: found '5' (int); accepted is a mapping with the keys groups, threads"),
        ("? [a]\n: b", "1:3: found a list as a key; accepted is groups, threads"),
        ("<<: {threads: true}", "1:1: found the key '<<'; accepted is groups, threads"),
        ("threads:", "1:9: threads: found nothing; accepted is true or false"),
        ("threads: !!python/name:os.system", "1:10: threads: found"),
        ("groups: []", "1:9: groups: found an empty list; accepted is a list, each item a mapping"),
        ("groups: {}", "1:9: groups: found a mapping; accepted is a list"),
        ("groups: [[]]", "1:10: groups[0]: found a list; accepted is a mapping with the keys name"),
        ("groups: [{comm: x}]", "1:17: groups[0].comm: found 'x'; accepted is a list"),
        ("groups: [{comm: ['']}]", "1:18: groups[0].comm[0]: found ''; accepted is a command"),
        ("groups: [{comm: [éééééééé]}]", "1:18: groups[0].comm[0]: found 'éééééééé'; accepted is"),
        (
            'groups: [{comm: ["a\\n"]}]',
            "1:18: groups[0].comm[0]: found 'a\\n'; accepted is a comma",
        ),
        ('groups: "\\UFFFFFFFF"', "1:12: found what YAML does not permit ("),
        ('groups: "\\U00110000"', "1:12: found what YAML does not permit (chr() arg not in range"),
        ("%YAML " + "9" * 5000 + ".1\n---\n", "1:7: found what YAML does not permit (Exceeds"),
        (
            'kubernetes: {pod_logs: "/a\\0b"}',
            "1:24: kubernetes.pod_logs: found '/a\\x00b'; accepted",
        ),
        ("groups: [{exe: [bin/sh]}]", "1:17: groups[0].exe[0]: found 'bin/sh'; accepted is an ab"),
        ("groups: [{exe: [/bin/]}]", "1:17: groups[0].exe[0]: found '/bin/'; accepted is an abso"),
        ("groups: [{user: [33]}]", "1:18: groups[0].user[0]: found '33' (int); accepted is text"),
        ("groups: [{name: ' '}]", "1:17: groups[0].name: found ' ' (no name)"),
        ("groups: [{name: '{{.Foo}}'}]", "1:17: groups[0].name: found '{{.Foo}}' ({{.Foo}})"),
        ("groups: [{name: '{{.Matches}}'}]", "1:17: groups[0].name: found '{{.Matches}}'"),
        ("groups: [{name: '{{.Comm.x}}'}]", "1:17: groups[0].name: found '{{.Comm.x}}'"),
        ("groups: [{exe: ['a'], cmdline: ['(?=x)']}]", "1:33: groups[0].cmdline[0]: found '(?=x)'"),
        ("kubernetes: {pod_logs: logs}", "1:24: kubernetes.pod_logs: found 'logs'; accepted is an"),
        (
            "address_classes: [{name: a, addresses: [10.0.0.1/8]}]",
            "1:41: address_classes[0].addresses[0]: found '10.0.0.1/8' (10.0.0.1/8 has host bits",
        ),
        (
            "address_classes: [{name: a, addresses: ['fe80::%eth0/64']}]",
            "1:41: address_classes[0].addresses[0]: found 'fe80::%eth0/64' (a zone is no part",
        ),
        (
            "address_classes: [{name: internet, addresses: ['::/0']}]",
            "1:26: address_classes[0].name: found 'internet' (that is what fits no class)",
        ),
        (
            "address_classes: [{name: a}]",
            "1:19: address_classes[0]: found no key addresses; accepted is a list, each item a",
        ),
        ("limits: {groups: 0}", "1:18: limits.groups: found '0' (int); accepted is a whole number"),
        ("limits: {groups: 0x10}", "1:18: limits.groups: found '0x10' (int); accepted is a whole"),
        ("limits: {groups: '5'}", "1:18: limits.groups: found '5'; accepted is a whole number"),
        ("limits: {groups: 1:30}", "1:18: limits.groups: found '1:30' (int); accepted is a whole"),
        ("threads: 2026-11-20", "1:10: threads: found '2026-11-20' (timestamp); accepted is true"),
    ],
)
def test_mistakes(text: str | bytes, line: str) -> None:
    """Of every kind, with its place."""
    (found,) = mistakes(text)
    assert found.startswith(f"f.yml:{line}")


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        (
            "groups:\n- name: a\n- name: b\n  comm: [x]\n- name: c\n",
            ["2:3: groups[0]: found a rule that every process satisfies; accepted is it as"],
        ),
        (
            "groups:\n- comm: [x]\n- name: b\n  comm: [x]\n",
            ["3:3: groups[1]: found what groups[0] asks for already; accepted is another"],
        ),
        (
            "groups:\n- name: '{{.Matches.a}}{{.Matches.b}}'\n  cmdline: ['(?P<b>.)']\n",
            ["2:9: groups[0].name: found {{.Matches.a}}; accepted is a group named in an "],
        ),
        (
            "groups:\n- unit: [x]\n  pod: [y]\n",
            ["2:9: groups[0].unit: found it with container, pod or namespace; accepted is one"],
        ),
        (
            (
                "address_classes:\n- {name: a, addresses: ['::1']}\n"
                "- {name: a, addresses: ['0:0::1/128']}\n"
            ),
            [
                "3:10: address_classes[1].name: found 'a' again; accepted is a name of its own",
                "3:25: address_classes[1].addresses[0]: found ::1/128, which is in the class 'a'",
            ],
        ),
        (
            "address_classes: ["
            + ", ".join(
                f"{{name: n{number}, addresses: [10.0.{number}.0/24]}}" for number in range(13)
            )
            + "]",
            ["1:18: address_classes: found 17 classes, internet, loopback, lan, other included"],
        ),
    ],
)
def test_what_can_not_be_together(text: str, lines: list[str]) -> None:
    """Each value would be good alone."""
    for found, expected in zip(mistakes(text), lines, strict=True):
        assert found.startswith(f"f.yml:{expected}")


@pytest.mark.parametrize("name", ["", "missing.yml", "/", "/root"])
def test_no_file(name: str, tmp_path: Path) -> None:
    """What can't be read is named."""
    with pytest.raises(ConfigError, match=r"accepted is a configuration file"):
        document.load(str(tmp_path / name))


def keys(schema: dict[str, Any], path: str = "") -> set[str]:
    """Return every key path of a schema."""
    found = set()
    for name, below in schema.get("properties", {}).items():
        found |= {f"{path}{name}"} | keys(below, f"{path}{name}.")
    return found | (keys(schema["items"], path) if "items" in schema else set())


def used(value: Any, path: str = "") -> set[str]:
    """Return every key path of a document."""
    found = set()
    for name, below in value.items() if isinstance(value, dict) else ():
        found |= {f"{path}{name}"} | used(below, f"{path}{name}.")
    for item in value if isinstance(value, list) else ():
        found |= used(item, path)
    return found


def test_the_example_shows_every_key() -> None:
    """It is read without a mistake, says the defaults where it says so, and leaves nothing out."""
    settings = document.load(str(EXAMPLE))
    assert (settings.limits, settings.kubernetes) == (Settings().limits, Settings().kubernetes)
    example = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8"))
    assert used(example) == keys(json.loads(document.schema()))


def test_the_schema_is_the_one_that_is_shipped() -> None:
    """Editors are told what the program accepts; see `make schema`."""
    assert SCHEMA.read_text(encoding="utf-8") == document.schema() + "\n"


@pytest.mark.parametrize(
    "text",
    ["threads: 1", "nothing: 1", "limits: {groups: 0}", "groups: [{comm: x}]", "groups: []"],
)
def test_the_schema_refuses_what_the_program_refuses(text: str) -> None:
    """Types, ranges and names; what an expression means, only the program knows."""
    schema = json.loads(document.schema())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(yaml.safe_load(EXAMPLE.read_text(encoding="utf-8")), schema)
    assert mistakes(text)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(text), schema)


def test_anything_is_settings_or_a_mistake() -> None:
    """A short run of what `python -m tests.unit.fuzz_document 1000000` does."""
    accepted, refused = fuzz_document.run(3000, random.Random(23))
    assert accepted > 100
    assert refused > 1000
