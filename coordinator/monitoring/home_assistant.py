"""Tells Home Assistant what to show of a fleet, by its MQTT discovery.

Source of topics and keys: the pages "MQTT", "MQTT Sensor" and "MQTT binary sensor" of Home Assistant's documentation.
Each entity is described by one retained message; all of them read the state of the run, and the one that tells whether
the coordinator is there reads its announcement, since that is its last will.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from fedlp_edge import __version__
from fedlp_edge.reporting.formatting import is_share, metric_label
from fedlp_edge.wire.topics import Topics

_MOST_CHARACTERS = 250
"""Characters of a state of Home Assistant; longer ones are refused."""

_ONLINE = "{% if value_json.type == 'Announcement' %}{{ 'ON' if value_json.online else 'OFF' }}{% endif %}"
"""Of the announcement; the topic has other messages as well, of which nothing is to be shown."""


def discovery_messages(topics: Topics, metric: str, model: str, prefix: str) -> Iterator[tuple[str, bytes]]:
    """Yields topic and payload of each retained message.

    Args:
        topics: Topics of the fleet.
        metric: Name of the metric that the run is judged by.
        model: Name of the model.
        prefix: Where Home Assistant listens.
    """
    node = f"fedlp_{re.sub('[^a-zA-Z0-9_-]', '_', topics.fleet)}"
    device = {
        "identifiers": [node],
        "name": f"FedLP {topics.fleet}",
        "manufacturer": "FedLP Edge",
        "model": model,
        "sw_version": __version__,
    }
    for kind, key, entity in _entities(topics, metric):
        document = {"unique_id": f"{node}_{key}", "device": device, **entity}
        yield f"{prefix}/{kind}/{node}/{key}/config", msgspec.json.encode(document)


def _entities(topics: Topics, metric: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields kind, key and description of each entity."""
    state = {"state_topic": topics.state}
    attributes = {"json_attributes_topic": topics.state}
    diagnostic = {"entity_category": "diagnostic"}
    yield "sensor", "phase", {"name": "Phase", "icon": "mdi:state-machine", **_value("phase"), **attributes, **state}
    yield "sensor", "note", {"name": "Activity", "icon": "mdi:text", **_text("note"), **state}
    counted = {"state_class": "measurement", **state}
    yield "sensor", "round", {"name": "Round", "icon": "mdi:counter", **_value("committed"), **counted}
    progress = "{{ (100 * value_json.committed / value_json.rounds) | round(1) if value_json.rounds else 0 }}"
    shown = {"unit_of_measurement": "%", "icon": "mdi:progress-check", "value_template": progress}
    yield "sensor", "progress", {"name": "Progress", **shown, **counted}
    label = metric_label(metric)
    measured = {"name": label[:1].upper() + label[1:], "icon": "mdi:chart-line", **_measured(metric)}
    yield "sensor", "metric", {**measured, **counted}
    for key, name in (("there", "Devices"), ("training", "Devices in training"), ("out", "Devices out")):
        yield "sensor", f"devices_{key}", {"name": name, "icon": "mdi:chip", **_value(f"devices.{key}"), **counted}
    exchanged = {"value_template": "{{ value_json.bytes_down + value_json.bytes_up }}", "icon": "mdi:swap-vertical"}
    data = {"device_class": "data_size", "unit_of_measurement": "B", "state_class": "total_increasing", **diagnostic}
    yield "sensor", "bytes", {"name": "Data exchanged", **exchanged, **data, **state}
    yield (
        "sensor",
        "trouble",
        {"name": "Trouble", "icon": "mdi:alert", **_text("trouble", "none"), **diagnostic, **state},
    )
    problem = {"value_template": "{{ 'ON' if value_json.trouble else 'OFF' }}", "device_class": "problem"}
    yield "binary_sensor", "problem", {"name": "Problem", **problem, **attributes, **state}
    there = {"device_class": "connectivity", "value_template": _ONLINE, "state_topic": topics.coordinator}
    yield "binary_sensor", "coordinator", {"name": "Coordinator", **there, **diagnostic}


def _value(path: str) -> dict[str, str]:
    return {"value_template": f"{{{{ value_json.{path} }}}}"}


def _text(key: str, default: str = "") -> dict[str, str]:
    """Returns the template of a line for people, cut to what a state may hold."""
    found = f"(value_json.{key} or '{default}')"
    return {"value_template": f"{{{{ {found}[:{_MOST_CHARACTERS}] }}}}"}


def _measured(metric: str) -> dict[str, str]:
    """Returns the template of the metric, whose state is unknown before the first round."""
    if not is_share(metric):
        return _value("value")
    percent = "(100 * value_json.value) | round(2)"
    return {
        "value_template": f"{{{{ {percent} if value_json.value is not none else None }}}}",
        "unit_of_measurement": "%",
    }
