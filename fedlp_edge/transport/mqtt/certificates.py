"""This module explains why TLS with a broker fails, by connecting again with one check less each time."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
import time
from collections.abc import Iterator
from typing import Any

from fedlp_edge.transport.address import BrokerAddress

ASK_SECONDS = 3.0

_SHOWN_CHARACTERS = 80

_NOT_YET_VALID, _EXPIRED = 9, 10
_WRONG_NAME = frozenset({62, 64})
_SELF_SIGNED = 18
_UNKNOWN = frozenset({2, _SELF_SIGNED, 19, 20, 21, 24})
_NO_CHECK_TIME = 0x200000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL, for which the ssl module has no name


def explain(address: BrokerAddress, error: ssl.SSLCertVerificationError) -> str:
    """Returns one line that says what is wrong with a broker's certificate and what to do."""
    where = f"the certificate of the broker at {address.url}"
    code = error.verify_code
    if code in _WRONG_NAME:
        return _wrong_name(address, where)
    if code in {_NOT_YET_VALID, _EXPIRED}:
        return _wrong_time(address, where, expired=code == _EXPIRED)
    if _certificate(address) is not None:  # only the strict flags of Python 3.13 refused the certificate
        return (
            f"{where}, or that of its authority, lacks what Python asks for from 3.13 on ({error.verify_message}): "
            "make both anew with basicConstraints, keyUsage and key identifiers, as docs/security.md shows"
        )
    if code not in _UNKNOWN:
        return f"{where} is refused: {error.verify_message}; make one that is for servers, as docs/security.md shows"
    if code == _SELF_SIGNED:
        remedy = "give this very certificate as ca (FEDLP_BROKER_CA), if it is the broker's"
    elif address.ca is not None:
        remedy = f"{address.ca} is not the file of the authority that signed it"
    else:
        remedy = "for an authority of your own, give its PEM file as ca (FEDLP_BROKER_CA)"
    signer = _signer(address)
    if code != _SELF_SIGNED:
        remedy += (
            ". If that authority is itself signed by one that is known, the broker has to send its certificate as "
            "well: its certfile then holds both, as the fullchain.pem of Let's Encrypt does"
        )
    name = f", {signer!r}" if signer else ""
    return f"{where} is signed by an authority that is not known here{name} ({error.verify_message}): {remedy}"


def is_early(error: ssl.SSLCertVerificationError) -> bool:
    """Returns whether a certificate is not valid yet, as on a board that has not been told the time since its start."""
    return error.verify_code == _NOT_YET_VALID


def speaks_tls(address: BrokerAddress) -> bool:
    """Returns whether a port that was tried without TLS answers a TLS handshake."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # safe: no data follows the handshake
    with contextlib.suppress(OSError, UnicodeError), _handshake(address, context):
        return True
    return False


def _wrong_name(address: BrokerAddress, where: str) -> str:
    certificate = _certificate(address) or {}
    names = ", ".join(name for kind, name in certificate.get("subjectAltName", ()) if kind in {"DNS", "IP Address"})
    has = f"it is made for {names}" if names else "it has no subjectAltName at all"
    instead = "use one of those in the URL, or make one" if names else "make one"
    return f"{where} is not made for {address.certified_name}: {has}; {instead} with that name (docs/security.md)"


def _wrong_time(address: BrokerAddress, where: str, *, expired: bool) -> str:
    certificate = _certificate(address) or {}
    first, last = (_seconds(certificate, key) for key in ("notBefore", "notAfter"))
    now = time.time()
    clock = f"this machine's clock says {_utc(now)}"
    if first is None or last is None or first <= now <= last:
        what = "has expired" if expired else "is not valid yet"
        return (
            f"{where} is signed by an authority whose certificate {what}; {clock}: set it right, or renew the authority"
        )
    if expired:
        return f"{where} expired at {_utc(last)}, and {clock}: renew it, or set the clock right"
    return f"{where} is valid from {_utc(first)} on, and {clock}: set the clock right"


def _certificate(address: BrokerAddress) -> dict[str, Any] | None:
    """Returns the broker's certificate if its authority is known; host name, dates and strict flags are not checked."""
    context = address.ssl_context()
    if context is None:
        return None
    context.check_hostname = False
    context.verify_flags = ssl.VerifyFlags((context.verify_flags & ~ssl.VERIFY_X509_STRICT) | _NO_CHECK_TIME)
    with contextlib.suppress(OSError, UnicodeError), _handshake(address, context) as wire:
        return wire.getpeercert()
    return None


def _signer(address: BrokerAddress) -> str:
    """Returns the name of the authority that has signed a broker's certificate; empty if it cannot be found out."""
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE  # safe: no data follows the handshake
    # Python tells what stands in a certificate only if it has verified it, so this one is made to vouch for itself.
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    own.check_hostname = False
    own.verify_flags = ssl.VerifyFlags(ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME)
    with contextlib.suppress(OSError, UnicodeError):
        with _handshake(address, trusting) as wire:
            own.load_verify_locations(cadata=wire.getpeercert(binary_form=True))
        with _handshake(address, own) as wire:
            issuer: Any = (wire.getpeercert() or {}).get("issuer", ())
        names = {key: value for part in issuer for key, value in part}
        return str(names.get("commonName") or names.get("organizationName") or "")[:_SHOWN_CHARACTERS]
    return ""


@contextlib.contextmanager
def _handshake(address: BrokerAddress, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    """Yields a TLS connection with the broker.

    Raises:
        OSError: The connection or the handshake failed.
    """
    with (
        socket.create_connection((address.host, address.port), ASK_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=address.certified_name) as wire,
    ):
        yield wire


def _seconds(certificate: dict[str, Any], key: str) -> float | None:
    text = certificate.get(key)
    return None if text is None else float(ssl.cert_time_to_seconds(text))


def _utc(seconds: float) -> str:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
