import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedlp_edge.core.blueprint import Blueprint, DepthCost, TensorSpec, Unit
from fedlp_edge.core.planning.device_facts import DeviceFacts
from fedlp_edge.core.planning.planner import Plan, fleet_broadcast, plan
from fedlp_edge.core.planning.prediction import training_memory
from fedlp_edge.core.planning.rules import PlanningRules
from fedlp_edge.core.settings import PlannerSettings, SchemeSettings, TrainingSettings, UpdateSettings

MIB = 1 << 20
PLENTY = 10**12

# 1000 samples at 1000 MACs per microsecond: 3, 6, 9 seconds for the three depths.
FACTS = DeviceFacts(training_memory=PLENTY, training_macs_per_second=1e9, samples=1000)
TRAINING = TrainingSettings(batch_size=10, momentum=0.9)


def facts(**changes) -> DeviceFacts:
    return msgspec.structs.replace(FACTS, **changes)


def choose(
    blueprint: Blueprint,
    device: DeviceFacts = FACTS,
    deadline: float = 100.0,
    encoding="none",
    ceiling=0,
    broadcast="none",
    **scheme,
):
    rules = PlanningRules(
        SchemeSettings(**scheme),
        UpdateSettings(encoding=encoding, broadcast=broadcast),
        PlannerSettings(memory_margin=0.0, techniques=()),
        TRAINING,
        deadline,
    )
    return plan(device, blueprint, rules, ceiling)


def test_training_memory_counts_state_and_activations():
    cost = DepthCost(depth=1, parameters=1000, forward_macs=0, activation_bytes=100)
    # Weights, copy, gradient and momentum: 16,000 bytes; activations of ten samples: 1,000; times 1.7.
    assert training_memory(cost, TRAINING) == MIB + 28_900
    assert training_memory(cost, TrainingSettings(batch_size=10, momentum=0.0)) == MIB + 22_100
    assert training_memory(cost, TrainingSettings(batch_size=10, optimizer="adam")) == MIB + 35_700


def test_plan_gives_full_depth_when_everything_fits(three_depths: Blueprint):
    chosen = choose(three_depths)
    assert (chosen.depth, chosen.lpr, chosen.seconds) == (3, 1.0, 9.0)
    assert chosen.memory_bytes == training_memory(three_depths.costs[2], TRAINING)
    assert chosen.explanation == "depth 3 of 3: 3.7 MB of 1000000 MB for training, 9.0 s a round"


def test_plan_gives_the_deepest_prefix_that_fits_the_memory(three_depths: Blueprint):
    needs = [training_memory(cost, TRAINING) for cost in three_depths.costs]
    for depth, need in enumerate(needs, start=1):
        assert choose(three_depths, facts(training_memory=need)).depth == depth
        assert choose(three_depths, facts(training_memory=need - 1)).depth == depth - 1


def test_plan_says_what_memory_a_deeper_prefix_would_need(three_depths: Blueprint):
    chosen = choose(three_depths, facts(training_memory=3_000_000))
    assert chosen.explanation == (
        "depth 2 of 3: 2.8 MB of 3.0 MB for training, 6.0 s a round; depth 3 needs 3.7 MB for training, 3.0 MB are free"
    )


def test_plan_gives_depth_nought_when_nothing_fits(three_depths: Blueprint):
    chosen = choose(three_depths, facts(training_memory=MIB))
    assert (chosen.depth, chosen.lpr, chosen.memory_bytes, chosen.seconds) == (0, 0.0, 0, 0.0)
    assert chosen.explanation == "nothing fits: depth 1 needs 1.9 MB for training, 1.0 MB are free"


def test_plan_gives_less_depth_to_a_device_too_slow_for_the_deadline(three_depths: Blueprint):
    # A deadline of 10 s leaves 8 s: depth 3 takes 9.
    chosen = choose(three_depths, deadline=10.0)
    assert (chosen.depth, chosen.seconds) == (2, 6.0)
    assert chosen.explanation.endswith("; depth 3 takes 9.0 s a round, 8.0 s are planned")


def test_plan_counts_epochs(three_depths: Blueprint):
    chosen = plan(FACTS, three_depths, PlanningRules(training=TrainingSettings(batch_size=10, epochs=2)))
    assert chosen.seconds == 18.0


