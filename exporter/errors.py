# SPDX-License-Identifier: Apache-2.0
"""Everything that this program raises on purpose.

::

    NetatopError
    ├── ConfigError                 what the user asked for can't be                 exit 2
    ├── KernelError                 everything from exporter.kernel                  exit 1
    │   ├── UnsupportedKernelError  the kernel lacks something: another loader may do
    │   ├── LockdownError           the kernel is locked down: no loader can do
    │   ├── MissingCapabilityError  the caller lacks a privilege
    │   ├── CgroupError             no usable version 2 cgroup
    │   ├── CompilerError           bcc, or what it takes to compile, is missing or not usable
    │   ├── LoadError               the kernel or libbpf refused the object
    │   ├── AttachError             a program is loaded but can't be attached
    │   ├── LayoutError             the object is not the one that this package was built with
    │   ├── MapReadError            a table can't be read
    │   └── PinError                the directory of pins can't be used
    ├── LogError                    the log of finished processes can't be written    exit 1
    ├── ProcessError                there is no such process                         exit 1
    ├── StateError                  what was remembered can't be read                exit 1
    └── ServeError                  the address can't be listened on                 exit 1

A message is one line without a full stop: the thing, what was found, what is accepted, what to do.
"""

from __future__ import annotations


class NetatopError(Exception):
    """The root; `exit_status` is what the command ends with."""

    exit_status = 1


class ConfigError(NetatopError):
    """A flag or a setting is not acceptable."""

    exit_status = 2


class KernelError(NetatopError):
    """The kernel side can't do what it is asked for."""


class UnsupportedKernelError(KernelError):
    """The running kernel lacks a feature: the only error that permits another loader."""


class LockdownError(KernelError):
    """The kernel keeps programs from what they need (kernel_lockdown(7))."""


class MissingCapabilityError(KernelError):
    """The process lacks a capability."""


class CgroupError(KernelError):
    """There is no version 2 cgroup hierarchy where one is needed."""


class CompilerError(KernelError):
    """Programs that are compiled at run time can't be; `log` holds all that clang said."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class LoadError(KernelError):
    """The object was refused; `log` holds all that libbpf and the verifier said."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class AttachError(KernelError):
    """A loaded program was refused by its hook."""


class LayoutError(KernelError):
    """Kernel and user space disagree about a struct."""


class MapReadError(KernelError):
    """A table of the kernel can't be read."""


class PinError(KernelError):
    """The directory in which things outlive the process can't be used, or not now."""


class LogError(NetatopError):
    """The log of finished processes can't be written, or not now."""


class ProcessError(NetatopError):
    """There is no process of which something is wanted."""


class StateError(NetatopError):
    """What an earlier run has left to be remembered can't be read."""


class ServeError(NetatopError):
    """The web server can't be started."""
