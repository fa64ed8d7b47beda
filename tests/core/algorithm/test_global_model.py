import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedlp_edge.core.algorithm import server
from fedlp_edge.core.algorithm.aggregation import LayerwiseMean
from fedlp_edge.core.algorithm.global_model import GlobalModel
from fedlp_edge.core.algorithm.server_state import ServerState
from fedlp_edge.core.blueprint import Blueprint, DepthCost, TensorSpec, Unit
from fedlp_edge.core.model_digest import model_digest
from fedlp_edge.core.rounds.staleness import factor
from fedlp_edge.core.settings import SchemeSettings, ServerSettings, UpdateSettings
from fedlp_edge.errors import ConfigError

SEED = 3


def initial(blueprint: Blueprint) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        t.name: generator.standard_normal(t.shape, dtype=np.float32) for unit in blueprint.units for t in unit.tensors
    }


def mean_of(*updates: dict[str, float], blueprint: Blueprint) -> LayerwiseMean:
    """Devices that each send the named tensors, filled with one value."""
    shapes = {t.name: t.shape for unit in blueprint.units for t in unit.tensors}
    mean = LayerwiseMean(100)
    for update in updates:
        mean.add({name: np.full(shapes[name], value, dtype=np.float32) for name, value in update.items()}, weight=5)
    return mean


def model(
    blueprint: Blueprint, *, settings: ServerSettings | None = None, state=None, weights=None, budget=0, **scheme
):
    start = initial(blueprint) if weights is None else weights
    return GlobalModel(
        blueprint,
        SchemeSettings(**scheme),
        settings or ServerSettings(),
        start,
        state,
        update=UpdateSettings(budget=budget),
        seed=SEED,
    )


def rates(model: GlobalModel, *, depth: int = 3, lpr: float = 1.0, round: int = 1, encoding="none") -> dict[str, float]:
    return model.rates(round, depth, lpr, encoding)


ALL = {f"{part}{depth}.weight": 0.5 for part in ("block", "head") for depth in (1, 2, 3)}


def state_digests(state: ServerState):
    tables = (state.first_moments, state.second_moments, state.averages, state.last_updates)
    return [model_digest(table) for table in tables], state.changes


@pytest.mark.parametrize("optimizer", ["plain", "momentum", "adam"])
def test_step_is_the_servers_step_and_nothing_else_by_default(three_depths: Blueprint, optimizer):
    settings = ServerSettings(optimizer=optimizer)
    weights, state = initial(three_depths), ServerState()
    whole = model(three_depths, settings=settings)
    for round, update in enumerate([ALL, {"block1.weight": -2.0}, ALL], start=1):
        mean = mean_of(update, ALL, blueprint=three_depths)
        weights, state = server.apply(settings, state, weights, mean.means(), frozenset())
        whole.step(round, mean)
    assert whole.digest == model_digest(weights)
    assert state_digests(whole.state) == state_digests(state)
    assert whole.evaluated is whole.weights


updates = st.lists(st.tuples(st.integers(0, 20), st.floats(0, 1e10, width=32)), min_size=1, max_size=3)


@settings(max_examples=40, deadline=None)
@given(
    optimizer=st.sampled_from(["plain", "momentum", "adam"]),
    lr=st.floats(0.01, 10),
    ema=st.sampled_from([0.0, 0.5, 0.999]),
    versions=st.lists(updates, min_size=1, max_size=6),
)
def test_step_never_makes_a_variance_negative(optimizer, lr, ema, versions):
    unit = Unit("L1", "norm", "layer", 1, (TensorSpec("w", (1,)), TensorSpec("var", (1,), "statistic", least=0.0)))
    blueprint = Blueprint("norm", (1,), 2, "shared", (unit,), (DepthCost(1, 1, 1, 1),))
    start = {name: np.ones(1, dtype=np.float32) for name in ("w", "var")}
    whole = model(blueprint, settings=ServerSettings(optimizer=optimizer, lr=lr, ema=ema), weights=start)
    for number, buffer in enumerate(versions, start=1):
        mean = LayerwiseMean(10_000, statistics=blueprint.statistics)
        for staleness, variance in buffer:
            mean.add({"w": np.ones(1, np.float32), "var": np.full(1, variance, np.float32)}, factor(staleness, 0.5))
        whole.step(number, mean)
        assert whole.weights["var"][0] >= 0
        assert whole.evaluated["var"][0] >= 0
        assert whole.weights["var"][0] <= max(variance for _, variance in buffer)


