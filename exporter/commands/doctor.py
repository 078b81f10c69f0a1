# SPDX-License-Identifier: Apache-2.0
"""`doctor`: what this host offers and lacks, how to mend it, and whether `serve` would work."""

from __future__ import annotations

import platform
from typing import TYPE_CHECKING, Final, NamedTuple

from exporter import __version__, arguments, privileges, reload, self_test, service
from exporter.errors import KernelError
from exporter.kernel import (
    bcc_compiler,
    capabilities,
    cgroups,
    choice,
    features,
    host,
    kernel_headers,
    libbpf,
)
from exporter.kernel.features import Answer, Feature
from exporter.kernel.types import BTF

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from exporter.kernel.core_object import Options

PYTHON: Final = platform.python_version()


def run(parsed: argparse.Namespace) -> int:
    """Examine the host."""
    chosen = arguments.chosen(parsed)
    settings = reload.settings(chosen)
    options, places = service.options(chosen, settings), service.places(chosen, settings)
    examination = examine(options, places, chosen.loader)
    print("\n".join(examination.lines))
    return 0 if examination.works else 1


class Examination(NamedTuple):
    """What was found."""

    lines: list[str]
    works: bool


def examine(options: Options, places: Iterable[str] = (), loader: str = choice.AUTO) -> Examination:
    """Ask for everything, then try what `serve` does, for a moment.

    places: where files are to be made and removed; loader: the choice.
    """
    versions = f"Linux {host.kernel_release()} {platform.machine()}, Python {PYTHON}"
    lines = [f"netatop-exporter {__version__}, {versions}"]
    found = [*_host_features(options), *_compiler(), *_privileges(options, places)]
    for title, needed in (("needed", True), ("useful, but not needed", False)):
        lines += ["", f"{title}:"]
        lines += [_line(feature) for feature in found if feature.needed is needed]
    lines.append("")
    try:
        with choice.open_tracer(options, loader) as tracer:
            attached = [program.name for program in tracer.programs() if program.attached]
            taken, layout, owners = tracer.loader, tracer.layout, tracer.owners
            losses = tracer.losses
            verdict = None if options.cgroup_path else self_test.run(tracer)
    except KernelError as error:
        lines += [f"serve would not work: {error}"]
        return Examination(lines, works=False)
    if verdict:
        lines.append(f"self-test: {verdict.said}")
    if verdict and verdict.passed is False:
        lines.append("serve would not be ready")
        return Examination(lines, works=False)
    lines.append(
        f"serve would work: loader {taken}, {layout} kernel object, {len(attached)} kernel "
        f"programs attached, users of sockets by {owners}"
    )
    lines += [f"  not told: {loss}" for loss in losses]
    return Examination(lines, works=True)


def _line(feature: Feature) -> str:
    return f"  {feature.answer.value:<4}{feature.name:<34}{feature.detail}".rstrip()


def _host_features(options: Options) -> Iterator[Feature]:
    missing = host.missing_capabilities()
    yield _answer(
        "capabilities",
        not missing,
        ", ".join(host.CAPABILITIES),
        f"missing: {', '.join(missing)}; run as root",
    )
    yield _answer(
        "type information (BTF)",
        BTF.exists(),
        str(BTF),
        f"no {BTF}; loader core needs a kernel with CONFIG_DEBUG_INFO_BTF, loader bcc its headers",
        needed=False,
    )
    yield _cgroup(options.cgroup_path)
    yield _answer(
        "kernel object",
        options.object_path.exists(),
        options.object_path.name,
        f"no {options.object_path}; build it with 'make bpf'",
    )
    lockdown = host.lockdown()
    if lockdown is None:
        yield Feature("lockdown", False, Answer.COULD_NOT_TELL, "securityfs is not mounted")
    else:
        yield _answer(
            "no lockdown for confidentiality",
            lockdown != "confidentiality",
            f"lockdown is {lockdown}",
            "programs read memory by type only, which takes Linux 6.2",
            needed=False,
        )
    try:
        version = libbpf.open_library().version
    except KernelError as error:
        yield Feature("libbpf", True, Answer.NOT_THERE, str(error))
        return
    yield Feature("libbpf", True, Answer.THERE, version)
    yield from features.Probes().all()


def _compiler() -> Iterator[Feature]:
    """Yield what loader bcc takes; headers only where there is no type information."""
    try:
        version = bcc_compiler.version()
        yield Feature("bcc", False, Answer.THERE, version)
    except KernelError as error:
        yield Feature("bcc", False, Answer.NOT_THERE, str(error))
    if not BTF.exists():
        try:
            with kernel_headers.prepared():
                yield Feature("kernel headers", False, Answer.THERE, "of this kernel")
        except KernelError as error:
            yield Feature("kernel headers", False, Answer.NOT_THERE, str(error))


def _privileges(options: Options, places: Iterable[str]) -> Iterator[Feature]:
    """Yield what is on and takes more than the three; what stands among the needed is not told."""
    had = capabilities.effective()
    try:
        for need in privileges.needs(options, places):
            if need.from_start:
                yield _answer(
                    need.feature,
                    need.capability in had,
                    need.capability.name,
                    f"missing: {need.capability.name}; {need.loss}",
                    needed=False,
                )
    except KernelError:  # no libbpf: that was told
        return


def _answer(name: str, there: bool, good: str, bad: str, *, needed: bool = True) -> Feature:  # noqa: FBT001
    return Feature(
        name, needed, Answer.THERE if there else Answer.NOT_THERE, good if there else bad
    )


def _cgroup(path: str | None) -> Feature:
    try:
        found = cgroups.open_cgroup(path)
    except KernelError as error:
        return Feature("version 2 cgroups", True, Answer.NOT_THERE, str(error))
    found.close()
    return Feature("version 2 cgroups", True, Answer.THERE, found.path)
