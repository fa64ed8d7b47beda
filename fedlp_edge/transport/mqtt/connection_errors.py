"""This module writes the messages for failed connections to a broker, each with what to do."""

from __future__ import annotations

import errno
import socket
import ssl

from fedlp_edge.errors import BrokerAwayError, BrokerError
from fedlp_edge.transport.address import BrokerAddress
from fedlp_edge.transport.mqtt.certificates import explain, is_early, speaks_tls
from fedlp_edge.transport.mqtt.websocket import WebSocketRefusedError

BAD_CLIENT_ID = 0x85
BAD_LOGIN = 0x86
NOT_AUTHORIZED = 0x87
UNSUPPORTED_VERSION = 0x84
TAKEN_OVER = 0x8E
NO_RETAINED = 0x9A
NO_QOS = 0x9B
PACKET_TOO_LARGE = 0x95

_PASSING_CODES = frozenset({0x88, 0x89})  # unavailable, busy
_PASSING_ERRORS = (socket.gaierror, ConnectionRefusedError, TimeoutError)
"""Errors of a broker, a name server or a network that is not up yet. A name counts among them: machines that are off
have none in many local networks, and containers that do not run have none either."""

_NO_WAY = frozenset({errno.ENETDOWN, errno.ENETUNREACH, errno.EHOSTDOWN, errno.EHOSTUNREACH})


def unreachable(address: BrokerAddress, error: OSError | UnicodeError) -> BrokerError:
    """Makes the error for a failed socket or TLS handshake."""
    where = address.url
    match error:
        case WebSocketRefusedError() if _behind_a_proxy(error):
            text = f"{where} answers {str(error)!r}: the proxy there does not reach the broker"
        case WebSocketRefusedError():
            text = (
                f"{where} answers {str(error)!r} where a WebSocket for MQTT was asked for; check port and path "
                f"(many brokers have /mqtt), {without_websockets(address)} if this port has no WebSockets"
            )
        case socket.gaierror(errno=socket.EAI_AGAIN):
            text = f"no name server answers for the broker's host {address.host!r}; is this machine's network up?"
            text += _mdns(address)
        case socket.gaierror() | UnicodeError():
            text = f"the broker's host name {address.host!r} is unknown; check the URL {where}{_mdns(address)}"
        case ssl.SSLCertVerificationError():
            text = explain(address, error)
        case ConnectionRefusedError():
            text = f"nothing listens at {where}; is the broker running, and is the port right?"
        case TimeoutError():
            text = f"{where} does not answer; check the host, the port and any firewall between"
        case ssl.SSLError(reason="WRONG_VERSION_NUMBER") | ssl.SSLEOFError() | ConnectionError() if address.tls:
            text = f"the port of {where} does not speak TLS; {without_tls(address)}, or the port that does"
        case ssl.SSLError() if address.tls:
            text = f"TLS with the broker at {where} failed ({error}); see the broker's log for the reason"
        case OSError(errno=errno.EINVAL) if address.host.lower().startswith("fe80:") and "%" not in address.host:
            text = f"an address such as {address.host} needs the interface that leads there: [{address.host}%eth0]"
        case _:
            text = f"cannot connect to the broker at {where}: {error}"
    return BrokerAwayError(text) if _is_passing(error) else BrokerError(text)


def _is_passing(error: OSError | UnicodeError) -> bool:
    """Returns whether a connection may well succeed later, with nothing changed on this machine but its clock."""
    if isinstance(error, WebSocketRefusedError):
        return _behind_a_proxy(error)
    if isinstance(error, ssl.SSLCertVerificationError):
        return is_early(error)
    return isinstance(error, _PASSING_ERRORS) or (isinstance(error, OSError) and error.errno in _NO_WAY)


def _behind_a_proxy(error: WebSocketRefusedError) -> bool:
    """Returns whether a web server answered that it does not reach the broker behind it."""
    return str(error).split(maxsplit=2)[1:2] in (["502"], ["503"], ["504"])


