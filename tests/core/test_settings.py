import msgspec
import pytest

from fedlp_edge.core.settings import (
    ModelSettings,
    ObjectiveSettings,
    SchemeSettings,
    ServerSettings,
    TrainingSettings,
    check_exits,
)


@pytest.mark.parametrize(
    ("values", "lpr", "depth"),
    [({}, 1.0, "auto"), ({"lpr": 0.5, "depth": "full"}, 0.5, "full"), ({"lpr": "auto", "depth": 3}, "auto", 3)],
)
def test_convert_takes_what_a_scheme_may_say(values, lpr, depth):
    scheme = msgspec.convert(values, SchemeSettings)
    assert (scheme.lpr, scheme.depth) == (lpr, depth)


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (SchemeSettings, {"lpr": 1.5}),
        (SchemeSettings, {"lpr": "most"}),
        (SchemeSettings, {"depth": 0}),
        (SchemeSettings, {"granularity": "row"}),
        (SchemeSettings, {"lrp": 0.5}),
        (TrainingSettings, {"lr": 0.0}),
        (TrainingSettings, {"epochs": 0}),
        (ServerSettings, {"beta2": 1.1}),
        (ServerSettings, {"epsilon": 0.0}),
        (ModelSettings, {"input": [0, 28, 28]}),
        (ModelSettings, {"head_mode": "private"}),
        (ModelSettings, {"exits": "some"}),
        (ObjectiveSettings, {"proximal": -0.1}),
        (ObjectiveSettings, {"distillation_temperature": 0.0}),
    ],
)
def test_convert_refuses_values_out_of_range_and_unknown_keys(kind, values):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(values, kind)


def test_check_exits_refuses_distillation_with_one_exit():
    distilling = TrainingSettings(objective=ObjectiveSettings(distillation=0.5))
    check_exits(ModelSettings(exits="all"), distilling)
    check_exits(ModelSettings(), TrainingSettings())
    with pytest.raises(ValueError, match=r'set \[model\] exits = "all"'):
        check_exits(ModelSettings(), distilling)


@pytest.mark.parametrize(
    "values",
    [
        {"width_ratios": [0.5, 1.0]},
        {"scaling": "width", "width_ratios": [1.0, 0.5]},
        {"scaling": "width", "width_ratios": [0.25, 0.5]},
        {"scaling": "width", "head_mode": "personal"},
        {"scaling": "width", "exits": "all"},
    ],
)
def test_convert_refuses_widths_that_do_not_make_sense(values):
    with pytest.raises(msgspec.ValidationError, match="width"):
        msgspec.convert(values, ModelSettings)
