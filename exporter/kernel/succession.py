# SPDX-License-Identifier: Apache-2.0
"""From one exporter to the next on the same pins: taken over, moved from another version, or anew.

A move can be interrupted anywhere. The next generation is pinned whole before it counts anything,
and what was adopted from the former one is noted in the kernel, in the same step. So whoever finds
both does the rest.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import logging
import os
import struct
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from exporter import model
from exporter.errors import AttachError
from exporter.kernel import layouts, links, namespaces, netfilter
from exporter.kernel.attaching import LinkCreate
from exporter.kernel.bpf_call import LINK_CREATE, bpf
from exporter.kernel.core_object import CoreObject
from exporter.kernel.holding import Descriptors, Holding, Plan, unexpected
from exporter.kernel.hooks import NETFILTER, PACKETS, STRAYS
from exporter.kernel.libbpf import (
    ProgramInfo,
    RunOptions,
    describe,
    open_library,
    possible_processors,
)
from exporter.kernel.pins import pin
from exporter.kernel.tables import Table, read_iterator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from exporter.kernel.core_object import Options
    from exporter.kernel.pins import Generation, Pins

log = logging.getLogger(__name__)

FORMAT: Final = 1
"""Of `about`; another one is not understood."""
ADOPT_LOST: Final = 16
"""bpf/netatop.h."""
SETTLE_SECONDS: Final = 0.05
"""For programs that still run when their link already leads to others: an RCU grace period."""
HOSTS: Final = "netfilter-"
"""Names of links in the host's own network namespace, which they do not keep from ending."""


def take_over(pins: Pins, options: Options) -> Holding:
    """Return what counts from now on: pinned, whatever was there before. Raises KernelError."""
    with CoreObject(options) as loading:
        about = _describe(loading.plan, options)
        moving = pins.next.about
        if moving == about:
            return _move(pins, loading, pins.next.open())
        former = b"" if moving else pins.current.about
        if former == about:
            log.info("%s: taken over", pins.path)
            pins.next.remove()
            held = pins.current.open()
            _mend(pins.current, held, loading.cgroup_fd)
            return _hold(loading.plan, held)
        pins.next.remove()
        if _is_movable(former, loading.plan):
            return _move(pins, loading, _prepare(pins, loading, about))
        if former or moving:
            log.warning(
                "%s: counters start anew: those there are of another cgroup, of a version that "
                "this one can't read, or of one that was interrupted in moving them",
                pins.path,
            )
        pins.remove()
        return _begin(pins, loading, about)


def _describe(plan: Plan, options: Options) -> bytes:
    """Return all that two runs must agree in, and what another version must know of the tables."""
    return json.dumps(
        {
            "format": FORMAT,
            "object": hashlib.sha256(options.object_path.read_bytes()).hexdigest(),
            "plan": {
                **plan._asdict(),
                "settings": plan.settings.hex(),
                "left_out": sorted(plan.left_out),
            },
            "cgroup_id": plan.read_settings().cgroup_id,
            "task": [layouts.TASK.format, layouts.Task._fields],
            "counters": [layouts.PROTOCOLS, layouts.DIRECTIONS, model.UNITS],
            "reasons": layouts.REASONS,
            "losses": layouts.LOSSES,
        }
    ).encode()


def _hold(plan: Plan, held: Descriptors) -> Holding:
    own = {name: fd for name, fd in held.links.items() if not name.startswith(HOSTS)}
    hosts = [fd for name, fd in held.links.items() if name.startswith(HOSTS)]
    holding = Holding(plan, held._replace(links=own))
    if hosts:
        holding.namespaces.keep(namespaces.own(), hosts)
    return holding


def _attach_hosts(held: Descriptors) -> None:
    """Attach in the host's own namespace, so that nothing is missed there between two exporters."""
    if NETFILTER[0] in held.programs and namespaces.is_hosts_own():
        attached = netfilter.attach({name: held.programs[name] for name in NETFILTER})
        held.links.update({f"{HOSTS}{number}": fd for number, fd in enumerate(attached)})


def _begin(pins: Pins, loading: CoreObject, about: bytes) -> Holding:
    """Start with empty tables."""
    loading.load()
    loading.attach_owners()
    loading.attach_strays()
    for name in PACKETS:
        loading.attach(name)
    held = loading.hand_over()
    _attach_hosts(held)
    pins.next.pin(held, about)
    pins.commit()
    return _hold(loading.plan, held)


# From another version


