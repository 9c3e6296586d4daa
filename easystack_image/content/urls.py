"""Which URLs may be fetched, before anything is connected to."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
import urllib.parse

from easystack_image import exceptions
from easystack_image.content import addresses

MAX_LENGTH = 2048
PORTS = {'http': 80, 'https': 443}

#: The C library takes more than four decimal numbers for an address.
_NUMERIC = re.compile(r'(0x[0-9a-f]*|[0-9]+)(\.(0x[0-9a-f]*|[0-9]+)){0,3}\.?')
#: Visible ASCII; nothing that ends a line of HTTP or that parsers differ on.
_CHARACTERS = re.compile(r'[!-\[\]^_a-z{|}~]+', re.IGNORECASE)


@dataclasses.dataclass(frozen=True, slots=True)
class Url:
    """A URL in its parts."""

    scheme: str
    host: str
    port: int
    #: Path and query, as it is asked for.
    target: str

    @property
    def authority(self) -> str:
        """What the header ``Host`` says."""
        host = f'[{self.host}]' if ':' in self.host else self.host
        return host if self.port == PORTS[self.scheme] else (
            f'{host}:{self.port}')

    def __str__(self) -> str:
        return f'{self.scheme}://{self.authority}{self.target}'


@dataclasses.dataclass(frozen=True, slots=True)
class UrlRules:
    """Which URLs may be fetched; an empty list allows all."""

    networks: addresses.Networks
    allowed_schemes: frozenset[str] = frozenset()
    denied_schemes: frozenset[str] = frozenset()
    allowed_hosts: frozenset[str] = frozenset()
    denied_hosts: frozenset[str] = frozenset()
    allowed_ports: frozenset[int] = frozenset()
    denied_ports: frozenset[int] = frozenset()

    def check(self, text: str) -> Url:
        """Return a URL in its parts, if it may be fetched.

        Where its host leads to is another question; that is asked when it
        is connected to.

        :raises easystack_image.exceptions.UrlRefused: saying what is wrong;
            it does not repeat the URL, which may hold a password
        """
        url = parse(text)
        for what, value, allowed, denied in (
                ('scheme', url.scheme, self.allowed_schemes,
                 self.denied_schemes),
                ('host', url.host, self.allowed_hosts, self.denied_hosts),
                ('port', url.port, self.allowed_ports, self.denied_ports)):
            if value in denied or (allowed and value not in allowed):
                raise exceptions.UrlRefused(
                    f'Images are not downloaded from {what} {value} here')
        return url


def parse(text: str) -> Url:
    """Take a URL apart.

    :raises easystack_image.exceptions.UrlRefused: if it is malformed, or
        such that two programs may read it differently
    """
    if len(text) > MAX_LENGTH or not _CHARACTERS.fullmatch(text):
        raise exceptions.UrlRefused(
            f'The URL must have at most {MAX_LENGTH} visible ASCII '
            'characters, no blanks and no backslash; encode others with "%"')
    try:
        parts = urllib.parse.urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise exceptions.UrlRefused(f'The URL is malformed: {error}'
                                    ) from error
    if parts.scheme not in PORTS or not host:
        raise exceptions.UrlRefused(
            'The URL must begin with http:// or https:// and the name of a '
            'server')
    if '@' in parts.netloc:
        raise exceptions.UrlRefused(
            'The URL must not hold a user name or password')
    if port == 0:
        raise exceptions.UrlRefused('The URL has port 0')
    target = (parts.path or '/') + (f'?{parts.query}' if parts.query else '')
    return Url(parts.scheme, _host(host),
               PORTS[parts.scheme] if port is None else port, target)


def _host(host: str) -> str:
    """Return a host in the one way to write it."""
    host = host.lower()
    if ':' in host or not _NUMERIC.fullmatch(host):
        if '%' in host:
            raise exceptions.UrlRefused(
                'The host of the URL must not be encoded, nor have a zone')
        if ':' not in host:
            return host
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        raise exceptions.UrlRefused(
            'The host of the URL is an address written in an unusual way; '
            'write it like 192.0.2.1 or [2001:db8::1]') from None
