"""Whether a model can take a device's samples, from what the device says of them."""

from __future__ import annotations

import msgspec
import pytest

from fedlp_edge.core.device_data import (
    DataFacts,
    InputFacts,
    agreed_inputs,
    feature_mismatch,
    mismatch,
    missing_classes,
    names_digest,
)
from fedlp_edge.core.standardisation.column_sums import ColumnSums

NAMES = ("bolt", "nut", "washer")


@pytest.mark.parametrize(
    ("data", "names", "words"),
    [
        (DataFacts(sample_shape=(3, 32, 32), labels=2, highest=1), (), None),
        (DataFacts(labels=3, highest=2), (), None),  # pictures take any size
        (DataFacts(sample_shape=(1, 8, 8)), (), "the samples have shape 1x8x8 but the model takes 3x32x32"),
        (DataFacts(sample_shape=(32, 32, 3)), (), "give it x.transpose(0, 3, 1, 2)"),
        (DataFacts(labels=4, highest=3), (), "the labels go up to 3 but the model has 3 classes"),
        (DataFacts(labels=3, highest=3), (), "if they count from 1, subtract 1"),
        (DataFacts(classes=("0", "1", "2", "3"), labels=3, highest=3), (), "if they count from 1, subtract 1"),
        (DataFacts(labels=4, highest=255), (), "if 255 marks samples without a class, leave these out"),
        (DataFacts(classes=("a", "b", "c", "d"), labels=4, highest=3), (), 'of 4 classes ("a", "b", "c", "d") but the'),
        (DataFacts(classes=("nut", "washer"), labels=2, highest=1), NAMES, None),
        (DataFacts(classes=("nut", "screw"), labels=2, highest=1), NAMES, 'the fleet has no class "screw"'),
        (DataFacts(classes=("nut", "screw"), absent=(1,), labels=1), NAMES, None),  # listed, but never seen
        (DataFacts(classes_digest=names_digest(NAMES), labels=3, highest=2), NAMES, None),
        (DataFacts(classes_digest=names_digest(["x"]), labels=3, highest=2), NAMES, "not those of the fleet"),
    ],
)
def test_mismatch_says_what_does_not_fit(data: DataFacts, names: tuple[str, ...], words: str | None) -> None:
    reason = mismatch(data, (3, 32, 32), 3, names)
    assert (reason is None) if words is None else (reason is not None and words in reason)


def test_only_the_users_own_task_has_other_numbers_of_targets_than_of_outputs() -> None:
    two = ColumnSums(names=("1", "2"), count=3, mean=(0.0, 1.0), deviations=(1.0, 1.0))
    data = DataFacts(sample_shape=(4,), target_kind="values", targets=two)
    assert "2 targets but the model has 3 outputs" in (mismatch(data, (4,), 3, wanted="values") or "")
    assert mismatch(data, (4,), 3, wanted="values", own_task=True) is None
    assert mismatch(DataFacts(labels=4, highest=9), (4,), 3, wanted="class", own_task=True) is None
    assert "the samples have shape 4" in (mismatch(data, (5,), 3, wanted="values", own_task=True) or "")
    maps = DataFacts(sample_shape=(4,), target_kind="values")
    assert "a regression has 4,096 targets at most" in (mismatch(maps, (4,), 5000, wanted="values") or "")


def test_lacking_names_the_classes_that_others_must_teach() -> None:
    assert missing_classes(DataFacts(classes=("nut", "washer"), absent=(1,)), NAMES) == ("bolt", "washer")
    assert missing_classes(DataFacts(labels=2, highest=1), NAMES) == ()


def test_names_are_compared_in_one_unicode_form() -> None:
    report = msgspec.json.decode(msgspec.json.encode({"classes": ["cafe\u0301"], "labels": 1}), type=DataFacts)
    assert report.present == ("caf\u00e9",)
    assert mismatch(report, (3, 32, 32), 2, ("caf\u00e9", "tea")) is None


def site(mean: float = 0.5, channels: tuple[float, ...] = ()) -> DataFacts:
    inputs = InputFacts(scale=1 / 255, mean=(mean,), std=(0.5,), channel_mean=channels, channel_std=channels)
    return DataFacts(inputs=inputs)


def test_a_fleet_agrees_on_the_normalisation_of_most_and_on_the_mean_of_their_channels() -> None:
    agreed = agreed_inputs([site(channels=(1.0, 3.0)), site(channels=(2.0, 5.0)), site(0.1, (9.0, 9.0)), site()])
    assert agreed == InputFacts(scale=1 / 255, mean=(0.5,), std=(0.5,), channel_mean=(1.5, 4.0), channel_std=(1.5, 4.0))


def test_sites_with_another_number_of_channels_do_not_count_for_the_channels() -> None:
    agreed = agreed_inputs([site(channels=(1.0, 3.0)), site(channels=(2.0, 5.0)), site(channels=(7.0,))])
    assert agreed.channel_mean == (1.5, 4.0)


def test_nothing_is_known_of_inputs_that_nobody_has_told_of() -> None:
    assert agreed_inputs([]) == agreed_inputs([DataFacts()]) == InputFacts()
    assert agreed_inputs([site()]).channel_mean == ()


class CountedName(str):
    """A name that counts how often it is compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        CountedName.compared += 1
        return str.__eq__(self, other)

    __hash__ = str.__hash__


def test_a_wide_table_is_not_compared_name_by_name_with_the_fleets() -> None:
    count = 500
    own, fleet = (tuple(CountedName(f"gene {number}") for number in range(count)) for _ in range(2))
    sums = ColumnSums(names=own, count=1, mean=(0.0,) * count, deviations=(0.0,) * count)
    CountedName.compared = 0
    assert feature_mismatch(DataFacts(features=sums), fleet) is None
    assert sums.arranged(fleet[::-1]).names == fleet[::-1]
    assert CountedName.compared < 10 * count
