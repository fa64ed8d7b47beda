"""What is known of brokers that say nothing about their limits.

A broker of MQTT 5 announces the largest packet and how many publishes it takes unacknowledged, and no broker
announces how many messages it queues for a slow subscriber before it drops them. A preset fills in the rest:
the settings as shipped of the brokers that people run, and the quotas of hosted ones. What the broker announces wins
over its preset; what the configuration names explicitly wins over the preset too.

Sources: mosquitto.conf(5) of 2.0; the MQTT configuration pages of EMQX 5 and HiveMQ 4; "AWS IoT Core endpoints and
quotas"; "Azure Event Grid quotas and limits". docs/brokers.md says what each figure means for a fleet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PresetName = Literal["generic", "mosquitto", "emqx", "hivemq", "aws-iot", "azure-event-grid"]

UNLIMITED = 0
"""As a configured number of queued messages: the broker never drops any."""


@dataclass(frozen=True, slots=True)
class BrokerPreset:
    """Limits of one kind of broker; None means that none is known.

    Attributes:
        name: for the configuration.
        title: for people.
        max_packet_bytes: largest packet, unless the broker announces another.
        max_payload_bytes: largest payload where that is limited by itself, whatever the packet may be.
        max_retained_bytes: largest retained payload.
        max_queued_messages: messages held for one subscriber beyond those on their way to it.
        receive_maximum: publishes that may be unacknowledged at once, unless the broker announces it.
        max_qos: highest quality of service.
        publishes_per_second: of one connection.
        bytes_per_second: of one connection.
        topic_bytes: longest topic.
        topic_slashes: most slashes in a topic.
        subscriptions: of one connection.
        packet_setting: what raises the largest packet, to follow "set".
        queue_setting: what raises the queue, likewise.
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
    # The smallest queue as shipped among the brokers that people run themselves.
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
        # No queue is documented for connected clients, but that at most 100 messages wait for an acknowledgement.
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
        max_queued_messages=100,  # none is documented: a careful figure
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
    """The preset of a broker by its address, or by what it publishes below ``$SYS``; generic if neither tells.

    Args:
        host: name of the machine.
        version: payload of ``$SYS/broker/version``, or a topic of the broker's own below ``$SYS``.
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
