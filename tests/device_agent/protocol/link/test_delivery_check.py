"""A way that is closed to layers is named once, and never where layers come both ways."""

from __future__ import annotations

from device_agent.protocol.events import Effects, Log
from device_agent.protocol.link.delivery_check import DeliveryCheck
from tests.device_agent.support import ME, TOPICS, Device, blob, chunks, only, task, trained


def test_names_broadcasts_that_never_arrive_once_three_rounds_were_repeated() -> None:
    check = DeliveryCheck(ME)
    said: list[Effects] = []
    for number in range(1, 7):
        said.append(check.begin_round(number))
        check.asked()
        check.came(repeated=True)
        check.came(repeated=True)

    assert [len(effects) for effects in said] == [0, 0, 0, 1, 0, 0]
    warning = only(said[3], Log)
    assert warning.warning
    assert "on fedlp/demo/model/+ never arrive here" in warning.text
    assert "do the broker's access rules let it read there?" in warning.text


def test_names_repeats_that_never_arrive_though_they_are_asked_for() -> None:
    check = DeliveryCheck(ME)
    check.came(repeated=False)
    said: list[Effects] = []
    for number in range(1, 5):
        said.append(check.begin_round(number))
        check.asked()
        check.asked()
        check.came(repeated=False)

    assert [len(effects) for effects in said] == [0, 0, 0, 1]
    assert "asks for never arrives on fedlp/demo/repeat/pi" in only(said[3], Log).text


def test_says_nothing_where_both_ways_are_open() -> None:
    check = DeliveryCheck(ME)
    for number in range(1, 9):
        assert check.begin_round(number) == []
        check.asked()
        check.came(repeated=True)
        if number == 3:
            check.came(repeated=False)


def test_device_that_gets_its_layers_by_asking_alone_warns() -> None:
    device = Device().join()
    warnings = []
    for number in range(1, 5):
        effects = device.down(task(number, value=float(number)))
        for id in ("L1", "H1"):
            for chunk in chunks(blob(id, float(number))):
                effects += device.receive(TOPICS.of("repeat", "pi"), chunk)
        warnings.append([effect.text for effect in effects if isinstance(effect, Log) and effect.warning])
        trained(device, number)

    assert [len(texts) for texts in warnings] == [0, 0, 0, 1]
    assert "model/+ never arrive here" in warnings[3][0]