def test_rates_name_no_unit_by_default(three_depths: Blueprint):
    assert model(three_depths, lpr=0.5).rates(1, 2, 0.5, "fp16") == {}


def test_rates_are_those_of_named_units_that_the_depth_exchanges(three_depths: Blueprint):
    whole = model(three_depths, lpr_of={"L1": 0.25, "L3": 0.75})
    assert rates(whole, depth=2) == {"L1": 0.25}
    assert rates(whole, depth=3, lpr=0.75) == {"L1": 0.25}


def test_rates_are_nought_for_a_unit_that_is_not_due(three_depths: Blueprint):
    whole = model(three_depths, exchange_every={"L1": 2, "H2": 3})
    assert [sorted(rates(whole, depth=2, round=round)) for round in (1, 2, 3, 4, 5, 6)] == [
        ["H2", "L1"],
        ["H2"],
        ["L1"],
        ["H2"],
        ["H2", "L1"],
        [],
    ]
    assert set(rates(whole, depth=2).values()) == {0.0}


def test_rates_are_scaled_into_the_budget(three_depths: Blueprint):
    # Depth 2 sends 4000 + 4000 + 40 bytes in float32, half of that in half precision.
    whole = model(three_depths, budget=4020)
    assert rates(whole, depth=2) == {"L1": 0.5, "L2": 0.5, "H2": 0.5}
    assert rates(whole, depth=2, encoding="fp16") == {}


def test_rates_count_what_stays_at_home_out_of_the_budget(three_depths: Blueprint):
    whole = model(three_depths, budget=4040, exchange_every={"L1": 2})
    assert rates(whole, depth=2) == {"L1": 0.0}


def test_rates_prefer_units_that_change_much_for_their_size(three_depths: Blueprint):
    whole = model(
        three_depths,
        lpr=0.5,
        rates="importance",
        weights={n: np.ones_like(v) for n, v in initial(three_depths).items()},
    )
    assert rates(whole, depth=2, lpr=0.5) == {}
    update = {"block1.weight": 0.1, "block2.weight": 0.3, "head2.weight": 0.1}
    whole.step(1, mean_of(update, blueprint=three_depths))
    # 8040 * 0.5 bytes: the head is cheap and always sent, the rest goes 1 to 3 to the layers.
    assert rates(whole, depth=2, lpr=0.5) == pytest.approx({"L1": 3980 / 16000, "L2": 3 * 3980 / 16000, "H2": 1.0})


def test_step_repeats_the_weakened_update_of_a_recycled_unit(three_depths: Blueprint):
    whole = model(three_depths, recycle=1, recycle_decay=0.5)
    assert rates(whole) == {}
    whole.step(1, mean_of(ALL, blueprint=three_depths))
    (unit,) = whole.recycled(2)
    name = three_depths.by_id[unit].tensors[0].name
    assert rates(whole, depth=three_depths.by_id[unit].depth, round=2) == {unit: 0.0}
    before = whole.weights[name]
    whole.step(2, mean_of({other: 1.0 for other in ALL if other != name}, blueprint=three_depths))
    np.testing.assert_array_equal(whole.weights[name], before + np.float32(0.25))
    assert whole.state.last_updates[name][0] == 0.25


def test_step_keeps_the_score_of_a_recycled_unit(three_depths: Blueprint):
    whole = model(three_depths, recycle=1, recycle_decay=0.5)
    whole.step(1, mean_of(ALL, blueprint=three_depths))
    (unit,) = whole.recycled(2)
    before = whole.state.changes[unit]
    name = three_depths.by_id[unit].tensors[0].name
    whole.step(2, mean_of({other: 1.0 for other in ALL if other != name}, blueprint=three_depths))
    assert whole.state.changes[unit] == before


def test_step_prefers_what_was_sent_to_what_would_be_recycled(three_depths: Blueprint):
    whole = model(three_depths, recycle=2)
    whole.step(1, mean_of(ALL, blueprint=three_depths))
    before = whole.weights
    whole.step(2, mean_of(ALL, blueprint=three_depths))
    for name, value in before.items():
        np.testing.assert_array_equal(whole.weights[name], value + np.float32(0.5))


