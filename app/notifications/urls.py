"""Which URLs may be told of events, as far as the URL itself tells.

The form is narrower than RFC 3986, and what is stored and called is put together anew from its
parts, so that no two parsers can disagree about where a request goes. What a name leads to is
checked with each delivery (`app/notifications/addresses.py`), since it may change.
"""

import ipaddress
import re
from dataclasses import dataclass

from app.config import Settings
from app.notifications.addresses import IpAddress, IpNetwork, why_forbidden
from app.notifications.errors import DestinationError

MAX_URL_LENGTH = 2000
_MAX_HOST_LENGTH = 253
_DEFAULT_PORTS = {"http": 80, "https": 443}

_URL = re.compile(
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://"
    r"(?P<user>[^/?#]*@)?"
    r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]/?#@:]+))"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[^?#]*)?(?P<query>\?[^#]*)?(?P<fragment>#.*)?"
)
_PRINTABLE = re.compile(r"[\x21-\x5b\x5d-\x7e]+")  # ASCII without the backslash
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


@dataclass(frozen=True, slots=True)
class Destination:
    """A URL in its parts."""

    scheme: str
    host: str
    """A name in lower case, or an IP address without brackets."""
    port: int
    target: str
    """Path and query."""

    @property
    def authority(self) -> str:
        """Host and, unless it is the scheme's own, port: who is called."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        """The URL, always spelled in the same way."""
        return f"{self.scheme}://{self.authority}{self.target}"


def authority_of(url: str) -> str:
    """Who is called by a URL that was put together by `Destination`."""
    return url.split("/")[2]


class UrlPolicy:
    """What this site's settings allow.

    Args:
        settings: `WEBHOOK_ALLOW_HTTP`, `WEBHOOK_PORTS` and `WEBHOOK_ALLOWED_NETWORKS`.
    """

    def __init__(self, settings: Settings) -> None:
        self._schemes = {"https", "http"} if settings.webhook_allow_http else {"https"}
        self._ports = frozenset(settings.webhook_ports)
        self.networks: tuple[IpNetwork, ...] = tuple(settings.webhook_allowed_networks)

    def check(self, url: str, *, pointer: str = "/url") -> Destination:
        """The parts of a URL that may be called.

        Raises:
            DestinationError: it may not; says why, and names the value by `pointer`.
        """
        try:
            return self._parse(url)
        except ValueError as error:
            raise DestinationError(str(error), pointer=pointer) from None

    def _parse(self, url: str) -> Destination:
        if len(url) > MAX_URL_LENGTH:
            raise ValueError(f"A URL may have {MAX_URL_LENGTH} characters at most.")
        if not _PRINTABLE.fullmatch(url):
            raise ValueError(
                "A URL has printable ASCII characters only: percent-encode paths, and write "
                "international names in Punycode (xn--…)."
            )
        found = _URL.fullmatch(url)
        if found is None:
            raise ValueError("This is no URL of the form https://host/path.")
        scheme = found["scheme"].lower()
        if scheme not in self._schemes:
            raise ValueError(f"The scheme must be {' or '.join(sorted(self._schemes))}.")
        if found["user"] is not None:
            raise ValueError("A URL with a user name or password in it is not called.")
        if found["fragment"] is not None:
            raise ValueError("A URL to be called has no fragment (#…).")
        port = int(found["port"] or _DEFAULT_PORTS[scheme])
        if self._ports and port not in self._ports:
            allowed = ", ".join(map(str, sorted(self._ports)))
            raise ValueError(f"Port {port} is not called; these are: {allowed}.")
        host = self._check_address(found["v6"]) if found["v6"] else self._check_name(found["name"])
        return Destination(scheme, host, port, (found["path"] or "/") + (found["query"] or ""))

    def _check_name(self, name: str) -> str:
        name = name.lower().removesuffix(".")
        labels = name.split(".")
        if len(name) > _MAX_HOST_LENGTH or not all(map(_LABEL.fullmatch, labels)):
            raise ValueError("The host is no name and no IP address.")
        if _NUMBER.fullmatch(labels[-1]):
            # Resolvers take 2130706433, 0x7f.1 and 0177.0.0.1 for addresses; nobody means well.
            return self._check_address(name)
        if labels[-1] == "localhost" and not self.networks:
            raise ValueError("The host is this machine itself, which is not called.")
        return name

    def _check_address(self, text: str) -> str:
        try:
            address: IpAddress = ipaddress.ip_address(text)
        except ValueError:
            raise ValueError("The host is no name and no IP address.") from None
        reason = why_forbidden(address, self.networks)
        if reason:
            raise ValueError(f"The host is {reason}, which is not called.")
        return str(address)
