"""Which URLs and addresses are called: tables of hostile ones, and of good ones that look odd."""

import ipaddress
from ipaddress import ip_network

import pytest

from app.config import Settings
from app.notifications.addresses import why_forbidden
from app.notifications.errors import DestinationError
from app.notifications.urls import MAX_URL_LENGTH, UrlPolicy

HOSTILE = {
    "": "printable",
    "hooks.example.com": "no URL",
    "/hook": "no URL",
    "https:hooks.example.com": "no URL",
    "https:///hook": "no URL",
    "https://": "no URL",
    "http://hooks.example.com/": "scheme",
    "file:///etc/passwd": "no URL",
    "file://localhost/etc/passwd": "scheme",
    "gopher://hooks.example.com/": "scheme",
    "ftp://hooks.example.com/": "scheme",
    "javascript://hooks.example.com/%0aalert(1)": "scheme",
    "https://user@hooks.example.com/": "user name",
    "https://user:secret@hooks.example.com/": "user name",
    "https://hooks.example.com@127.0.0.1/": "user name",
    "https://@hooks.example.com/": "user name",
    "https://hooks.example.com/#x": "fragment",
    "https://hooks.example.com#@127.0.0.1/": "fragment",
    "https://hooks.example.com\\@127.0.0.1/": "printable",
    "https://hooks.example.com/a b": "printable",
    "https://hooks.example.com/\r\nX-Evil: 1": "printable",
    "https://hooks.example.com/\thook": "printable",
    "https://hooks.example.com/\x00": "printable",
    "https://hööks.example.com/": "printable",
    "https://127。0。0。1/": "printable",
    "https://①②⑦.0.0.1/": "printable",
    "https://hooks.example.com:22/": "Port 22",
    "https://hooks.example.com:6379/": "Port 6379",
    "https://hooks.example.com:0/": "Port 0",
    "https://hooks.example.com:65536/": "Port 65536",
    "https://hooks.example.com:99999999/": "no URL",
    "https://hooks.example.com:/": "no URL",
    "https://hooks.example.com:-1/": "no URL",
    "https://hooks.example.com:443:443/": "no URL",
    "https://localhost/": "this machine",
    "https://LOCALHOST./": "this machine",
    "https://app.localhost/": "this machine",
    "https://127.0.0.1/": "this machine",
    "https://127.8.8.8/": "this machine",
    "https://127.0.0.1./": "this machine",
    "https://2130706433/": "no IP address",
    "https://0x7f000001/": "no IP address",
    "https://0x7f.0.0.1/": "no IP address",
    "https://0177.0.0.1/": "no IP address",
    "https://127.1/": "no IP address",
    "https://0/": "no IP address",
    "https://0.0.0.0/": "this machine",
    "https://169.254.169.254/latest/meta-data/": "link-local",
    "https://10.0.0.1/": "private",
    "https://172.16.0.1/": "private",
    "https://192.168.0.1/": "private",
    "https://100.64.0.1/": "private",
    "https://192.0.0.192/": "private",
    "https://198.18.0.1/": "private",
    "https://224.0.0.1/": "multicast",
    "https://255.255.255.255/": "private",
    "https://[::1]/": "this machine",
    "https://[::]/": "this machine",
    "https://[::ffff:127.0.0.1]/": "this machine",
    "https://[::ffff:7f00:1]/": "this machine",
    "https://[::127.0.0.1]/": "private",
    "https://[fe80::1]/": "link-local",
    "https://[fe80::1%25eth0]/": "no URL",
    "https://[fd00:ec2::254]/": "private",
    "https://[64:ff9b::a9fe:a9fe]/": "link-local",
    "https://[64:ff9b:1::1]/": "private",
    "https://[2002:7f00:1::]/": "private",
    "https://[2001:0:7f00:1::]/": "private",
    "https://[ff02::1]/": "multicast",
    "https://[::1/": "no URL",
    "https://::1/": "no URL",
    "https://[::1]evil/": "no URL",
    "https://[v1.x]/": "no URL",
    "https://-a.example.com/": "no name",
    "https://a..example.com/": "no name",
    "https://.example.com/": "no name",
    "https://./": "no name",
    "https://a%2eexample.com/": "no name",
    "https://hooks.example.com,127.0.0.1/": "no name",
    f"https://{'a' * 64}.example.com/": "no name",
    f"https://{'a.' * 130}com/": "no name",
    f"https://hooks.example.com/{'a' * MAX_URL_LENGTH}": "characters",
}

