"""Which file of a model a device runs, by what it has measured."""

from __future__ import annotations

from typing import Literal

from hypothesis import given
from hypothesis import strategies as st

from fedlp_edge.core.model_card import MeasuredCost
from fedlp_edge.core.planning.model_choice import AnswerLimits, MeasuredFile, ModelChoice, choose_model

Precision = Literal["fp32", "fp16", "int8"]
NONE = AnswerLimits()


def file(
    name: str,
    ms: float | None,
    *,
    value: float | None = 0.9,
    depth: int = 2,
    precision: Precision = "fp32",
    memory: int = 1_000_000,
    warning: str = "",
) -> MeasuredFile:
    cost = None if ms is None else MeasuredCost(milliseconds={90: 1.5 * ms}, mean_milliseconds=ms, memory=memory)
    return MeasuredFile(file=f"{name}.onnx", depth=depth, precision=precision, value=value, warning=warning, cost=cost)


def test_int8_is_chosen_where_it_is_faster_and_not_where_it_is_slower() -> None:
    exact = file("a", 2.0)
    choice = choose_model([exact, file("a-int8", 1.0, precision="int8", value=0.895)], NONE)
    assert choice == ModelChoice(
        file="a-int8.onnx", reason="1 ms an answer, 1 MB: the fastest of those worth as much; a.onnx takes 2 ms"
    )
    slower = choose_model([exact, file("a-int8", 3.0, precision="int8", value=0.895)], NONE)
    assert slower is not None
    assert slower.file == "a.onnx"
    assert slower.reason.endswith("a-int8.onnx takes 3 ms")


def test_about_equally_fast_files_are_told_apart_by_worth_and_bits() -> None:
    files = [file("a", 1.04), file("a-int8", 1.0, precision="int8"), file("a-fp16", 1.02, precision="fp16")]
    choice = choose_model(files, NONE)
    assert choice is not None
    assert choice.file == "a.onnx"


def test_a_shallower_file_is_chosen_where_the_deeper_is_too_slow_or_too_large() -> None:
    shallow, deep = file("shallow", 1.0, depth=1, value=0.8), file("deep", 4.0, depth=3, memory=9_000_000)
    assert choose_model([shallow, deep], NONE).file == "deep.onnx"  # type: ignore[union-attr]
    for limits in (AnswerLimits(milliseconds=5.0), AnswerLimits(memory=2_000_000)):
        choice = choose_model([shallow, deep], limits)
        assert choice is not None
        assert choice.file == "shallow.onnx"
        assert "within" in choice.reason


def test_where_nothing_keeps_the_limits_the_fastest_is_chosen_and_said() -> None:
    choice = choose_model([file("a", 3.0), file("b", 2.0)], AnswerLimits(milliseconds=1.0))
    assert choice == ModelChoice(
        file="b.onnx", reason="2 ms an answer, 1 MB: none keeps 1 ms, and this is the fastest", fits=False
    )


def test_a_file_that_does_not_run_is_never_chosen() -> None:
    assert choose_model([file("a", None)], NONE) is None
    choice = choose_model([file("a", None), file("b", 9.0, value=0.1)], NONE)
    assert choice is not None
    assert choice.file == "b.onnx"


def test_without_values_the_deepest_counts_and_what_the_export_warned_of_does_not() -> None:
    files = [
        file("shallow", 1.0, depth=1, value=None),
        file("deep", 3.0, value=None),
        file("deep-int8", 2.0, value=None, precision="int8", warning="two points lower"),
    ]
    assert choose_model(files, NONE).file == "deep.onnx"  # type: ignore[union-attr]


def test_of_errors_the_lower_one_is_better() -> None:
    files = [file("good", 3.0, value=2.0), file("bad", 1.0, value=4.0), file("alike", 2.0, value=2.01)]
    assert choose_model(files, NONE, higher=False).file == "alike.onnx"  # type: ignore[union-attr]


@given(
    st.lists(st.tuples(st.floats(0.1, 100), st.floats(0, 1)), min_size=1, max_size=8),
    st.one_of(st.none(), st.floats(0.1, 100)),
)
def test_what_is_chosen_keeps_the_limits_if_anything_does(
    measured: list[tuple[float, float]], most: float | None
) -> None:
    files = [file(str(number), ms, value=value) for number, (ms, value) in enumerate(measured)]
    choice = choose_model(files, AnswerLimits(milliseconds=most))
    assert choice is not None
    (chosen,) = [one for one in files if one.file == choice.file]
    kept = [one for one in files if most is None or one.cost.milliseconds[90] <= most]  # type: ignore[union-attr]
    assert choice.fits == bool(kept)
    if kept:
        assert chosen in kept
        assert chosen.value >= max(one.value for one in kept) - 0.0101  # type: ignore[operator,type-var]
