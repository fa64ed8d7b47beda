"""Tells Home Assistant what to show of a fleet, by its MQTT discovery.

Source of topics and keys: the pages "MQTT", "MQTT Sensor" and "MQTT binary sensor" of Home Assistant's documentation.
Each entity is described by one retained message; all of them read the state of the run, and the one that tells whether
the coordinator is there reads its announcement, since that is its last will. The others are unavailable while a
coordinator is gone in the midst of a run, and keep what a run has ended with.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, get_args

import msgspec

from fedlp_edge import __version__
from fedlp_edge.reporting.formatting import is_share, metric_label
from fedlp_edge.reporting.progress import Phase
from fedlp_edge.wire.topics import Topics

_MOST_CHARACTERS = 250
"""Characters of a state of Home Assistant; longer ones are refused."""

_IS_ANNOUNCEMENT = "value_json is mapping and value_json.type == 'Announcement'"
"""Of a message on the coordinator's topic, which has others as well, of which nothing is to be shown."""

_ENDED = "value_json is mapping and value_json.phase in ('finished', 'stopped')"
"""Of the state: whether it stays true although its coordinator is not there."""

_ATTRIBUTES = ("run", "model", "metric", "measured_by", "values", "out", "started")
"""Keys of the state that are shown beside the phase. Home Assistant stores all attributes of an entity whenever one of
them changes, so those that change with every message are left to entities of their own."""


def discovery_messages(topics: Topics, metric: str, model: str, prefix: str) -> Iterator[tuple[str, bytes]]:
    """Yields topic and payload of each retained message.

    Args:
        topics: Topics of the fleet.
        metric: Name of the metric that the run is judged by.
        model: Name of the model.
        prefix: Where Home Assistant listens.
    """
    node = _node(topics.fleet)
    origin = {"name": "FedLP Edge", "sw_version": __version__}
    device = {
        "identifiers": [node],
        "name": f"FedLP {topics.fleet}",
        "manufacturer": "FedLP Edge",
        "model": model,
        "sw_version": __version__,
    }
    for kind, key, entity in _entities(topics, metric):
        document = {"unique_id": f"{node}_{key}", "device": device, "origin": origin, **entity}
        yield f"{prefix}/{kind}/{node}/{key}/config", msgspec.json.encode(document)


def _node(fleet: str) -> str:
    """Returns the name of a fleet in ids of Home Assistant, which hold no dots; no two fleets have the same."""
    if "." not in fleet:
        return f"fedlp_{fleet}"
    # The name of a fleet never begins with an underscore, so this is none of those above.
    return "fedlp__" + fleet.replace("_", "__").replace(".", "_-")