class Foreign(NamedTuple):
    """Tables of another version, and what it has said of them."""

    held: Descriptors
    task: struct.Struct
    fields: dict[str, slice]
    counters: dict[str, int]
    """Place of each number in a struct counters."""
    reasons: Sequence[str]
    losses: Sequence[str]
    walk: str


def _is_movable(about: bytes, plan: Plan) -> bool:
    """Tell whether the totals of a generation can be read and mean the same as ours."""
    if not about:
        return False
    try:
        said = json.loads(about)
        return bool(
            said["format"] == FORMAT and said["cgroup_id"] == plan.read_settings().cgroup_id
        )
    except (ValueError, KeyError, TypeError):
        return False


def _understand(about: bytes, held: Descriptors) -> Foreign:
    said = json.loads(about)
    form, names = said["task"]
    return Foreign(
        held=held,
        task=struct.Struct(form),
        fields=_fields(form, names),
        counters=_places(*said["counters"]),
        reasons=said["reasons"],
        losses=said["losses"],
        walk=said["plan"]["walk"],
    )


def _fields(form: str, names: Sequence[str]) -> dict[str, slice]:
    """Return which of the values that are unpacked by a format belong to which field."""
    fields, at = {}, 0
    for name, token in zip(names, form.lstrip("<").split(), strict=True):
        width = 1 if token.endswith("s") else int(token[:-1] or 1)
        fields[name] = slice(at, at + width)
        at += width
    return fields


def _places(protocols: Sequence[str], directions: Sequence[str], units: Sequence[str]) -> Any:
    names = (f"{p} {d} {u}" for p in protocols for d in directions for u in units)
    return {name: place for place, name in enumerate(names)}


OWN_PLACES: Final = _places(layouts.PROTOCOLS, layouts.DIRECTIONS, model.UNITS)
OWN_FIELDS: Final = _fields(layouts.TASK.format, layouts.Task._fields)
BLANK: Final = layouts.TASK.unpack(bytes(layouts.TASK.size))


def _prepare(pins: Pins, loading: CoreObject, about: bytes) -> Descriptors:
    """Load beside the former generation, learn who owns what, and pin; it goes on counting."""
    former = pins.current.open()
    try:
        room = Table(open_library(), former.maps["tasks"], "tasks").capacity
        loading.load(adopted=room + ADOPT_LOST + len(layouts.LOSSES))
        loading.attach_owners()
        held = loading.hand_over()
        # The same links will lead to our programs.
        held.links.update({name: os.dup(former.links[name]) for name in PACKETS})
    finally:
        former.close()
    pins.next.pin(held, about)
    return held


def _mend(generation: Generation, held: Descriptors, cgroup_fd: int) -> None:
    """Attach again what somebody has detached from the cgroup; the link is another one then."""
    for name, attach_type in links.severed(held.links).items():
        fresh = generation.path / "link-new"
        fresh.unlink(missing_ok=True)
        try:
            fd = bpf(LINK_CREATE, LinkCreate(held.programs[name], cgroup_fd, attach_type))
        except OSError as error:
            message = f"program {name}: {describe(error.errno or 0)}"
            raise AttachError(message) from error
        os.close(held.links[name])
        held.links[name] = fd
        pin(fd, fresh)
        fresh.rename(generation.path / "links" / name)
        log.warning("program %s: was detached by somebody; attached again", name)


def _move(pins: Pins, loading: CoreObject, held: Descriptors) -> Holding:
    """Let the packets come to us, and add what the former generation has counted."""
    about, plan = pins.current.about, loading.plan
    _mend(pins.next, held, loading.cgroup_fd)
    if about:
        log.info("%s: moving the totals of another version", pins.path)
        former = _understand(about, pins.current.open())
        try:
            if former.held.links.keys() >= {*PACKETS, former.walk}:
                _switch(pins, former.held, held)
                _attach_rest(pins, plan, held)
                time.sleep(SETTLE_SECONDS)
                read_iterator(open_library(), former.held.links[former.walk], former.walk)
                _adopt_tasks(former, held, threads=bool(plan.read_settings().count_threads))
                _adopt_nobodys(former, held)
            # Without them all that was done before, by one who was interrupted here or later.
            pins.current.unpin_links()
            # Who has ended meanwhile has told the former generation alone.
            _adopt_tasks(former, held, threads=bool(plan.read_settings().count_threads))
        finally:
            former.held.close()
    pins.commit()
    return _hold(plan, held)