def _mdns(address: BrokerAddress) -> str:
    """Returns what to do about a name of the local network, which no name server knows; empty for other names."""
    if not address.host.lower().rstrip(".").endswith(".local"):
        return ""
    return (
        " (names in .local need Avahi and libnss-mdns on this machine, and containers lack them: an IP address works)"
    )


def closed_early(address: BrokerAddress) -> BrokerError:
    """Makes the error for a connection that ends before the broker has answered."""
    if address.certificate is not None:
        return BrokerError(
            f"the broker at {address.url} ended the connection before answering, as one does that refuses the client "
            f"certificate {address.certificate}: is it of an authority that the broker knows, and not expired? The "
            "broker's log says why"
        )
    if address.tls:
        return BrokerError(
            f"the broker at {address.url} ended the connection before answering; it may want a client certificate "
            "(FEDLP_BROKER_CERT and FEDLP_BROKER_KEY)"
        )
    if speaks_tls(address):
        scheme = "mqtts" if address.path is None else "wss"
        return BrokerError(f"the port of {address.url} speaks TLS; use {scheme}:// (and give its authority as ca)")
    return BrokerError(
        f"the broker at {address.url} ended the connection before answering; is this port MQTT, and does the broker "
        "have room for another client (max_connections)?"
    )


def without_tls(address: BrokerAddress) -> str:
    """Returns advice to use the URL scheme without TLS."""
    return f"use {'mqtt' if address.path is None else 'ws'}://"


def without_websockets(address: BrokerAddress) -> str:
    """Returns advice to use the URL scheme without WebSockets."""
    return f"or use {'mqtts' if address.tls else 'mqtt'}://"


def silent(address: BrokerAddress, seconds: float) -> BrokerError:
    """Makes the error for a connection on which the broker sends no answer within ``seconds``."""
    return BrokerError(
        f"{address.url} accepts connections but does not answer within {seconds:.0f} s; is this port MQTT"
        f"{'' if address.tls else ', and without TLS'}?"
    )


def stalled(address: BrokerAddress, segment_bytes: int | None) -> str:
    """Makes the warning for connections that stall behind their first long message, though the network is there."""
    return (
        f"connections to {address.url} stand and then fall silent, as where a VPN, a tunnel or a modem on the way "
        "drops long packets without a word (MTU): from now on TCP segments have at most "
        f"{segment_bytes} bytes. A lower MTU of this machine's interface spares the search"
    )


def login_refused(address: BrokerAddress, code: int, name: str) -> BrokerError:
    """Makes the error for a CONNACK that refuses the connection; ``code`` is an MQTT 5 reason code."""
    where = f"the broker at {address.url}"
    if code in {BAD_LOGIN, NOT_AUTHORIZED} and address.username is None:
        text = f"{where} wants a login; set FEDLP_BROKER_USERNAME and FEDLP_BROKER_PASSWORD{_ids(code)}"
    elif code in {BAD_LOGIN, NOT_AUTHORIZED}:
        text = (
            f"{where} refuses the login of user {address.username!r}; check the user name, the password and the "
            f"broker's access rules{_odd_password(address.password)}{_ids(code)}"
        )
    elif code == UNSUPPORTED_VERSION and address.protocol == "auto":
        text = f"{where} speaks neither MQTT 5 nor 3.1.1"
    elif code == UNSUPPORTED_VERSION:
        text = f"{where} does not speak MQTT {address.protocol}; leave protocol at auto"
    elif code == BAD_CLIENT_ID:
        text = (
            f"{where} refuses the client id; its log says why, or its rules for the ids of clients. Mosquitto says the "
            f"same of a keep-alive that is too long for it (max_keepalive): then set keepalive_seconds in [broker], "
            f"which is {address.keepalive_seconds}, or leave protocol at auto"
        )
    elif code in {NO_RETAINED, NO_QOS}:
        return lacks(address, retained=code == NO_RETAINED)
    else:
        text = f"{where} refuses the connection: {name}"
    return BrokerAwayError(text) if code in _PASSING_CODES else BrokerError(text)


