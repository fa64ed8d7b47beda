from __future__ import annotations

import re

import pytest

from fedlp_edge.wire.topics import Branch, Topics, topic_level


@pytest.mark.parametrize(("name", "level"), [("pi-1", "pi-1"), ("cam.01.north", "cam~01~north"), ("a.", "a~")])
def test_level_of_a_name_is_safe_with_every_broker_and_gives_the_name_back(name: str, level: str) -> None:
    topics = Topics("plant.no_7")

    topic = topics.of("up", name)

    assert topic == f"fedlp/plant~no_7/up/{level}"
    assert topic_level(name) == level
    assert topics.parse(topic) == ("up", name)
    assert re.fullmatch(r"[A-Za-z0-9_~/-]+", topic)


def test_names_that_differ_keep_different_topics() -> None:
    topics = Topics("f")

    assert len({topics.of("device", name) for name in ("a.b", "a-b", "a_b", "ab")}) == 4


def test_wildcard_stays_one() -> None:
    assert Topics("my.fleet").of("up", "+") == "fedlp/my~fleet/up/+"


@pytest.mark.parametrize("topic", ["fedlp/other/up/a", "fedlp/my.fleet/up/a", "fedlp/my/fleet/up/a", "else"])
def test_topic_of_another_fleet_is_of_none(topic: str) -> None:
    assert Topics("my.fleet").parse(topic) == ("", "")


@pytest.mark.parametrize("branch", ["device", "down", "up", "model", "repeat", "upload", "echo"])
def test_topics_have_four_levels(branch: Branch) -> None:
    assert Topics("a.b").of(branch, "c.d").count("/") == 3
