import msgspec
import pytest

from fedlp_edge.core.augment_settings import AugmentSettings, RandomHorizontalFlip
from fedlp_edge.core.settings import (
    EvaluationSettings,
    ModelSettings,
    ObjectiveSettings,
    SchemeSettings,
    ServerSettings,
    TrainingSettings,
    check_evaluation,
    check_exits,
    check_schedule,
    check_training,
    is_custom,
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


@pytest.mark.parametrize(
    ("holdout", "central", "share"), [("auto", True, 0.0), ("auto", False, 0.1), (0.25, True, 0.25), (0.0, False, 0.0)]
)
def test_holdout_share_is_a_tenth_only_where_nothing_else_judges(holdout, central, share):
    assert EvaluationSettings(holdout=holdout).holdout_share(central=central) == share


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"metric": "shine"}, 'say better = "higher" or better = "lower"'),
        ({"metric": "rmse", "better": "higher"}, "of which lower values are better"),
        ({"holdout": 0.95}, "holdout"),
        ({"metric": "Macro F1"}, "metric"),
    ],
)
def test_convert_refuses_an_evaluation_that_does_not_make_sense(values, message):
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(values, EvaluationSettings)


def test_convert_takes_a_metric_of_a_task_of_its_own_with_its_direction():
    assert msgspec.convert({"metric": "shine", "better": "higher"}, EvaluationSettings).metric == "shine"


@pytest.mark.parametrize(
    ("values", "central", "message"),
    [
        ({"source": "central"}, False, r"set \[data\] evaluate"),
        ({"source": "devices"}, True, "set holdout, such as 0.1"),
        ({"patience": 3, "holdout": 0.0}, False, "patience needs a metric"),
    ],
)
def test_check_evaluation_refuses_what_nobody_measures(values, central, message):
    with pytest.raises(ValueError, match=message):
        check_evaluation(EvaluationSettings(**values), central=central)


def test_check_evaluation_takes_devices_or_central_data():
    check_evaluation(EvaluationSettings(patience=3), central=False)
    check_evaluation(EvaluationSettings(patience=3, source="central"), central=True)
    check_evaluation(EvaluationSettings(source="devices", holdout=0.2), central=True)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"task": "clustering"}, 'unknown task "clustering"'),
        ({"target_units": ("m",)}, 'target_units is for task = "regression"'),
        ({"task": "regression", "classes": 2, "target_units": ("m",)}, "target_units has 1 entries for 2 targets"),
        ({"task": "regression", "classes": 1, "target_mean": (1.0,)}, "target_mean and target_std belong together"),
    ],
)
def test_what_does_not_go_with_the_task_is_refused(settings, problem):
    with pytest.raises(ValueError, match=problem):
        ModelSettings(**settings)


def test_one_output_of_a_classification_has_two_class_names():
    assert ModelSettings(classes=1, class_names=("no", "yes")).class_names == ("no", "yes")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_lr": 0.01}, 'min_lr is for schedule = "cosine"'),
        ({"schedule": "cosine", "lr": 0.1, "min_lr": 0.1}, r"min_lr \(0.1\) must be less than lr \(0.1\)"),
        ({"step_every": 5}, 'step_every is for schedule = "step"'),
        ({"schedule": "step"}, "needs step_every"),
        ({"balance": "weights", "objective": {"logit_adjustment": 1.0}}, "leave one of them away"),
        ({"label_smoothing": 1.0}, "label_smoothing"),
        ({"clip_norm": -1.0}, "clip_norm"),
        ({"optimizer": "lion"}, "optimizer"),
    ],
)
def test_convert_refuses_training_that_does_not_make_sense(values, message):
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(values, TrainingSettings)


@pytest.mark.parametrize(
    "transform",
    [
        {"name": "RandomFlip"},
        {"name": "RandomHorizontalFlip", "p": 1.5},
        {"name": "RandomHorizontalFlip", "q": 0.5},
        {"name": "RandomRotation"},
        {"name": "GaussianBlur", "kernel_size": 4},
        {"name": "RandomResizedCrop", "scale": [0.9, 0.2]},
        {"name": "RandomCrop", "padding": 5000},
    ],
)
def test_convert_refuses_transforms_that_are_not_allowed(transform):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"transforms": [transform]}, AugmentSettings)


FLIP = (RandomHorizontalFlip(),)


@pytest.mark.parametrize(
    ("model", "training", "message"),
    [
        ({"input": (3, 64)}, {"augment": AugmentSettings(FLIP)}, r"transforms is for pictures \[C, H, W\]"),
        ({"input": (5,), "tokens": True}, {"augment": AugmentSettings(jitter=0.1)}, "token ids"),
        ({"input": (8,)}, {"augment": AugmentSettings(crop=0.5)}, r"crop is for windows \[C, L\], .* is \[8\]"),
        ({"input": (1, 8, 8)}, {"augment": AugmentSettings(time_shift=2)}, "time_shift is for windows"),
        ({"input": (3, 64)}, {"augment": AugmentSettings(time_shift=64)}, "must be less than the 64 steps"),
        ({"input": (1, 8, 8)}, {"augment": AugmentSettings(scaling=0.1)}, "scaling is for windows and tables"),
        ({"task": "regression"}, {"label_smoothing": 0.1}, r'label_smoothing is for classes, .* is "regression"'),
        ({"task": "multi-label"}, {"balance": "sampling"}, "balance is for classes"),
    ],
)
def test_check_training_refuses_what_does_not_go_with_the_model(model, training, message):
    with pytest.raises(ValueError, match=message):
        check_training(ModelSettings(**model), TrainingSettings(**training))


def test_check_training_takes_what_goes_with_the_input():
    check_training(ModelSettings(input=(3, 8, 8)), TrainingSettings(augment=AugmentSettings(FLIP)))
    windows = AugmentSettings(jitter=0.1, scaling=0.1, crop=0.8, time_shift=3)
    check_training(ModelSettings(input=(3, 64)), TrainingSettings(augment=windows))
    check_training(ModelSettings(input=(9,)), TrainingSettings(augment=AugmentSettings(jitter=0.1)))


def test_check_schedule_refuses_a_warmup_that_never_ends():
    check_schedule(TrainingSettings(warmup_rounds=4), 5)
    with pytest.raises(ValueError, match=r"warmup_rounds \(5\) must be less than \[rounds\] count \(5\)"):
        check_schedule(TrainingSettings(warmup_rounds=5), 5)


def test_class_names_have_one_unicode_form_however_an_editor_writes_them():
    assert ModelSettings(classes=2, class_names=("cafe\u0301", "tea")).class_names == ("caf\u00e9", "tea")
    with pytest.raises(ValueError, match="must all be different"):
        ModelSettings(classes=2, class_names=("cafe\u0301", "caf\u00e9"))


@pytest.mark.parametrize(
    ("name", "custom"), [("fedlp-cnn", False), ("torchvision:resnet18", False), ("shop:net", True)]
)
def test_tells_code_of_somebody_from_models_that_come_along(name: str, custom: bool) -> None:
    assert is_custom(name) is custom
