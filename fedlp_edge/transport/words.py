"""What went wrong on the way to a broker, in words that say what to do."""

from __future__ import annotations

import socket
import ssl

from fedlp_edge.errors import BrokerError
from fedlp_edge.transport.url import BrokerAddress

BAD_LOGIN = 0x86
NOT_AUTHORIZED = 0x87
UNSUPPORTED_VERSION = 0x84
TAKEN_OVER = 0x8E
PACKET_TOO_LARGE = 0x95


def unreachable(address: BrokerAddress, error: OSError | UnicodeError) -> BrokerError:
    """For an error of the socket or of TLS."""
    where = address.url
    match error:
        case socket.gaierror() | UnicodeError():
            text = f"the broker's host name {address.host!r} is unknown; check the URL {where}"
        case ssl.SSLCertVerificationError():
            text = (
                f"the certificate of the broker at {where} is not trusted ({error.verify_message}); "
                "give the right CA file (FEDLP_BROKER_CA or ca)"
            )
        case ConnectionRefusedError():
            text = f"nothing listens at {where}; is the broker running, and is the port right?"
        case TimeoutError():
            text = f"{where} does not answer; check the host, the port and any firewall between"
        case ssl.SSLError() | ConnectionError() if address.tls:
            text = f"TLS with the broker at {where} failed ({error}); if this port is not encrypted, use mqtt://"
        case _:
            text = f"cannot connect to the broker at {where}: {error}"
    return BrokerError(text)


def closed_early(address: BrokerAddress) -> BrokerError:
    """For a connection that ends before the broker has answered."""
    if address.tls:
        return BrokerError(
            f"the broker at {address.url} ended the connection before answering; it may want a client certificate "
            "(FEDLP_BROKER_CERT and FEDLP_BROKER_KEY)"
        )
    return BrokerError(
        f"the broker at {address.url} ended the connection before answering; is this port MQTT, and without TLS? "
        "For TLS use mqtts://"
    )


def silent(address: BrokerAddress, seconds: float) -> BrokerError:
    """For a connection on which no answer comes."""
    return BrokerError(
        f"{address.url} accepts connections but does not answer within {seconds:.0f} s; is this port MQTT"
        f"{'' if address.tls else ', and without TLS'}?"
    )


def login_refused(address: BrokerAddress, code: int, name: str) -> BrokerError:
    """For a CONNACK that says no; ``code`` is MQTT 5's."""
    if code in {BAD_LOGIN, NOT_AUTHORIZED}:
        if address.username is None:
            return BrokerError(
                f"the broker at {address.url} wants a login; set FEDLP_BROKER_USERNAME and FEDLP_BROKER_PASSWORD"
            )
        return BrokerError(
            f"the broker at {address.url} refuses the login of user {address.username!r}; check the user name, "
            "the password and the broker's access rules"
        )
    if code == UNSUPPORTED_VERSION:
        return BrokerError(
            f"the broker at {address.url} does not speak MQTT {address.protocol}; leave protocol at auto"
        )
    return BrokerError(f"the broker at {address.url} refuses the connection: {name}")


def too_long(address: BrokerAddress, topic: str, size: int, packet: int) -> str:
    """For connections that end again and again behind a long message; from now on packets have so many bytes."""
    return (
        f"the broker at {address.url} ends the connection behind a message of {size} bytes on {topic}; from here on "
        f"none is longer than {packet}. A limit that it does not announce belongs into [broker] as max_packet_bytes "
        "(fedlp doctor broker finds it)"
    )