def test_plan_counts_both_ways_of_a_link(three_depths: Blueprint):
    # 12,040 bytes at depth 3 take 12.04 s each way; half of them return.
    chosen = choose(three_depths, facts(link_bytes_per_second=1000.0), lpr=0.5)
    assert chosen.seconds == pytest.approx(9.0 + 12.04 * 1.5)
    assert ", link 1.0 kB/s, 27.1 s a round, uploads 50% of its layers" in chosen.explanation


def test_plan_does_not_mention_a_link_that_does_not_matter(three_depths: Blueprint):
    assert choose(three_depths, facts(link_bytes_per_second=1e7)).explanation == choose(three_depths).explanation


def test_plan_knows_no_time_for_a_device_of_unknown_speed(three_depths: Blueprint):
    chosen = choose(three_depths, facts(training_macs_per_second=0.0), deadline=1.0)
    assert (chosen.depth, chosen.seconds) == (3, 0.0)
    assert "a round" not in chosen.explanation


def test_plan_fits_an_automatic_rate_to_the_link(three_depths: Blueprint):
    # 40 s are planned: 9 to train, 12.04 down, leaving 18.96 for the way up: all of it.
    assert choose(three_depths, facts(link_bytes_per_second=1000.0), deadline=50.0, lpr="auto").lpr == 1.0
    # 24 s are planned: 2.96 are left for 12.04, which is 0.2458; steps of 0.05.
    chosen = choose(three_depths, facts(link_bytes_per_second=1000.0), deadline=30.0, lpr="auto")
    assert (chosen.depth, chosen.lpr) == (3, 0.2)


def test_plan_gives_up_depth_before_the_automatic_rate_starves(three_depths: Blueprint):
    # 21.6 s are planned: 0.56 are left at depth 3, less than a tenth; at depth 2, 7.56 of 8.04.
    chosen = choose(three_depths, facts(link_bytes_per_second=1000.0), deadline=27.0, lpr="auto")
    assert (chosen.depth, chosen.lpr) == (2, 0.9)
    assert chosen.explanation.endswith("; depth 3 takes 22.2 s a round, 21.6 s are planned")


def test_plan_gives_rate_one_without_a_known_link(three_depths: Blueprint):
    assert choose(three_depths, lpr="auto").lpr == 1.0


@pytest.mark.parametrize(
    ("link", "encoding", "lpr"),
    [
        # 12,040 bytes down, and as many up, half or a quarter of them; 15 s are left after training.
        (None, "none", 1.0),
        (1700.0, "none", 1.0),  # 7.08 + 7.08
        (1300.0, "fp16", 1.0),  # 9.26 + 4.63
        (1100.0, "int8+zstd", 1.0),  # 10.95 + 2.74
        (900.0, "int8+zstd", 0.45),  # 13.38, and 1.62 of 3.34
    ],
)
def test_plan_sends_fewer_digits_before_fewer_layers(three_depths: Blueprint, link, encoding: str, lpr: float):
    chosen = choose(three_depths, facts(link_bytes_per_second=link), deadline=30.0, lpr="auto", encoding="auto")
    assert (chosen.depth, chosen.encoding, chosen.lpr) == (3, encoding, lpr)
    exact = 9 + 2 * 12_040 / link if link else 9.0
    why = f", sends {encoding} (as float32 a round takes {exact:.1f} s, 24.0 s are planned)"
    # Where the rate is cut as well, that is said of the round as it is cut.
    assert encoding == "none" or lpr < 1 or chosen.explanation.endswith(why)
    assert (f", sends {encoding}" in chosen.explanation) == (encoding != "none")


def test_plan_sends_fewer_digits_before_it_gives_up_depth(three_depths: Blueprint):
    # As float32 the round would take 9 + 2 * 10.95 s of the 24 that are planned.
    device = facts(link_bytes_per_second=1100.0)
    assert choose(three_depths, device, deadline=30.0).depth == 2
    chosen = choose(three_depths, device, deadline=30.0, encoding="auto")
    assert (chosen.depth, chosen.encoding, chosen.lpr) == (3, "int8+zstd", 1.0)
    assert chosen.seconds == pytest.approx(9.0 + 12_040 / 1100 * 1.25)


