import msgspec
import pytest

from fedlp_edge.core.settings import ModelSettings, SchemeSettings, ServerSettings, TrainingSettings


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
        (ModelSettings, {"heads": "private"}),
    ],
)
def test_convert_refuses_values_out_of_range_and_unknown_keys(kind, values):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(values, kind)
