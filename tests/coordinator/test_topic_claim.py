import pytest

from coordinator.limits import LIMITS
from coordinator.topic_claim import TopicClaim, TopicClaimedError
from fedlp_edge.wire.messages import Announcement, Claim


def announcement(session: str, *, online: bool = True) -> Announcement:
    return Announcement(online=online, run="run", session=session, state="running")


def test_goes_on_as_soon_as_its_question_comes_back():
    mine = TopicClaim("b", "run", 0.0)
    question = mine.ask(0.0)
    assert not mine.answered(0.1)
    mine.heard(question, 0.1)
    assert mine.answered(0.1)
    assert mine.settled
    assert not mine.answered(0.2), "said once"


def test_goes_on_where_nobody_hears_its_question():
    mine = TopicClaim("b", "run", 0.0)
    mine.ask(0.0)
    assert not mine.answered(LIMITS.echo_seconds - 0.1)
    assert mine.answered(LIMITS.echo_seconds)


def test_waits_for_whoever_announced_itself_but_not_for_ever():
    mine = TopicClaim("b", "run", 0.0)
    question = mine.ask(0.0)
    mine.announced(announcement("other"), 0.1)
    mine.heard(question, 0.2)
    assert not mine.answered(LIMITS.answer_seconds)
    assert mine.answered(0.1 + LIMITS.answer_seconds)


@pytest.mark.parametrize("word", [announcement("other", online=False), announcement("b")])
def test_does_not_wait_for_whoever_has_left_nor_for_itself(word: Announcement):
    mine = TopicClaim("b", "run", 0.0)
    question = mine.ask(0.0)
    mine.announced(word, 0.1)
    mine.heard(question, 0.2)
    assert mine.answered(0.2)


def test_ends_when_another_one_answers():
    mine = TopicClaim("b", "run", 0.0)
    mine.ask(0.0)
    with pytest.raises(TopicClaimedError, match="theirs"):
        mine.heard(Claim(session="other", run="theirs", to="b"), 0.1)
    assert not mine.settled


def test_answers_who_asks_once_it_is_at_work_whatever_their_session():
    mine = TopicClaim("b", "run", 0.0)
    mine.heard(mine.ask(0.0), 0.1)
    assert mine.answered(0.1)
    for session in ("a", "c"):
        assert mine.heard(Claim(session=session, run="x"), 9.0) == Claim(session="b", run="run", to=session)
    assert mine.heard(Claim(session="a", run="x", to="c"), 9.0) is None


def test_of_two_that_start_together_one_goes_on():
    first, second = TopicClaim("a", "run", 0.0), TopicClaim("b", "run", 0.0)
    assert second.heard(first.ask(0.0), 0.1) is None
    answer = first.heard(second.ask(0.0), 0.1)
    assert answer is not None
    with pytest.raises(TopicClaimedError):
        second.heard(answer, 0.2)