def lacks(address: BrokerAddress, *, retained: bool) -> BrokerError:
    """Makes the error for a broker without retained messages, or without QoS 1."""
    what = (
        "keeps no retained messages (Mosquitto's retain_available)"
        if retained
        else "allows no QoS 1 (Mosquitto's max_qos)"
    )
    return BrokerError(f"the broker at {address.url} {what}, which fleets need")


def _ids(code: int) -> str:
    """Returns what else a refusal may mean: Mosquitto and AWS call a client whose id is not admitted not authorised."""
    if code != NOT_AUTHORIZED:
        return ""
    return (
        "; where it admits certain client ids alone (clientid_prefixes, a policy), let in those that begin with fedlp-"
    )


def _odd_password(password: str | None) -> str:
    """Returns what is odd about a refused password, without showing it; empty if nothing is."""
    if password is None:
        return " (there is no password: set FEDLP_BROKER_PASSWORD or FEDLP_BROKER_PASSWORD_FILE)"
    if len(password) > 1 and password[0] == password[-1] and password[0] in "'\"":
        return " (the password begins and ends with a quote, as files for --env-file keep them: leave them out)"
    if password != password.strip():
        return " (the password begins or ends with a blank)"
    return ""


def short_lived(address: BrokerAddress, times: int, unanswered: str) -> str:
    """Makes the message for connections that the broker accepts and ends again within seconds.

    Args:
        address: Address of the broker.
        times: Number of such connections in a row.
        unanswered: What the broker left unanswered, in words; empty for nothing.
    """
    last = f" It left {unanswered} unanswered." if unanswered else ""
    return (
        f"the last {times} connections to {address.url} ended within seconds, without a word of the broker; its log "
        f"says why, and fedlp doctor broker may.{last} One cause is access rules that forbid a topic, for which "
        "RabbitMQ, AWS and others end the connection. Another is a broker that takes the user name for the client's id "
        "(Mosquitto's use_username_as_clientid): then each device and the coordinator need a login of their own. A "
        "third is one that takes no message of a few kB (message_size_limit), which fleets need"
    )


def too_long(address: BrokerAddress, topic: str, size: int, packet: int) -> str:
    """Returns the message for connections that end repeatedly after a long publish; ``packet`` is the new limit."""
    return (
        f"the broker at {address.url} ends the connection behind a message of {size} bytes on {topic}; from here on "
        f"none is longer than {packet}. A limit that it does not announce belongs into [broker] as max_packet_bytes "
        "(fedlp doctor broker finds it)"
    )


def barred(address: BrokerAddress, topic: str) -> str:
    """Returns the message for connections that end behind messages of any length on a topic."""
    return (
        f"the broker at {address.url} ends the connection behind messages on {topic}, however short they are: its "
        "access rules may forbid this topic, for which RabbitMQ, AWS and others end the connection; its log and "
        "fedlp doctor broker tell"
    )


def lower_qos(address: BrokerAddress, topic: str, granted: int) -> str:
    """Returns the message for a subscription that was requested at QoS 1 and granted at a lower one."""
    return (
        f"the broker at {address.url} grants QoS {granted} for {topic}, where QoS 1 was requested: it does not "
        "repeat what gets lost on the way to this client. It is asked for again, which takes longer. Allow QoS 1 at "
        "the broker (max_qos of a Mosquitto listener, the highest QoS of others); one that ends the connection behind "
        "the first message of QoS 1 carries no fleet until then"
    )


def known_limit(address: BrokerAddress, packet: int) -> str:
    """Returns the message for a packet limit that an earlier process on this machine found."""
    return (
        f"messages to {address.url} have {packet} bytes at most, since an earlier run lost its connection behind "
        "longer ones; this is kept for a month, or until fedlp doctor broker measures anew"
    )
