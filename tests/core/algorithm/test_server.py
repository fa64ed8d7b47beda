import numpy as np
import pytest

from fedlp_edge.core.algorithm import server
from fedlp_edge.core.algorithm.server_state import ServerState
from fedlp_edge.core.settings import ServerSettings

NO_STATISTICS = frozenset[str]()


def array(*values: float):
    return np.array(values, dtype=np.float32)


def moments(state: ServerState):
    return [*state.first_moments.values(), *state.second_moments.values()]


def steps(settings: ServerSettings, means, statistics=NO_STATISTICS):
    """Values of tensor ``a`` from 0, step by step."""
    weights, state, values = {"a": array(0.0)}, ServerState(), []
    for mean in means:
        weights, state = server.apply(settings, state, weights, {} if mean is None else {"a": array(mean)}, statistics)
        values.append(float(weights["a"][0]))
    return values


def test_apply_adds_the_mean_when_plain():
    weights = {"a": array(1.0, 2.0), "b": array(3.0)}
    new, state = server.apply(ServerSettings(), ServerState(), weights, {"a": array(0.5, -1.0)}, NO_STATISTICS)
    assert new["a"].tolist() == [1.5, 1.0]
    assert new["b"] is weights["b"]
    assert state == ServerState()


def test_apply_scales_the_plain_step():
    assert steps(ServerSettings(lr=0.5), [1.0, 1.0]) == [0.5, 1.0]


def test_apply_gathers_momentum():
    # m: 1, 0.5 * 1 + 1 = 1.5, 0.5 * 1.5 + 0 = 0.75; each times 0.1.
    settings = ServerSettings(optimizer="momentum", lr=0.1, momentum=0.5)
    assert steps(settings, [1.0, 1.0, 0.0]) == pytest.approx([0.1, 0.25, 0.325])


def test_apply_takes_adam_steps():
    # m: 0.5 * 1 = 0.5, then 0.5 * 0.5 + 0.5 * 3 = 1.75.
    # v: 0.25 * 1 = 0.25, then 0.75 * 0.25 + 0.25 * 9 = 2.4375.
    # steps: 0.5 / (0.5 + 0.5) = 0.5, then 1.75 / (1.5612495 + 0.5) = 0.8489996.
    settings = ServerSettings(optimizer="adam", lr=1.0, beta1=0.5, beta2=0.75, epsilon=0.5)
    assert steps(settings, [1.0, 3.0]) == pytest.approx([0.5, 1.3489996])


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_apply_keeps_value_and_moments_of_a_tensor_that_nobody_sent(optimizer):
    settings = ServerSettings(optimizer=optimizer, lr=0.1)
    with_silence, without = steps(settings, [1.0, None, None, 2.0]), steps(settings, [1.0, 2.0])
    assert with_silence == [without[0], without[0], without[0], without[1]]


@pytest.mark.parametrize("optimizer", ["plain", "momentum", "adam"])
def test_apply_puts_the_mean_in_the_place_of_a_statistic(optimizer):
    settings = ServerSettings(optimizer=optimizer, lr=0.1)
    assert steps(settings, [1.0, 1.0, 0.25], statistics=frozenset({"a"})) == [1.0, 1.0, 0.25]


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_apply_changes_nothing_that_it_was_given(optimizer):
    settings = ServerSettings(optimizer=optimizer)
    weights, state = server.apply(settings, ServerState(), {"a": array(1.0)}, {"a": array(1.0)}, NO_STATISTICS)
    before = [value.tobytes() for value in (*weights.values(), *moments(state))]
    server.apply(settings, state, weights, {"a": array(5.0)}, NO_STATISTICS)
    assert [value.tobytes() for value in (*weights.values(), *moments(state))] == before


@pytest.mark.parametrize("optimizer", ["plain", "momentum", "adam"])
def test_apply_gives_float32_arrays_even_of_scalars(optimizer):
    scalar = np.array(1.0, dtype=np.float32)
    settings = ServerSettings(optimizer=optimizer, lr=0.5)
    weights, state = server.apply(settings, ServerState(), {"a": scalar}, {"a": scalar}, NO_STATISTICS)
    for value in (*weights.values(), *moments(state)):
        assert isinstance(value, np.ndarray)
        assert (value.dtype, value.shape) == (np.float32, ())


def test_apply_goes_on_from_saved_state():
    settings = ServerSettings(optimizer="adam")
    weights, state = {"a": array(0.0)}, ServerState()
    for mean in (1.0, 2.0, 3.0):
        first, second = (
            {name: np.frombuffer(value.tobytes(), dtype=np.float32) for name, value in table.items()}
            for table in (state.first_moments, state.second_moments)
        )
        state = ServerState(first, second)
        weights, state = server.apply(settings, state, weights, {"a": array(mean)}, NO_STATISTICS)
    assert float(weights["a"][0]) == steps(settings, [1.0, 2.0, 3.0])[-1]
