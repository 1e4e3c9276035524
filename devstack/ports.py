"""Ports of 127.0.0.1."""

import socket

HOST = "127.0.0.1"


def free_port() -> int:
    """A port nobody listens on now. Another process may take it before it is used."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def prefer(port: int) -> int:
    """`port` if it is free, else any port that is."""
    return port if is_free(port) else free_port()
