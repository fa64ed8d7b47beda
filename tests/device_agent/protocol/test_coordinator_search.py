from __future__ import annotations

from device_agent.limits import LIMITS
from device_agent.protocol.coordinator_presence import CoordinatorPresence
from device_agent.protocol.coordinator_search import CoordinatorSearch
from device_agent.protocol.events import Log, Subscribe, Unsubscribe
from tests.device_agent.support import BROKER_LIMITS, ME, announcement, coordinator_of

FILTERS = ("+/fedlp/demo/coordinator", "+/+/fedlp/demo/coordinator")
DUE = 100.0 + LIMITS.presence.search_seconds
ADVICE = (
    "; a mount_point of a listener or a prefix of a bridge does so: let coordinator and devices use a listener without "
    "one"
)


def alone() -> CoordinatorPresence:
    """Nobody is heard of since the broker was connected at 100 seconds."""
    coordinator = CoordinatorPresence()
    coordinator.broker_connected(BROKER_LIMITS, 100.0)
    return coordinator


def begun() -> CoordinatorSearch:
    search = CoordinatorSearch(ME, alone())
    search.poll(DUE)
    return search


def test_says_so_and_looks_under_other_names_when_no_coordinator_is_heard_for_long() -> None:
    search = CoordinatorSearch(ME, alone())
    assert search.next_wakeup() == DUE
    assert search.poll(DUE - 0.1) == []
    text = (
        'no coordinator of fleet "demo" has been heard of at this broker: is it started, and is the name right? '
        "Waiting for it; fedlp fleet lists who is at a broker, fedlp doctor broker tells whether messages pass"
    )
    assert search.poll(DUE) == [Log(text, warning=True), *(Subscribe(topic) for topic in FILTERS)]
    assert search.next_wakeup() is None
    assert search.poll(DUE + 1000.0) == []


def test_does_not_begin_without_a_connection_or_after_a_coordinator_was_known() -> None:
    assert CoordinatorSearch(ME, CoordinatorPresence()).next_wakeup() is None
    coordinator = coordinator_of()
    coordinator.announce(announcement(online=False), 1.0)
    search = CoordinatorSearch(ME, coordinator)
    assert search.next_wakeup() is None
    assert search.poll(1000.0) == []


def test_ends_once() -> None:
    search = begun()
    assert search.end() == [Unsubscribe(topic) for topic in FILTERS]
    assert search.end() == []
    assert CoordinatorSearch(ME, alone()).end() == []


def test_says_once_for_each_topic_and_at_most_three_times_what_the_broker_calls_it() -> None:
    search = begun()
    topics = ["site/fedlp/demo/coordinator"] * 2 + ["a", "b", "c"]
    notes = [effect for topic in topics for effect in search.unexpected_topic(topic)]
    assert notes == [
        Log(
            "this broker renames topics: fedlp/demo/coordinator is called site/fedlp/demo/coordinator here" + ADVICE,
            warning=True,
        ),
        Log("this broker renames topics: what was subscribed to arrives as a" + ADVICE, warning=True),
        Log("this broker renames topics: what was subscribed to arrives as b" + ADVICE, warning=True),
    ]
    assert search.end() == []
