"""This module lists the limits that each kind of broker has but does not announce.

An MQTT 5 broker announces its largest packet and how many unacknowledged publishes it accepts. No broker announces
how many messages it queues for a slow subscriber before it drops them. A preset has these limits: the default settings
of brokers that people run, and the quotas of hosted ones. An announced limit and a configured limit both replace the
preset's.

Sources: mosquitto.conf(5) of 2.0; the MQTT configuration pages of EMQX 5 and HiveMQ 4; "AWS IoT Core endpoints and
quotas"; "Azure Event Grid quotas and limits". docs/brokers.md says what each figure means for a fleet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PresetName = Literal["generic", "mosquitto", "emqx", "hivemq", "aws-iot", "azure-event-grid"]

UNLIMITED = 0
"""Configured queue length of a broker that never drops a message."""


@dataclass(frozen=True, slots=True)
class BrokerPreset:
    """Limits of one kind of broker; None means that no limit is known.

    Attributes:
        name: Name in the configuration.
        title: Name in messages to people.
        max_packet_bytes: Largest packet in bytes, unless the broker announces another.
        max_payload_bytes: Largest payload in bytes, where the broker limits it apart from the packet.
        max_retained_bytes: Largest retained payload in bytes.
        max_queued_messages: Messages held for one subscriber beyond the unacknowledged ones.
        receive_maximum: Publishes that may be unacknowledged at once, unless the broker announces another number.
        max_qos: Highest quality of service.
        publishes_per_second: Publishes per second of one connection.
        bytes_per_second: Bytes per second of one connection.
        topic_bytes: Bytes of the longest topic.
        topic_slashes: Largest number of slashes in a topic.
        subscriptions: Largest number of subscriptions of one connection.
        packet_setting: Setting that raises the largest packet, as text that follows "set".
        queue_setting: Setting that lengthens the queue, as text that follows "set".
    """

    name: PresetName
    title: str
    max_packet_bytes: int | None = None
    max_payload_bytes: int | None = None
    max_retained_bytes: int | None = None
    max_queued_messages: int | None = 1000
    receive_maximum: int | None = None
    max_qos: int = 2
    publishes_per_second: float | None = None
    bytes_per_second: float | None = None
    topic_bytes: int = 65535
    topic_slashes: int | None = None
    subscriptions: int | None = None
    packet_setting: str = "the broker's largest packet"
    queue_setting: str = "the broker's queue for one subscriber"


_ALL = (
    # The smallest default queue among the brokers that people run themselves.
    BrokerPreset("generic", "an unknown broker"),
    BrokerPreset(
        "mosquitto",
        "Mosquitto",
        receive_maximum=20,
        packet_setting="max_packet_size in mosquitto.conf",
        queue_setting="max_queued_messages in mosquitto.conf",
    ),
    BrokerPreset(
        "emqx",
        "EMQX",
        max_packet_bytes=1 << 20,
        receive_maximum=32,
        packet_setting="mqtt.max_packet_size in EMQX's configuration",
        queue_setting="mqtt.max_mqueue_len in EMQX's configuration",
    ),
    BrokerPreset(
        "hivemq",
        "HiveMQ",
        max_packet_bytes=268435460,
        receive_maximum=10,
        packet_setting="<packets><max-packet-size> in HiveMQ's config.xml",
        queue_setting="<queued-messages><max-queue-size> in HiveMQ's config.xml",
    ),
    BrokerPreset(
        "aws-iot",
        "AWS IoT Core",
        max_packet_bytes=128 * 1024,
        max_payload_bytes=128 * 1024,
        # AWS documents no queue for connected clients, only that at most 100 messages wait for an acknowledgement.
        max_queued_messages=100,
        receive_maximum=100,
        max_qos=1,
        publishes_per_second=100.0,
        bytes_per_second=512 * 1024.0,
        topic_bytes=256,
        topic_slashes=7,
        subscriptions=50,
        packet_setting="nothing: AWS does not raise the largest message",
        queue_setting="nothing: AWS does not raise it",
    ),
    BrokerPreset(
        "azure-event-grid",
        "Azure Event Grid",
        max_packet_bytes=512 * 1024,
        max_retained_bytes=64 * 1024,
        max_queued_messages=100,  # no queue is documented; this is a cautious value
        receive_maximum=100,
        max_qos=1,
        publishes_per_second=1000.0,
        bytes_per_second=1024 * 1024.0,
        topic_bytes=256,
        topic_slashes=7,
        subscriptions=50,
        packet_setting="nothing: Azure does not raise the largest message",
        queue_setting="nothing: Azure does not raise it",
    ),
)

PRESETS: dict[PresetName, BrokerPreset] = {preset.name: preset for preset in _ALL}


def recognise(host: str, version: str = "") -> BrokerPreset:
    """Returns the preset that fits a broker's host name, or what it publishes below ``$SYS``; else the generic preset.

    Args:
        host: Host name of the broker.
        version: Payload of ``$SYS/broker/version``, or a topic that only this kind of broker has below ``$SYS``.
    """
    name, said = host.lower(), version.lower()
    if name.endswith((".amazonaws.com", ".amazonaws.com.cn")):
        return PRESETS["aws-iot"]
    if name.endswith(".eventgrid.azure.net"):
        return PRESETS["azure-event-grid"]
    if name.endswith(".hivemq.cloud") or "hivemq" in said:
        return PRESETS["hivemq"]
    if name.endswith((".emqxsl.com", ".emqxsl.cn", ".emqx.cloud")) or "emqx" in said:
        return PRESETS["emqx"]
    return PRESETS["mosquitto" if "mosquitto" in said else "generic"]
