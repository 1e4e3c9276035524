"""Become another program that dies with its parent, and never runs as root.

    python -I -S guard.py PARENT_PID SIGNAL USER -- PROGRAM [ARGUMENT…]

Called by path, so it imports nothing but the standard library. `exec` keeps the process id, so the
caller's child *is* the program. SIGNAL reaches the program when the thread that started it ends
(Linux's PR_SET_PDEATHSIG). USER is `-`, or the account to run as when we are root: PostgreSQL
refuses root. That account could not enter a home folder of mode 700, so the one right it keeps is
to look past file permissions (CAP_DAC_OVERRIDE); no folder's mode is changed.
"""

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAPABILITY_VERSION_3 = 0x20080522
CAP_DAC_OVERRIDE = 1


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _CapabilityData(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def become(account: str, libc: ctypes.CDLL) -> None:
    """Give up root for `account`, keeping CAP_DAC_OVERRIDE where the system allows it."""
    user = pwd.getpwnam(account)
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    header = _CapabilityHeader(CAPABILITY_VERSION_3, 0)
    bit = 1 << CAP_DAC_OVERRIDE
    kept = (_CapabilityData * 2)(_CapabilityData(bit, bit, bit))
    if libc.capset(ctypes.byref(header), kept) == 0:
        libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)
    else:  # a container without it: fine where the folders are open to everyone
        libc.capset(ctypes.byref(header), (_CapabilityData * 2)())


def main(arguments: list[str]) -> None:
    """Arrange the death signal and the account, then become the program."""
    parent, death_signal, account, separator, *command = arguments
    if separator != "--" or not command:
        sys.exit(f"usage: {__doc__}")
    libc = ctypes.CDLL(None, use_errno=True)
    if account != "-":
        try:
            become(account, libc)
        except (KeyError, OSError) as error:
            sys.exit(f"{command[0]} must not run as root, and {account} cannot be used: {error}")
    if sys.platform == "linux":
        # After the change of account, which clears it.
        libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("the parent is gone already")
    try:
        os.execvp(command[0], command)  # noqa: S606  (being that program is the purpose)
    except OSError as error:
        sys.exit(f"{command[0]} cannot be started: {error.strerror}")


if __name__ == "__main__":
    main(sys.argv[1:])
