"""What Home Assistant is told; what it makes of it was looked at in Home Assistant itself."""

from __future__ import annotations

import json
import re
from typing import Any

from jinja2 import Environment

from coordinator.monitoring.home_assistant import discovery_messages
from fedlp_edge.wire.topics import Topics

PHASE = "homeassistant/sensor/fedlp__plant_-7/phase/config"
ACCURACY = "homeassistant/sensor/fedlp__plant_-7/metric/config"
RMSE = "homeassistant/sensor/fedlp__plant_-7/metric_rmse/config"
STATE = """{"run": "plant.7-1", "fleet": "plant.7", "model": "mlp", "phase": "round", "round": 7, "rounds": 30,
 "committed": 6, "metric": "accuracy", "value": 0.914, "values": {"1": 0.802, "2": 0.914}, "measured_by": "central",
 "devices": {"there": 4, "training": 3, "away": 1, "out": 1}, "out": {"pi-1": "unfit: <no> memory"},
 "note": "round 7, at most 10:00", "trouble": "", "bytes_down": 7300000, "bytes_up": 5000000,
 "started": "2026-03-01T08:00:00+00:00", "updated": "2026-03-01T08:14:09+00:00"}"""


def told(metric: str = "accuracy", fleet: str = "plant.7") -> dict[str, dict[str, Any]]:
    messages = discovery_messages(Topics(fleet), metric, "mlp", "homeassistant")
    return {topic: json.loads(payload) for topic, payload in messages}


def shown(entity: dict[str, Any], payload: str, template: str = "value_template") -> str:
    """Renders a template as Home Assistant does: it hands over the payload, and what it is as JSON if it is any."""
    environment = Environment(autoescape=False)
    environment.filters["to_json"] = json.dumps
    variables: dict[str, Any] = {"value": payload}
    if payload:
        variables["value_json"] = json.loads(payload)
    return environment.from_string(entity[template]).render(variables)


def test_each_entity_has_a_topic_an_id_and_the_device_of_the_fleet() -> None:
    found = told()
    assert "homeassistant/sensor/fedlp__plant_-7/phase/config" in found
    assert len({entity["unique_id"] for entity in found.values()}) == len(found) == 12
    assert {json.dumps(entity["device"]) for entity in found.values()} == {
        json.dumps(found["homeassistant/sensor/fedlp__plant_-7/phase/config"]["device"])
    }
    topics = {str(entity["state_topic"]) for entity in found.values()}
    assert topics == {"fedlp/plant~7/state", "fedlp/plant~7/coordinator"}


def test_fleets_whose_names_differ_in_dots_alone_share_no_entities() -> None:
    fleets = ("a.1", "a_1", "a-1", "a_-1", "a__1", "a_.1", "a..1", "a.-1")
    ids = [str(entity["unique_id"]) for fleet in fleets for entity in told(fleet=fleet).values()]
    assert len(set(ids)) == len(ids) == 12 * len(fleets)
    topics = {topic for fleet in fleets for topic in told(fleet=fleet)}
    assert len(topics) == len(ids)
    assert all(re.fullmatch(r"homeassistant/[a-z_]+/[a-zA-Z0-9_-]+/[a-z_]+/config", topic) for topic in topics)
    assert "homeassistant/sensor/fedlp_a_1/phase/config" in topics


def test_share_is_shown_in_per_cent_and_another_metric_as_it_is() -> None:
    share = told()[ACCURACY]
    assert (share["name"], share["unit_of_measurement"]) == ("Accuracy", "%")
    error = told("rmse")[RMSE]
    assert (error["name"], shown(error, STATE.replace('"accuracy"', '"rmse"'))) == ("RMSE", "0.914")
    assert "unit_of_measurement" not in error