def test_step_never_recycles_buffers(paper_cnn: Blueprint):
    whole = model(paper_cnn, recycle=5)
    update = {t.name: 0.5 for unit in paper_cnn.global_units for t in unit.tensors}
    whole.step(1, mean_of(update, blueprint=paper_cnn))
    before, recycled = whole.weights, whole.recycled(2)
    whole.step(2, mean_of(blueprint=paper_cnn))
    changed = {name for name in before if not np.array_equal(before[name], whole.weights[name])}
    assert len(recycled) == 5
    assert changed == {t.name for unit in recycled for t in paper_cnn.by_id[unit].tensors if t.trainable}


def test_step_averages_models_without_a_share_of_the_first_weights(three_depths: Blueprint):
    zeros = {name: np.zeros_like(value) for name, value in initial(three_depths).items()}
    whole = model(three_depths, settings=ServerSettings(ema=0.5), weights=zeros)
    seen = []
    for round in (1, 2, 3):
        whole.step(round, mean_of({"block1.weight": 1.0}, blueprint=three_depths))
        seen.append(float(whole.evaluated["block1.weight"][0]))
    # Weights 1, 2, 3: (1), (0.5 * 1 + 2) / 1.5, (0.25 * 1 + 0.5 * 2 + 3) / 1.75.
    assert seen == pytest.approx([1.0, 2.5 / 1.5, 4.25 / 1.75])
    assert float(whole.weights["block1.weight"][0]) == 3.0
    assert float(whole.evaluated["block2.weight"][0]) == 0.0


def test_step_leaves_elements_alone_that_nobody_sent(three_depths: Blueprint):
    settings = ServerSettings(optimizer="momentum", momentum=0.5)
    whole = model(three_depths, settings=settings)
    first = LayerwiseMean(10, {"block1.weight": (1000,)})
    first.add({"block1.weight": np.ones(1000, dtype=np.float32)}, weight=5)
    whole.step(1, first)
    before, moment = whole.weights["block1.weight"], whole.state.first_moments["block1.weight"]
    second = LayerwiseMean(10, {"block1.weight": (1000,)})
    second.add({"block1.weight": np.ones(600, dtype=np.float32)}, weight=5)
    whole.step(2, second)
    np.testing.assert_array_equal(whole.weights["block1.weight"][600:], before[600:])
    np.testing.assert_array_equal(whole.state.first_moments["block1.weight"][600:], moment[600:])
    np.testing.assert_array_equal(whole.weights["block1.weight"][:600], before[:600] + np.float32(1.5))


def test_model_goes_on_from_saved_weights_and_state(three_depths: Blueprint):
    settings = ServerSettings(optimizer="adam", ema=0.9)
    scheme = {"recycle": 2, "rates": "importance", "lpr": 0.5}
    through = model(three_depths, settings=settings, **scheme)
    stopped = model(three_depths, settings=settings, **scheme)
    for round in range(1, 5):
        stopped = model(three_depths, settings=settings, weights=stopped.weights, state=stopped.state, **scheme)
        sent = {name: value * round for name, value in ALL.items() if name not in {"block2.weight", "head1.weight"}}
        for each in (through, stopped):
            each.step(round, mean_of(sent, blueprint=three_depths))
        assert rates(through, lpr=0.5, round=round + 1) == rates(stopped, lpr=0.5, round=round + 1)
    assert through.digest == stopped.digest
    assert model_digest(through.evaluated) == model_digest(stopped.evaluated)
    assert state_digests(through.state) == state_digests(stopped.state)


@pytest.mark.parametrize(
    ("scheme", "words"),
    [
        ({"lpr_of": {"L9": 0.5}}, "lpr_of: three exchanges no unit L9; it has L1 L2 L3 H1 H2 H3"),
        ({"exchange_every": {"H4": 2}}, "exchange_every: three exchanges no unit H4"),
        ({"recycle": 6}, "recycle = 6, but three has 6 units: take fewer"),
    ],
)
def test_model_refuses_a_scheme_that_does_not_fit_it(three_depths: Blueprint, scheme, words):
    with pytest.raises(ConfigError, match=words):
        model(three_depths, **scheme)


def test_settings_refuse_a_unit_that_cannot_be():
    with pytest.raises(msgspec.ValidationError, match="matching regex"):
        msgspec.convert({"lpr_of": {"conv1": 0.5}}, SchemeSettings)
