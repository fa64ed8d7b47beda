from __future__ import annotations

from fedlp_edge.core.planning.memory_saving import describe, memory_saving_steps
from fedlp_edge.core.settings import MemorySaving, TrainingSettings

ALL = ("allocation", "accumulation", "checkpointing")


def test_ladder_gives_up_speed_before_batches_and_batches_before_computing_twice() -> None:
    assert memory_saving_steps(TrainingSettings(batch_size=16), ALL) == (
        MemorySaving(),
        MemorySaving("exact"),
        MemorySaving("exact", 8),
        MemorySaving("exact", 4),
        MemorySaving("exact", 0, True),
        MemorySaving("exact", 8, True),
        MemorySaving("exact", 4, True),
    )


def test_ladder_uses_only_what_may_be_used() -> None:
    assert memory_saving_steps(TrainingSettings(batch_size=8), ()) == (MemorySaving(),)
    assert memory_saving_steps(TrainingSettings(batch_size=8), ("accumulation",)) == (
        MemorySaving(),
        MemorySaving(micro_batch=4),
    )
    assert memory_saving_steps(TrainingSettings(batch_size=4), ALL) == (
        MemorySaving(),
        MemorySaving("exact"),
        MemorySaving("exact", 0, True),
    )


def test_ladder_keeps_to_a_thrift_that_is_stated() -> None:
    assert memory_saving_steps(TrainingSettings(memory=MemorySaving(micro_batch=2)), ALL) == (
        MemorySaving(micro_batch=2),
    )


def test_describe_names_every_lever() -> None:
    assert describe(MemorySaving()) == []
    assert describe(MemorySaving("exact", 8, True)) == [
        "memory given back at once",
        "batches in parts of 8",
        "activations computed twice",
    ]