def test_value_of_another_metric_is_not_taken_for_its_own() -> None:
    assert shown(told("rmse")[RMSE], STATE) == "None"
    assert shown(told()[ACCURACY], STATE.replace('"accuracy"', '"rmse"')) == "None"
    (owned,) = [topic for topic in told('good "parts"') if "metric" in topic]
    assert owned == "homeassistant/sensor/fedlp__plant_-7/metric_good__parts_/config"
    named = json.dumps({**json.loads(STATE), "metric": 'good "parts"'})
    assert shown(told('good "parts"')[owned], named) == "0.914"


def test_states_are_what_the_run_is_in() -> None:
    states = {topic.split("/")[3]: shown(entity, STATE) for topic, entity in told().items()}
    assert states == {
        "phase": "round",
        "note": "round 7, at most 10:00",
        "round": "6",
        "progress": "20.0",
        "metric": "91.4",
        "devices_there": "4",
        "devices_training": "3",
        "devices_out": "1",
        "bytes": "12.3",
        "trouble": "none",
        "problem": "OFF",
        "coordinator": "",  # is no announcement
    }


def test_state_that_is_removed_or_no_object_leaves_nothing_known() -> None:
    for payload in ("", "5"):
        entities = {topic: entity for topic, entity in told().items() if "/coordinator/" not in topic}
        assert {shown(entity, payload) for entity in entities.values()} == {"None"}


def test_value_before_the_first_round_is_unknown_and_a_long_line_is_cut() -> None:
    early = json.dumps({**json.loads(STATE), "value": None, "trouble": "ü" * 300})
    assert shown(told()[ACCURACY], early) == "None"
    assert shown(told()["homeassistant/sensor/fedlp__plant_-7/trouble/config"], early) == "ü" * 250
    assert shown(told()["homeassistant/binary_sensor/fedlp__plant_-7/problem/config"], early) == "ON"


def test_coordinator_is_told_by_its_announcement_and_not_by_its_claims() -> None:
    coordinator = told()["homeassistant/binary_sensor/fedlp__plant_-7/coordinator/config"]
    assert "availability" not in coordinator
    assert shown(coordinator, '{"type":"Announcement","online":true}') == "ON"
    assert shown(coordinator, '{"type":"Announcement","online":false}') == "OFF"
    assert shown(coordinator, '{"type":"Claim","session":"s"}') == ""
    assert shown(coordinator, "") == "OFF"  # somebody has cleaned up


def test_what_a_run_has_ended_with_stays_and_other_states_need_their_coordinator() -> None:
    phase = told()[PHASE]
    assert phase["availability_mode"] == "any"
    coordinator, state = phase["availability"]
    assert (coordinator["topic"], state["topic"]) == ("fedlp/plant~7/coordinator", "fedlp/plant~7/state")
    assert shown(coordinator, '{"type":"Announcement","online":true}') == "online"
    assert shown(coordinator, '{"type":"Announcement","online":false}') == "offline"
    assert shown(coordinator, '{"type":"Claim","session":"s"}') == ""
    assert shown(state, STATE) == shown(state, "") == "offline"
    for phase_of_run in ("finished", "stopped"):
        assert shown(state, STATE.replace('"round"', f'"{phase_of_run}"', 1)) == "online"


def test_attributes_leave_out_what_changes_with_every_message() -> None:
    phase, problem = told()[PHASE], told()["homeassistant/binary_sensor/fedlp__plant_-7/problem/config"]
    assert json.loads(shown(phase, STATE, "json_attributes_template")) == {
        "run": "plant.7-1",
        "model": "mlp",
        "metric": "accuracy",
        "measured_by": "central",
        "values": {"1": 0.802, "2": 0.914},
        "out": {"pi-1": "unfit: <no> memory"},
        "started": "2026-03-01T08:00:00+00:00",
    }
    assert json.loads(shown(problem, STATE, "json_attributes_template")) == {"out": {"pi-1": "unfit: <no> memory"}}
    assert json.loads(shown(phase, "", "json_attributes_template")) == {}


def test_phase_names_all_that_there_are() -> None:
    assert told()[PHASE]["options"] == ["starting", "waiting", "round", "exporting", "finished", "stopped"]