GOOD = {
    "https://hooks.example.com": "https://hooks.example.com/",
    "HTTPS://Hooks.Example.COM:443/Hook": "https://hooks.example.com/Hook",
    "https://hooks.example.com./": "https://hooks.example.com/",
    "https://hooks.example.com:80/": "https://hooks.example.com:80/",
    "https://hooks.example.com?token=a/../b": "https://hooks.example.com/?token=a/../b",
    "https://hooks.example.com//evil.example/@x:y": "https://hooks.example.com//evil.example/@x:y",
    "https://xn--hks-sna.example.com/": "https://xn--hks-sna.example.com/",
    "https://my_receiver/": "https://my_receiver/",
    "https://8.8.8.8/": "https://8.8.8.8/",
    "https://[2606:4700:4700::1111]/": "https://[2606:4700:4700::1111]/",
    "https://[64:ff9b::808:808]/": "https://[64:ff9b::808:808]/",
}


@pytest.mark.parametrize("url", HOSTILE)
def test_hostile_urls(url: str, settings: Settings) -> None:
    """Each is refused, and the sentence says why."""
    with pytest.raises(DestinationError, match=HOSTILE[url]):
        UrlPolicy(settings).check(url)


@pytest.mark.parametrize("url", GOOD)
def test_good_urls(url: str, settings: Settings) -> None:
    """Each is taken, spelled in one way only, in which it is taken again."""
    policy = UrlPolicy(settings)
    spelled = str(policy.check(url))
    assert spelled == GOOD[url]
    assert str(policy.check(spelled)) == spelled


def test_settings_allow_more(settings: Settings) -> None:
    """A lab may allow http, ports and networks of its own, and nothing else is allowed by that."""
    lab = UrlPolicy(
        settings.model_copy(
            update={
                "webhook_allow_http": True,
                "webhook_ports": [],
                "webhook_allowed_networks": [ip_network("10.1.0.0/16"), ip_network("fd00::/8")],
            }
        )
    )
    for url in ("http://10.1.2.3:8000/", "http://[fd00::1]/", "http://[::ffff:10.1.2.3]:9/"):
        lab.check(url)
    for url in ("http://10.2.0.1/", "http://127.0.0.1/", "http://[fe80::1]/"):
        with pytest.raises(DestinationError):
            lab.check(url)


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8",
        "93.184.215.14",
        "192.0.2.128",
        "2606:4700::1111",
        "2a00:1450::1",
        "::ffff:8.8.8.8",
    ],
)
def test_public_addresses(address: str) -> None:
    """Public addresses may be called; those kept for documentation may not."""
    documentation = address.startswith("192.0.2.")
    assert (why_forbidden(ipaddress.ip_address(address)) is None) != documentation


def test_no_address_of_a_special_block_is_called() -> None:
    """The first and the last address of every block of the IANA registries that is not global."""
    blocks = """
        0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24
        192.0.2.0/24 192.88.99.0/24 192.168.0.0/16 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24
        224.0.0.0/4 240.0.0.0/4 255.255.255.255/32
        ::/128 ::1/128 ::ffff:0:0/104 64:ff9b:1::/48 100::/64 2001::/23 2001:db8::/32 2002::/16
        3fff::/20 5f00::/16 fc00::/7 fe80::/10 fec0::/10 ff00::/8
    """
    for block in map(ip_network, blocks.split()):
        for address in (block[0], block[-1]):
            assert why_forbidden(address), f"{address} of {block}"
