"""Requests to hosts that users choose: to the address that was checked, and to nothing else."""

import asyncio
import ssl
from collections.abc import Sequence
from ipaddress import ip_network

import httpcore
import pytest

from app.config import Settings
from app.notifications.guarded_http import (
    MAX_ANSWER_BYTES,
    ForbiddenAddressError,
    GuardedHttp,
    Resolver,
    UnknownHostError,
)
from app.notifications.urls import Destination
from tests.support.receiver import HOST, TLS, Received, Receiver, plain_answer, receiving

LOOPBACK = [ip_network("127.0.0.0/8")]


class Dns:
    """A resolver that gives the next of its answers each time it is asked."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """The next answer."""
        self.asked.append((host, port))
        return self.answers.pop(0)


def trusted() -> ssl.SSLContext:
    """TLS that trusts the authority of the tests."""
    return ssl.create_default_context(cafile=str(TLS / "ca.pem"))


def to(receiver: Receiver, host: str = HOST) -> Destination:
    """Where a receiver is, under some name."""
    return Destination(receiver.scheme, host, receiver.port, "/hook?x=1")


async def post(http: GuardedHttp, destination: Destination) -> int:
    """POST something; the answer's status."""
    return (await http.post(destination, {"x-test": "1"}, b"{}")).status


async def test_name_in_host_and_tls(settings: Settings) -> None:
    """The connection goes to the address, while certificate, SNI and Host are of the name."""
    async with receiving(tls=True) as receiver:
        dns = Dns(["127.0.0.1"])
        assert await post(GuardedHttp(LOOPBACK, dns, tls=trusted()), to(receiver)) == 204
        assert dns.asked == [(HOST, receiver.port)]
        assert receiver.server_name == HOST
        (received,) = receiver.received
        assert received.line == "POST /hook?x=1 HTTP/1.1"
        assert received.headers["host"] == f"{HOST}:{receiver.port}"
        assert received.headers["x-test"] == "1"


@pytest.mark.parametrize("host", ["other.example.test", "127.0.0.1"])
async def test_certificate_of_another_name(host: str) -> None:
    """A server that cannot prove the name is told nothing."""
    async with receiving(tls=True) as receiver:
        http = GuardedHttp(LOOPBACK, Dns(["127.0.0.1"]), tls=trusted())
        with pytest.raises((ssl.SSLError, httpcore.ConnectError)):
            await post(http, to(receiver, host))
        assert receiver.received == []


async def test_certificate_that_nobody_trusts() -> None:
    """Nor is one whose certificate the system does not trust."""
    async with receiving(tls=True) as receiver:
        with pytest.raises((ssl.SSLError, httpcore.ConnectError)):
            await post(GuardedHttp(LOOPBACK, Dns(["127.0.0.1"])), to(receiver))
        assert receiver.received == []


async def test_rebinding_is_in_vain(receiver: Receiver) -> None:
    """A name is resolved once for a connection, and it goes to the address that was checked.

    The resolver says an allowed address first and a forbidden one ever after, then the other way.
    """
    allowed_first = Dns(["127.0.0.1"], ["10.0.0.1"])
    http = GuardedHttp(LOOPBACK, allowed_first)
    assert await post(http, to(receiver)) == 204
    assert len(allowed_first.asked) == 1
    with pytest.raises(ForbiddenAddressError):
        await post(http, to(receiver))
    assert len(receiver.received) == 1

    forbidden_first = Dns(["127.0.0.1"], ["8.8.8.8"])
    with pytest.raises(ForbiddenAddressError):
        await post(GuardedHttp([], forbidden_first), to(receiver))
    assert len(forbidden_first.asked) == 1
    assert receiver.connections == 1


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["8.8.8.8", "127.0.0.1"],
        ["8.8.8.8", "169.254.169.254"],
        ["::1"],
        ["::ffff:127.0.0.1"],
        ["fe80::1%lo"],
        ["64:ff9b::7f00:1"],
    ],
)
async def test_every_address_is_checked(addresses: list[str], receiver: Receiver) -> None:
    """One bad address among good ones is enough: no connection is made at all."""
    with pytest.raises(ForbiddenAddressError):
        await post(GuardedHttp([], Dns(addresses)), to(receiver))
    assert receiver.connections == 0


