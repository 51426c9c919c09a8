"""A process that gives up the network, other programs and every file but those it holds open.

A filter of system calls (seccomp) that no later code of the process can lift. Threads, memory and
reading files stay allowed: Python and torch import as they go.
Reference: linux/Documentation/userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from typing import Final

from dicom_services.errors import UnavailableError

_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_SET_SECCOMP: Final = 22
_SECCOMP_MODE_FILTER: Final = 2
_ALLOW: Final = 0x7FFF0000
_KILL: Final = 0x80000000
_ERROR: Final = 0x00050000
# struct seccomp_data: nr, arch, instruction_pointer, args[6]; low words, little endian.
_NUMBER, _ARCHITECTURE, _ARGUMENT = 0, 4, 16
# BPF: load a word; jump if equal, greater or equal, any bit set; return.
_LOAD, _EQUAL, _AT_LEAST, _ANY_BIT, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
_CLONE_THREAD: Final = 0x00010000
_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_X86_64: Final = {
    # sockets
    "socket": 41, "connect": 42, "accept": 43, "sendto": 44, "recvfrom": 45, "sendmsg": 46,
    "recvmsg": 47, "bind": 49, "listen": 50, "socketpair": 53, "accept4": 288, "recvmmsg": 299,
    "sendmmsg": 307,
    # programs and other processes
    "fork": 57, "vfork": 58, "execve": 59, "kill": 62, "ptrace": 101, "tkill": 200,
    "tgkill": 234, "rt_sigqueueinfo": 129, "process_vm_readv": 310, "process_vm_writev": 311,
    "execveat": 322, "pidfd_send_signal": 424, "pidfd_open": 434, "pidfd_getfd": 438,
    # what changes files by their name
    "truncate": 76, "rename": 82, "mkdir": 83, "rmdir": 84, "creat": 85, "link": 86, "unlink": 87,
    "symlink": 88, "chmod": 90, "chown": 92, "lchown": 94, "mknod": 133, "utime": 132,
    "setxattr": 188, "lsetxattr": 189, "removexattr": 197, "lremovexattr": 198, "utimes": 235,
    "mkdirat": 258, "mknodat": 259, "fchownat": 260, "futimesat": 261, "unlinkat": 263,
    "renameat": 264, "linkat": 265, "symlinkat": 266, "fchmodat": 268, "utimensat": 280,
    "renameat2": 316, "openat2": 437, "fchmodat2": 452, "open_by_handle_at": 304,
    # the system
    "chroot": 161, "mount": 165, "umount2": 166, "unshare": 272, "setns": 308, "bpf": 321,
    "add_key": 248, "request_key": 249, "keyctl": 250, "perf_event_open": 298, "userfaultfd": 323,
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "memfd_create": 319,
}  # fmt: skip
_AARCH64: Final = {
    "socket": 198, "socketpair": 199, "bind": 200, "listen": 201, "accept": 202, "connect": 203,
    "sendto": 206, "recvfrom": 207, "sendmsg": 211, "recvmsg": 212, "accept4": 242,
    "recvmmsg": 243, "sendmmsg": 269,
    "execve": 221, "kill": 129, "tkill": 130, "tgkill": 131, "ptrace": 117, "rt_sigqueueinfo": 138,
    "process_vm_readv": 270, "process_vm_writev": 271, "execveat": 281,
    "pidfd_send_signal": 424, "pidfd_open": 434, "pidfd_getfd": 438,
    "truncate": 45, "mkdirat": 34, "unlinkat": 35, "symlinkat": 36, "linkat": 37, "renameat": 38,
    "mknodat": 33, "fchmodat": 53, "fchownat": 54, "utimensat": 88, "renameat2": 276,
    "setxattr": 5, "lsetxattr": 6, "removexattr": 14, "lremovexattr": 15, "openat2": 437,
    "fchmodat2": 452, "open_by_handle_at": 265,
    "chroot": 51, "mount": 40, "umount2": 39, "unshare": 97, "setns": 268, "bpf": 280,
    "add_key": 217, "request_key": 218, "keyctl": 219, "perf_event_open": 241, "userfaultfd": 282,
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "memfd_create": 279,
}  # fmt: skip
# Audit architecture, refused calls, clone, clone3, and which argument of an open has its flags.
_MACHINES: Final = {
    "x86_64": (0xC000003E, _X86_64, 56, 435, {2: 1, 257: 2}),
    "aarch64": (0xC00000B7, _AARCH64, 220, 435, {56: 2}),
}
_X32: Final = 0x40000000
"""From here on x86_64 has a second set of the same calls."""


def confine() -> None:
    """Give up, for this process and for good, what decoding or converting never needs.

    Raises
    ------
    UnavailableError
        `confinement_missing` where this system has no such filter.
    """
    if platform.machine() not in _MACHINES:
        raise UnavailableError("confinement_missing")
    program = _program(platform.machine())
    count = len(program) // 8
    kept = ctypes.create_string_buffer(program, len(program))
    # struct sock_fprog: a count, padding, a pointer.
    filter_ = ctypes.create_string_buffer(struct.pack("@HP", count, ctypes.addressof(kept)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(
        _PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filter_, 0, 0
    ):
        raise UnavailableError("confinement_missing")


def _program(machine: str) -> bytes:
    """The filter: instructions of eight bytes, jumps counted from the next one."""
    architecture, refused, clone, clone3, opens = _MACHINES[machine]
    code = [
        _line(_LOAD, _ARCHITECTURE),
        _line(_EQUAL, architecture, 1, 0),
        _line(_RETURN, _KILL),
        _line(_LOAD, _NUMBER),
        _line(_AT_LEAST, _X32, 0, 1),
        _line(_RETURN, _ERROR | errno.EPERM),
    ]
    for number in sorted(refused.values()):
        code += [_line(_EQUAL, number, 0, 1), _line(_RETURN, _ERROR | errno.EPERM)]
    # Its flags are in memory, where no filter can look; libraries then take clone.
    code += [_line(_EQUAL, clone3, 0, 1), _line(_RETURN, _ERROR | errno.ENOSYS)]
    code += [
        _line(_EQUAL, clone, 0, 4),
        _line(_LOAD, _ARGUMENT),
        _line(_ANY_BIT, _CLONE_THREAD, 1, 0),
        _line(_RETURN, _ERROR | errno.EPERM),
        _line(_RETURN, _ALLOW),
    ]
    for number, flags in opens.items():
        code += [
            _line(_EQUAL, number, 0, 4),
            _line(_LOAD, _ARGUMENT + 8 * flags),
            _line(_ANY_BIT, _WRITING, 0, 1),
            _line(_RETURN, _ERROR | errno.EACCES),
            _line(_RETURN, _ALLOW),
        ]
    code.append(_line(_RETURN, _ALLOW))
    return b"".join(code)


def _line(code: int, value: int, true: int = 0, false: int = 0) -> bytes:
    return struct.pack("<HBBI", code, true, false, value)
