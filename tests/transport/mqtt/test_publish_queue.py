from __future__ import annotations

from fedlp_edge.transport.mqtt.publish_queue import WINDOW, WINDOW_BYTES, PublishQueue, QueuedPublish


def message(token: int, size: int = 1) -> QueuedPublish:
    return QueuedPublish(token, "x", bytes(size), retain=False)


def filled(count: int, size: int = 1) -> PublishQueue:
    outgoing = PublishQueue()
    for token in range(count):
        outgoing.put(message(token, size))
    return outgoing


def drain(outgoing: PublishQueue, receive_maximum: int) -> list[int]:
    """Sends what may be sent; the packet ids are the tokens."""
    tokens = []
    while (item := outgoing.take(receive_maximum)) is not None:
        outgoing.sent(item.token, item)
        tokens.append(item.token)
    return tokens


def test_take_stops_at_the_brokers_receive_maximum_and_goes_on_with_answers() -> None:
    outgoing = filled(5)
    assert drain(outgoing, receive_maximum=2) == [0, 1]
    assert outgoing.answered(0) == message(0)
    assert drain(outgoing, receive_maximum=2) == [2]
    assert not outgoing.idle


def test_take_stops_at_its_own_window_however_much_the_broker_allows() -> None:
    assert len(drain(filled(2 * WINDOW), receive_maximum=65535)) == WINDOW


def test_take_stops_at_the_window_of_bytes_but_lets_one_large_message_pass() -> None:
    outgoing = filled(2, size=WINDOW_BYTES + 1)
    assert drain(outgoing, receive_maximum=20) == [0]
    outgoing.answered(0)
    assert drain(outgoing, receive_maximum=20) == [1]
    outgoing.answered(1)
    assert outgoing.idle


def test_rewind_puts_what_was_on_its_way_back_before_the_rest_in_order() -> None:
    outgoing = filled(5)
    drain(outgoing, receive_maximum=3)
    outgoing.answered(1)
    outgoing.rewind()

    assert drain(outgoing, receive_maximum=20) == [0, 2, 3, 4]


def test_answer_to_an_unknown_packet_is_ignored() -> None:
    assert filled(1).answered(7) is None


def test_message_whose_packet_id_is_in_use_waits_again() -> None:
    outgoing = filled(2)
    for _ in range(2):
        item = outgoing.take(20)
        assert item is not None
        outgoing.sent(9, item)

    assert outgoing.answered(9) == message(0)
    assert drain(outgoing, receive_maximum=20) == [1]
