from __future__ import annotations

from fedlp_edge.transport.mqtt.unannounced_limit import MIN_BYTES, UnannouncedLimit


def test_one_loss_behind_a_long_message_says_nothing_and_the_second_one_halves() -> None:
    limit = UnannouncedLimit()

    assert limit.lost(262_144, sure=False) == "nothing"
    assert limit.packet is None
    assert limit.lost(262_144, sure=False) == "shorter"
    assert limit.packet == 131_072


def test_broker_that_gives_the_reason_is_believed_at_once() -> None:
    limit = UnannouncedLimit()

    assert limit.lost(100_000, sure=True) == "shorter"
    assert limit.packet == 50_000


def test_what_was_carried_before_the_loss_is_not_too_long() -> None:
    limit = UnannouncedLimit()

    for _ in range(5):
        limit.carried(262_144)
        assert limit.lost(262_144, sure=False) == "nothing"
    assert limit.packet is None


def test_shrinks_to_what_was_carried_if_that_is_more_than_half() -> None:
    limit = UnannouncedLimit()
    for _ in range(2):
        limit.carried(60_000)
        limit.lost(100_000, sure=False)

    assert limit.packet == 60_000


def test_losses_behind_short_messages_or_none_never_count() -> None:
    limit = UnannouncedLimit()

    assert {limit.lost(size, sure=False) for size in (MIN_BYTES, 0, MIN_BYTES, 0, 100)} == {"nothing"}
    assert limit.packet is None


def test_goes_down_step_by_step_to_the_least() -> None:
    limit = UnannouncedLimit()
    limit.lost(262_144, sure=False)
    steps = []
    while limit.lost(limit.packet or 262_144, sure=False) == "shorter":
        steps.append(limit.packet)

    assert steps == [131_072, 65_536, 32_768, 16_384, 8_192, 4_096]


def test_what_is_carried_after_a_step_makes_the_next_loss_a_chance_again() -> None:
    limit = UnannouncedLimit()
    limit.lost(100_000, sure=False)
    limit.lost(100_000, sure=False)
    limit.carried(50_000)
    limit.lost(0, sure=False)

    assert limit.lost(50_000, sure=False) == "nothing"
    assert limit.lost(50_000, sure=False) == "shorter"


def shrunk_to_the_least(limit: UnannouncedLimit, topic: str) -> None:
    limit.lost(262_144, topic, sure=False)
    while limit.packet != MIN_BYTES:
        limit.lost(limit.packet or 262_144, topic, sure=False)


def test_topic_behind_whose_shortest_messages_the_connection_ends_is_barred_and_says_nothing_of_length() -> None:
    limit = UnannouncedLimit()
    shrunk_to_the_least(limit, "upload/a")
    limit.carried(300)  # an offer, on another topic

    assert [limit.lost(3_600, "upload/a", sure=False) for _ in range(2)] == ["nothing", "barred"]
    assert limit.packet is None
    assert {limit.lost(262_144, "upload/a", sure=False) for _ in range(3)} == {"nothing"}
    assert [limit.lost(262_144, "model/L1", sure=False) for _ in range(2)] == ["nothing", "shorter"]


def test_limit_is_right_once_shorter_messages_pass_and_chance_takes_it_back_no_more() -> None:
    limit = UnannouncedLimit()
    shrunk_to_the_least(limit, "upload/a")

    assert not limit.carried(300)
    assert limit.carried(3_600)
    assert not limit.carried(3_600)
    assert {limit.lost(3_600, "upload/a", sure=False) for _ in range(3)} == {"nothing"}
    assert limit.packet == MIN_BYTES
