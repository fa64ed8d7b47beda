from __future__ import annotations

from benchmarks.transport import Floor, judged, machine


def floors(tcp: tuple[float, ...], mqtt: tuple[float, ...] = (2.0, 2.0)) -> dict[str, list[Floor]]:
    """What was measured before and after, with half as much processor time as seconds."""
    return {name: [Floor([one], one / 2) for one in measured] for name, measured in (("tcp", tcp), ("mqtt", mqtt))}


def test_compares_with_the_floor_of_a_steady_machine() -> None:
    said = judged(3.0, 1.2, floors((1.0, 1.1)))
    assert said["ratio_to_mqtt_floor"] == 1.5
    assert said["tcp_floors_s"] == [1.0, 1.1]
    assert said["mqtt_floor_cpu_s"] == [1.0, 1.0]
    assert said["cpu_ratio_to_mqtt_floor"] == 1.2


def test_refuses_to_judge_seconds_when_the_floors_differ_by_more_than_a_fifth() -> None:
    said = judged(3.0, 1.2, floors((1.0, 1.25)))
    assert "ratio_to_mqtt_floor" not in said
    assert said["not_judged"] == "the floors before and after differ by 25%: run this again on a quieter machine"
    assert said["cpu_ratio_to_mqtt_floor"] == 1.2


def test_judges_where_the_floors_differ_by_next_to_nothing_of_a_round() -> None:
    said = judged(3.0, 1.2, floors((0.1, 0.2)))
    assert said["ratio_to_mqtt_floor"] == 1.5
    assert "not_judged" in judged(3.0, 1.2, floors((0.1, 0.3)))


def test_judges_nothing_without_floors() -> None:
    assert judged(3.0, 1.2, {"tcp": [], "mqtt": []}) == {}


def test_names_processor_kernel_and_libraries() -> None:
    assert {"processor", "kernel", "paho-mqtt"} <= machine().keys()