@pytest.mark.parametrize("host", ["localhost", "127.1", "0x7f000001", "2130706433", "017700000001"])
async def test_whatever_the_system_takes_for_loopback(host: str, receiver: Receiver) -> None:
    """What the system's own resolver reads as this machine is not called under any spelling."""
    resolver = Resolver(2)
    with pytest.raises(ForbiddenAddressError):
        await post(GuardedHttp([], resolver), to(receiver, host))
    resolver.close()
    assert receiver.connections == 0


async def test_second_address_if_the_first_is_dead(receiver: Receiver) -> None:
    """A host with several addresses is reached by whichever answers."""
    http = GuardedHttp(LOOPBACK, Dns(["127.0.0.2", "127.0.0.1"]))
    assert await post(http, to(receiver)) == 204


async def test_names_that_lead_nowhere(receiver: Receiver) -> None:
    """A name without an address, or that no resolver knows, is an error of its own."""
    with pytest.raises(UnknownHostError):
        await post(GuardedHttp([], Dns([])), to(receiver))
    resolver = Resolver(1)
    for host in ("a.invalid", f"{'a' * 70}.example"):
        with pytest.raises(UnknownHostError):
            await post(GuardedHttp([], resolver), to(receiver, host))
    resolver.close()


async def test_redirects_are_not_followed(receiver: Receiver) -> None:
    """A redirect is an answer like any other."""
    receiver.answers = [plain_answer(307, Location=receiver.url("/elsewhere"))]
    assert await post(GuardedHttp(LOOPBACK, Dns(["127.0.0.1"])), to(receiver)) == 307
    assert len(receiver.received) == 1


async def test_proxies_of_the_environment_are_not_used(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would resolve the name anew, past all checks."""
    async with receiving() as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url("/"))
        assert await post(GuardedHttp(LOOPBACK, Dns(["127.0.0.1"])), to(receiver)) == 204
        assert proxy.connections == 0


async def test_endless_answer_is_cut_off(receiver: Receiver) -> None:
    """Only the beginning of an answer is read, however much there is."""
    sent = 0

    async def pour(_: Received, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    receiver.answer = pour
    answer = await GuardedHttp(LOOPBACK, Dns(["127.0.0.1"])).post(to(receiver), {}, b"{}")
    assert (answer.status, answer.start) == (200, b"x" * MAX_ANSWER_BYTES)
    assert sent < 50 * 2**20, "the rest was never read"


async def test_compressed_answer_stays_so(receiver: Receiver) -> None:
    """Nothing is decompressed, so no bomb goes off."""
    receiver.answers = [plain_answer(200, b"\x1f\x8b\x08", Content_Encoding="gzip")]
    answer = await GuardedHttp(LOOPBACK, Dns(["127.0.0.1"])).post(to(receiver), {}, b"{}")
    assert answer.start == b"\x1f\x8b\x08"


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n"])
async def test_time_limit_is_for_all_of_it(start: bytes, receiver: Receiver) -> None:
    """Who answers nothing, or a byte now and then, is waited for only so long in all."""

    async def dawdle(_: Received, writer: asyncio.StreamWriter) -> None:
        writer.write(start)
        while not writer.is_closing():
            if start:
                writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    receiver.answer = dawdle
    with pytest.raises(TimeoutError):
        await post(GuardedHttp(LOOPBACK, Dns(["127.0.0.1"]), time_limit=0.5), to(receiver))


async def test_slow_names_count_too(receiver: Receiver) -> None:
    """The time limit includes resolving the name."""

    async def never(_: str, __: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return []

    with pytest.raises(TimeoutError):
        await post(GuardedHttp(LOOPBACK, never, time_limit=0.2), to(receiver))


@pytest.mark.parametrize("answer", [b"no http at all\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n", b""])
async def test_answers_that_are_none(answer: bytes, receiver: Receiver) -> None:
    """What is no HTTP is an error of the protocol, not of ours."""
    receiver.answers = [answer]
    with pytest.raises((httpcore.ProtocolError, httpcore.NetworkError)):
        await post(GuardedHttp(LOOPBACK, Dns(["127.0.0.1"])), to(receiver))
