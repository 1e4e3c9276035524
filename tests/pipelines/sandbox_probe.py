"""A confined child that tries what it must not be able to do, and tells what worked."""

import ctypes
import json
import os
import socket
import sys

from worker_vm.sandbox import confine, limits_from_argv


def attempt(action) -> bool:
    try:
        action()
    except (OSError, MemoryError, ValueError):
        return False
    return True


confine(limits_from_argv())
libc = ctypes.CDLL(None)
result = {
    "read": sys.stdin.buffer.read().decode(),
    "open": attempt(lambda: os.open("/etc/hostname", os.O_RDONLY)),
    "write": attempt(lambda: os.open("/tmp/escaped", os.O_CREAT | os.O_WRONLY)),  # noqa: S108
    "socket": attempt(socket.socket),
    "memory": attempt(lambda: bytearray(1 << 30)),
    "no_new_privs": libc.prctl(39, 0, 0, 0, 0),
    "environment": sorted(os.environ),
}
sys.stdout.write(json.dumps(result))
