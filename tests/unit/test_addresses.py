"""Where a request comes from, behind proxies and without."""

import pytest
from starlette.requests import Request

from app.web.addresses import client_address


def _request(peer: str | None, *forwarded: str) -> Request:
    return Request(
        {
            "type": "http",
            "client": (peer, 1234) if peer else None,
            "headers": [(b"x-forwarded-for", value.encode("latin-1")) for value in forwarded],
        }
    )


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "expected"),
    [
        ("192.0.2.1", [], 0, "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.1"], 0, "192.0.2.1"),
        ("192.0.2.1", [], 1, "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.1"], 1, "203.0.113.1"),
        ("192.0.2.1", ["1.1.1.1, 203.0.113.1"], 1, "203.0.113.1"),
        ("192.0.2.1", ["1.1.1.1", "203.0.113.1"], 1, "203.0.113.1"),
        ("192.0.2.1", ["1.1.1.1, 203.0.113.1, 10.0.0.1"], 2, "203.0.113.1"),
        ("192.0.2.1", ["203.0.113.1"], 2, "192.0.2.1"),
        ("192.0.2.1", ["nonsense"], 1, "192.0.2.1"),
        ("192.0.2.1", ["\xff"], 1, "192.0.2.1"),
        ("192.0.2.1", [""], 1, "192.0.2.1"),
        ("192.0.2.1", ["[2001:db8::1]"], 1, "2001:db8::1"),
        ("2001:DB8:0::1", [], 0, "2001:db8::1"),
        ("fe80::1%eth0", [], 0, "fe80::1"),
        ("::ffff:192.0.2.1", [], 0, "192.0.2.1"),
        ("testclient", [], 0, None),
        (None, [], 0, None),
    ],
)
def test_client_address(
    peer: str | None, forwarded: list[str], trusted: int, expected: str | None
) -> None:
    """The entry of the outermost proxy that is trusted counts; what is left of it anyone wrote."""
    assert client_address(_request(peer, *forwarded), trusted) == expected