def _entities(topics: Topics, metric: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yields kind, key and description of each entity."""
    state = {"state_topic": topics.state, **_availability(topics)}
    diagnostic = {"entity_category": "diagnostic"}
    phases = {"device_class": "enum", "options": get_args(Phase), **_shown("value_json.phase")}
    attributes = _attributes(topics, _ATTRIBUTES)
    yield "sensor", "phase", {"name": "Phase", "icon": "mdi:state-machine", **phases, **attributes, **state}
    yield "sensor", "note", {"name": "Activity", "icon": "mdi:text", **_text("note"), **state}
    counted = {"state_class": "measurement", **state}
    yield "sensor", "round", {"name": "Round", "icon": "mdi:counter", **_shown("value_json.committed"), **counted}
    progress = "(100 * value_json.committed / value_json.rounds) | round(1) if value_json.rounds else 0"
    shown = {"unit_of_measurement": "%", "icon": "mdi:progress-check", **_shown(progress)}
    yield "sensor", "progress", {"name": "Progress", **shown, **counted}
    label = metric_label(metric)
    measured = {"name": label[:1].upper() + label[1:], "icon": "mdi:chart-line", **_measured(metric)}
    yield "sensor", _metric_key(metric), {**measured, **counted}
    for key, name in (("there", "Devices"), ("training", "Devices in training"), ("out", "Devices out")):
        value = _shown(f"value_json.devices.{key}")
        yield "sensor", f"devices_{key}", {"name": name, "icon": "mdi:chip", **value, **counted}
    exchanged = _shown("((value_json.bytes_down + value_json.bytes_up) / 1000000) | round(3)")
    size = {"device_class": "data_size", "unit_of_measurement": "MB", "suggested_display_precision": 1}
    data = {"icon": "mdi:swap-vertical", **size, "state_class": "total_increasing", **diagnostic}
    yield "sensor", "bytes", {"name": "Data exchanged", **exchanged, **data, **state}
    trouble = {**_text("trouble", "none"), **diagnostic}
    yield "sensor", "trouble", {"name": "Trouble", "icon": "mdi:alert", **trouble, **state}
    problem = {"device_class": "problem", **_shown("'ON' if value_json.trouble else 'OFF'")}
    yield "binary_sensor", "problem", {"name": "Problem", **problem, **_attributes(topics, ("out",)), **state}
    there = {"device_class": "connectivity", "state_topic": topics.coordinator, **_announced("ON", "OFF")}
    yield "binary_sensor", "coordinator", {"name": "Coordinator", **there, **diagnostic}


def _metric_key(metric: str) -> str:
    """Returns what the entity of a metric is called in ids: each has one, or statistics would mix shares and errors.

    That of the accuracy has kept the name from when all metrics had one entity.
    """
    return "metric" if metric == "accuracy" else f"metric_{re.sub('[^a-zA-Z0-9_-]', '_', metric)}"


def _availability(topics: Topics) -> dict[str, Any]:
    """Returns when entities that read the state are available: while the coordinator is there, and after the end."""
    ended = f"{{{{ 'online' if {_ENDED} else 'offline' }}}}"
    return {
        "availability": [
            {"topic": topics.coordinator, **_announced("online", "offline")},
            {"topic": topics.state, "value_template": ended},
        ],
        "availability_mode": "any",
    }


def _attributes(topics: Topics, keys: tuple[str, ...]) -> dict[str, str]:
    """Returns what is shown of the state beside an entity's own."""
    # A dot would find the method of a dictionary before its key "values".
    chosen = ", ".join(f"'{key}': value_json['{key}']" for key in keys)
    template = f"{{{{ ({{{chosen}}} if value_json is mapping else {{}}) | to_json }}}}"
    return {"json_attributes_topic": topics.state, "json_attributes_template": template}


def _announced(online: str, offline: str) -> dict[str, str]:
    """Returns the template of whether the coordinator is online; an empty message says that nobody knows of any."""
    said = f"'{online}' if value_json.online else '{offline}'"
    nobody = f"{{% elif not value %}}{offline}"
    return {"value_template": f"{{% if {_IS_ANNOUNCEMENT} %}}{{{{ {said} }}}}{nobody}{{% endif %}}"}


def _shown(expression: str) -> dict[str, str]:
    """Returns the template of an expression; without a state, as when it is removed, nothing is known."""
    return {"value_template": f"{{{{ ({expression}) if value_json is mapping else None }}}}"}


def _text(key: str, default: str = "") -> dict[str, str]:
    """Returns the template of a line for people, cut to what a state may hold."""
    return _shown(f"(value_json.{key} or '{default}')[:{_MOST_CHARACTERS}]")


def _measured(metric: str) -> dict[str, str]:
    """Returns the template of a metric, which is unknown before the first round, and if another one is measured."""
    value = "value_json.value"
    percent = f"(100 * {value}) | round(2)" if is_share(metric) else value
    known = f"{value} is not none and value_json.metric == {json.dumps(metric)}"
    unit = {"unit_of_measurement": "%"} if is_share(metric) else {}
    return {**_shown(f"{percent} if {known} else None"), **unit}