def test_plan_counts_statistics_as_float32(paper_cnn: Blueprint):
    device = facts(training_macs_per_second=0.0, link_bytes_per_second=1.0)
    seconds = [
        choose(paper_cnn, device, 1.0, encoding, depth=1).seconds
        for encoding in ("none", "fp16", "int8", "none+zstd", "int8+zstd")
    ]
    # 10,272 parameters, and 128 numbers of statistics that no encoding touches.
    down = 41_600
    assert seconds == [down + up for up in (41_600, 21_056, 10_784, 41_600, 10_784)]


@pytest.mark.parametrize("encoding", ["fp16", "int8+zstd"])
def test_plan_follows_a_dictated_encoding(three_depths: Blueprint, encoding: str):
    chosen = choose(three_depths, encoding=encoding)
    assert (chosen.encoding, chosen.explanation.endswith(f", sends {encoding}")) == (encoding, True)
    dictated = choose(three_depths, encoding=encoding, depth=2)
    assert dictated.explanation == f"depth 2 of 3 for every device, as configured, sends {encoding}"


@pytest.mark.parametrize(("depth", "given_depth"), [("full", 3), (1, 1), (3, 3), (9, 3)])
def test_plan_follows_a_dictated_depth(three_depths: Blueprint, depth, given_depth: int):
    chosen = choose(three_depths, facts(training_memory=0), depth=depth)
    assert chosen.depth == given_depth
    assert chosen.explanation == f"depth {given_depth} of 3 for every device, as configured"


def test_plan_leaves_out_who_cannot_bear_everything(three_depths: Blueprint):
    """Who can bear two of three layers takes part with ``auto`` and not with ``only-full``."""
    enough, scarce = facts(), facts(link_bytes_per_second=1100.0)
    assert [choose(three_depths, device, deadline=30.0).depth for device in (enough, scarce)] == [3, 2]
    assert [choose(three_depths, device, deadline=30.0, depth="only-full").depth for device in (enough, scarce)] == [
        3,
        0,
    ]


ABSURD = st.sampled_from([0.0, 5e-324, 1e-310, 1e-3, 1.0, 1e300, 1.7e308])


@given(ABSURD, ABSURD, st.sampled_from([0, 1, 2**53]), st.sampled_from([0, 2**53]))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_plan_answers_whatever_a_device_reports(three_depths, speed, link, samples: int, memory: int):
    device = facts(training_macs_per_second=speed, link_bytes_per_second=link, samples=samples, training_memory=memory)
    for encoding in ("none", "auto"):
        chosen = choose(three_depths, device, lpr="auto", encoding=encoding)
        assert 0 <= chosen.depth <= 3
        assert 0 <= chosen.lpr <= 1


growth = st.floats(1.0, 100.0)


@given(
    memory=st.integers(10**6, 5 * 10**6),
    speed=st.floats(1e7, 1e10),
    link=st.floats(10.0, 1e6) | st.none(),
    lpr=st.sampled_from([1.0, 0.5, "auto"]),
    encoding=st.sampled_from(["none", "int8", "auto"]),
    deadline=st.floats(1.0, 300.0),
    more=st.tuples(growth, growth, growth),
)
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_plan_never_gives_less_depth_to_a_better_device(
    three_depths, *, memory, speed, link, lpr, encoding, deadline, more
):
    device = facts(training_memory=memory, training_macs_per_second=speed, link_bytes_per_second=link)
    better = facts(
        training_memory=int(memory * more[0]),
        training_macs_per_second=speed * more[1],
        link_bytes_per_second=link and link * more[2],
    )
    before = choose(three_depths, device, deadline=deadline, lpr=lpr, encoding=encoding)
    after = choose(three_depths, better, deadline=deadline, lpr=lpr, encoding=encoding)
    assert after.depth >= before.depth
    assert before.seconds <= 0.8 * deadline * (1 + 1e-9)


@pytest.mark.parametrize(
    ("models_in_time", "encoding", "broadcast"),
    [
        (None, "none", "none"),
        (2.0, "none", "none"),
        (1.1, "fp16", "fp16"),
        (0.6, "int8+zstd", "int8+zstd"),
        (0.1, "int8+zstd", "int4+zstd"),
    ],
)
def test_plan_has_the_model_come_in_what_the_link_bears(
    paper_cnn: Blueprint, models_in_time, encoding: str, broadcast: str
):
    model = sum(unit.nbytes for unit in paper_cnn.exchanged_by(5))
    link = None if models_in_time is None else 1.01 * models_in_time * model / 80
    device = facts(link_bytes_per_second=link, training_macs_per_second=0.0)
    chosen = choose(paper_cnn, device, encoding="auto", broadcast="auto", depth="full")
    assert (chosen.encoding, chosen.broadcast) == (encoding, broadcast)
    assert (f", needs the model as {broadcast}" in chosen.explanation) == (broadcast != "none")