def _switch(pins: Pins, former: Descriptors, held: Descriptors) -> None:
    severed = links.severed(former.links)
    # In one step each: no packet is counted twice, and none is missed.
    for name in [name for name in PACKETS if name not in severed]:
        open_library().call(
            "bpf_link_update",
            former.links[name],
            held.programs[name],
            None,
            error=unexpected(f"program {name}: taking the place of its predecessor"),
        )
    # Other links can't be led elsewhere: off, and on again.
    for name in [name for name in former.links if name in STRAYS or name.startswith(HOSTS)]:
        pins.current.unpin_link(name)
        os.close(former.links.pop(name))


def _attach_rest(pins: Pins, plan: Plan, held: Descriptors) -> None:
    """Attach what could not be attached beside the former generation."""
    there = set(held.links)
    for name in STRAYS:
        if name not in plan.left_out and name not in there:
            held.links[name] = open_library().call(
                "bpf_raw_tracepoint_open",
                None,
                held.programs[name],
                error=unexpected(f"program {name}"),
            )
    if not any(name.startswith(HOSTS) for name in there):
        _attach_hosts(held)
    for name in held.links.keys() - there:
        pin(held.links[name], pins.next.path / "links" / name)


def _adopt_tasks(former: Foreign, held: Descriptors, *, threads: bool) -> None:
    keys, values = Table(open_library(), former.held.maps["tasks"], "tasks").read_all()
    identities = keys.cast("B").cast("Q")
    for identity, value in zip(identities, former.task.iter_unpack(values), strict=True):
        process = value[former.fields["process"]][0]
        if process and (threads or process == identity):
            _adopt(held, identity, _translate(former, value))


def _translate(former: Foreign, value: tuple[Any, ...]) -> bytes:
    """Return a record in our layout; what one of the two does not know is left out, or 0."""
    ours = list(BLANK)
    for name, place in OWN_FIELDS.items():
        theirs = value[former.fields[name]] if name in former.fields else ()
        if name == "counters":
            ours[place] = _reorder(former, theirs)
        elif len(theirs) == place.stop - place.start:
            ours[place] = theirs
    return layouts.TASK.pack(*ours)


def _reorder(former: Foreign, counters: Sequence[int]) -> list[int]:
    return [
        counters[former.counters[name]] if name in former.counters else 0 for name in OWN_PLACES
    ]


def _adopt_nobodys(former: Foreign, held: Descriptors) -> None:
    """Adopt what belongs to no task."""
    for index, counters in _per_cpu(former, "unidentified", former.reasons):
        if former.reasons[index] in layouts.REASONS:
            number = layouts.REASONS.index(former.reasons[index])
            _adopt(held, number, _counters_alone(_reorder(former, counters)))
    skipped = "program_recursion"
    for index, (count,) in _per_cpu(former, "lost", former.losses):
        name = former.losses[index]
        if name in layouts.LOSSES:
            programs = former.held.programs.values() if name == skipped else ()
            more = sum(_recursion(program) for program in programs)
            number = ADOPT_LOST + layouts.LOSSES.index(name)
            _adopt(held, number, _counters_alone([count + more, *[0] * (len(OWN_PLACES) - 1)]))


def _per_cpu(former: Foreign, name: str, entries: Sequence[str]) -> Iterator[tuple[int, list[int]]]:
    """Yield each entry of a table of 64-bit numbers, added up over the processors."""
    processors = possible_processors()
    table = Table(open_library(), former.held.maps[name], name)
    for index in range(len(entries)):
        numbers = table.read_per_cpu(index).cast("B").cast("Q")
        width = len(numbers) // processors
        yield index, [sum(numbers[place::width]) for place in range(width)]


def _counters_alone(counters: Sequence[int]) -> bytes:
    values = list(BLANK)
    values[OWN_FIELDS["counters"]] = counters
    return layouts.TASK.pack(*values)


def _recursion(program: int) -> int:
    info = ProgramInfo()
    size = ctypes.c_uint32(ctypes.sizeof(info))
    arguments = (program, ctypes.byref(info), ctypes.byref(size))
    open_library().call("bpf_obj_get_info_by_fd", *arguments, error=unexpected("program"))
    return int(info.recursion_misses)


def _adopt(held: Descriptors, identity: int, record: bytes) -> None:
    """Run the program `adopt`: struct adoption is an identity and a record."""
    request = identity.to_bytes(8, "little") + record
    options = RunOptions(
        sz=ctypes.sizeof(RunOptions),
        ctx_in=ctypes.cast(ctypes.c_char_p(request), ctypes.c_void_p),
        ctx_size_in=len(request),
    )
    open_library().call(
        "bpf_prog_test_run_opts",
        held.programs["adopt"],
        ctypes.byref(options),
        error=unexpected("program adopt"),
    )
