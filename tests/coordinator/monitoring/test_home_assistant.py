"""What Home Assistant is told; what it makes of it was looked at in Home Assistant itself."""

from __future__ import annotations

import json

from coordinator.monitoring.home_assistant import discovery_messages
from fedlp_edge.wire.topics import Topics


def told(metric: str = "accuracy", fleet: str = "plant.7") -> dict[str, dict[str, object]]:
    messages = discovery_messages(Topics(fleet), metric, "mlp", "homeassistant")
    return {topic: json.loads(payload) for topic, payload in messages}


def test_each_entity_has_a_topic_an_id_and_the_device_of_the_fleet() -> None:
    found = told()
    assert "homeassistant/sensor/fedlp_plant_7/phase/config" in found
    assert len({entity["unique_id"] for entity in found.values()}) == len(found) == 12
    assert {json.dumps(entity["device"]) for entity in found.values()} == {
        json.dumps(found["homeassistant/sensor/fedlp_plant_7/phase/config"]["device"])
    }
    topics = {str(entity["state_topic"]) for entity in found.values()}
    assert topics == {"fedlp/plant~7/state", "fedlp/plant~7/coordinator"}


def test_share_is_shown_in_per_cent_and_another_metric_as_it_is() -> None:
    share = told()["homeassistant/sensor/fedlp_plant_7/metric/config"]
    assert (share["name"], share["unit_of_measurement"]) == ("Accuracy", "%")
    error = told("rmse")["homeassistant/sensor/fedlp_plant_7/metric/config"]
    assert (error["name"], error["value_template"]) == ("RMSE", "{{ value_json.value }}")
    assert "unit_of_measurement" not in error