def test_the_device_that_needs_the_fewest_bytes_decides_how_the_model_travels(paper_cnn: Blueprint):
    plans = [Plan(2, 1.0, "", 0, 0.0, broadcast="none"), Plan(1, 1.0, "", 0, 0.0, broadcast="int8+zstd")]
    assert fleet_broadcast(plans, paper_cnn) == "int8+zstd"
    unfit = Plan(0, 0.0, "bears nothing", 0, 0.0, broadcast="int4+zstd")
    assert fleet_broadcast([*plans, unfit], paper_cnn) == "int8+zstd"
    assert fleet_broadcast([], paper_cnn) == "none"


def flat(*shapes: tuple[int, ...]) -> Blueprint:
    """A layer of each shape, and a head of one dimension for each depth."""
    units = [Unit(f"L{n}", f"l{n}", "layer", n, (TensorSpec(f"L{n}.w", shape),)) for n, shape in enumerate(shapes, 1)]
    units += [Unit(f"H{n}", f"h{n}", "head", n, (TensorSpec(f"H{n}.w", (2,)),)) for n in range(1, len(shapes) + 1)]
    costs = tuple(DepthCost(depth, 100 * depth, 1, 1) for depth in range(1, len(shapes) + 1))
    return Blueprint("flat", (1,), 2, "shared", tuple(units), costs)


@pytest.mark.parametrize("encoding", ["none", "auto"])
def test_plan_rounds_nothing_that_saves_no_byte(encoding: str):
    # Vectors are float32 as int8 and int4, so fp16 is the smallest there is.
    device = facts(link_bytes_per_second=1.0, training_macs_per_second=0.0)
    chosen = choose(flat((100,)), device, broadcast="auto", encoding=encoding, depth="full")
    assert chosen.broadcast == "fp16"
    assert chosen.encoding == ("int8+zstd" if encoding == "auto" else "none")


def test_fleet_takes_the_encoding_that_is_small_enough_for_all():
    blueprint = flat((1000,), (50, 100))
    vectors = Plan(1, 1.0, "", 0, 0.0, broadcast="fp16")
    # At depth 1, 2,004 bytes as fp16 and 4,008 as integers; at depth 2, 12,004 as fp16 and 9,208 as int8.
    assert fleet_broadcast([vectors, Plan(2, 1.0, "", 0, 0.0, broadcast="fp16")], blueprint) == "fp16"
    assert fleet_broadcast([vectors, Plan(2, 1.0, "", 0, 0.0, broadcast="int8+zstd")], blueprint) == "fp16"
    assert fleet_broadcast([Plan(2, 1.0, "", 0, 0.0, broadcast="int8+zstd")], blueprint) == "int8+zstd"


@pytest.mark.parametrize("link", [None, 1e9])
def test_metered_link_carries_eight_bits_though_there_is_time_for_more(three_depths: Blueprint, link: float | None):
    device = facts(metered=True, link_bytes_per_second=link)
    chosen = choose(three_depths, device, encoding="auto", broadcast="auto")
    # Integers save this model's values of one dimension nothing on the way down.
    assert (chosen.encoding, chosen.broadcast, chosen.lpr) == ("int8+zstd", "fp16", 1.0)
    assert chosen.explanation.endswith(", sends int8+zstd, needs the model as fp16 (its link is metered)")
    dictated = choose(three_depths, device, encoding="fp16")
    assert (dictated.encoding, dictated.broadcast) == ("fp16", "none")


def test_plan_says_that_nothing_is_known_of_a_link(three_depths: Blueprint):
    chosen = choose(three_depths, encoding="auto")
    assert chosen.encoding == "none"
    assert chosen.explanation.endswith(", 9.0 s a round (as float32, since nothing is known of its link)")
    assert "nothing is known" not in choose(three_depths, facts(link_bytes_per_second=1e9), encoding="auto").explanation
    assert "nothing is known" not in choose(three_depths).explanation
