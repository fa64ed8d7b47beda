from __future__ import annotations

from fedlp_edge.core.settings import Thrift, TrainingSettings
from fedlp_edge.core.thrift import describe, ladder

ALL = ("allocation", "accumulation", "checkpointing")


def test_ladder_gives_up_speed_before_batches_and_batches_before_computing_twice() -> None:
    assert ladder(TrainingSettings(batch_size=16), ALL) == (
        Thrift(),
        Thrift("exact"),
        Thrift("exact", 8),
        Thrift("exact", 4),
        Thrift("exact", 0, True),
        Thrift("exact", 8, True),
        Thrift("exact", 4, True),
    )


def test_ladder_uses_only_what_may_be_used() -> None:
    assert ladder(TrainingSettings(batch_size=8), ()) == (Thrift(),)
    assert ladder(TrainingSettings(batch_size=8), ("accumulation",)) == (Thrift(), Thrift(micro_batch=4))
    assert ladder(TrainingSettings(batch_size=4), ALL) == (Thrift(), Thrift("exact"), Thrift("exact", 0, True))


def test_ladder_keeps_to_a_thrift_that_is_stated() -> None:
    assert ladder(TrainingSettings(thrift=Thrift(micro_batch=2)), ALL) == (Thrift(micro_batch=2),)


def test_describe_names_every_lever() -> None:
    assert describe(Thrift()) == []
    assert describe(Thrift("exact", 8, True)) == [
        "memory given back at once",
        "batches in parts of 8",
        "activations computed twice",
    ]
