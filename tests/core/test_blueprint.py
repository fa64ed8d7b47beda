import msgspec
import pytest

from fedlp_edge.core.blueprint import Blueprint, TensorSpec, Unit
from fedlp_edge.core.planning.device_facts import DeviceFacts


def ids(units):
    return [unit.id for unit in units]


def test_held_by_gives_the_prefix_and_its_own_head(paper_cnn: Blueprint):
    assert ids(paper_cnn.held_by(1)) == ["L1", "H1"]
    assert ids(paper_cnn.held_by(3)) == ["L1", "L2", "L3", "H3"]


def test_exchanged_by_leaves_out_personal_heads_but_the_deepest(paper_cnn: Blueprint):
    assert ids(paper_cnn.exchanged_by(2)) == ["L1", "L2"]
    assert ids(paper_cnn.exchanged_by(5)) == ["L1", "L2", "L3", "L4", "L5", "H5"]


def test_exchanged_by_includes_shared_heads(three_depths: Blueprint):
    assert ids(three_depths.exchanged_by(2)) == ["L1", "L2", "H2"]


def test_global_units_follow_the_head_mode(paper_cnn: Blueprint, three_depths: Blueprint):
    assert ids(paper_cnn.global_units) == ["L1", "L2", "L3", "L4", "L5", "H5"]
    assert ids(three_depths.global_units) == ["L1", "L2", "L3", "H1", "H2", "H3"]


@pytest.mark.parametrize("depth", [0, 6, -1])
def test_held_by_refuses_a_depth_that_is_not_there(paper_cnn: Blueprint, depth: int):
    with pytest.raises(ValueError, match=f"depth {depth} is not between 1 and 5"):
        paper_cnn.held_by(depth)


def test_parameters_leave_buffers_out_and_bytes_count_them(paper_cnn: Blueprint):
    layer = paper_cnn.by_id["L2"]
    assert layer.parameters == 18_432 + 3 * 64
    assert layer.nbytes == 4 * (18_432 + 5 * 64)


def test_digest_ignores_costs_and_follows_shapes(three_depths: Blueprint):
    cheaper = msgspec.structs.replace(
        three_depths, costs=tuple(msgspec.structs.replace(c, activation_bytes=0) for c in three_depths.costs)
    )
    other = msgspec.structs.replace(three_depths, input_shape=(5,))
    assert cheaper.digest == three_depths.digest
    assert other.digest != three_depths.digest


def test_decode_refuses_facts_that_would_overflow_later():
    report = b'{"training_memory": 1, "training_macs_per_second": 1, "samples": 1' + b"0" * 400 + b"}"
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(report, type=DeviceFacts)


@pytest.fixture
def all_exits(paper_cnn: Blueprint) -> Blueprint:
    return msgspec.structs.replace(paper_cnn, exits="all")


def test_held_by_gives_all_shallower_heads_where_all_exits_are_trained(all_exits: Blueprint):
    assert ids(all_exits.held_by(3)) == ["L1", "L2", "L3", "H1", "H2", "H3"]


def test_exit_path_needs_no_other_head(paper_cnn: Blueprint, all_exits: Blueprint):
    assert ids(paper_cnn.exit_path(3)) == ["L1", "L2", "L3", "H3"]
    assert ids(all_exits.exit_path(3)) == ["L1", "L2", "L3", "H3"]


def test_exchanged_by_keeps_all_personal_heads_at_home(all_exits: Blueprint):
    assert ids(all_exits.exchanged_by(3)) == ["L1", "L2", "L3"]
    assert ids(all_exits.exchanged_by(5)) == ["L1", "L2", "L3", "L4", "L5", "H5"]


def test_exchanged_by_includes_all_shared_heads(three_depths: Blueprint):
    shared = msgspec.structs.replace(three_depths, exits="all")
    assert ids(shared.exchanged_by(2)) == ["L1", "L2", "H1", "H2"]


def test_digest_tells_which_exits_are_trained(paper_cnn: Blueprint, all_exits: Blueprint):
    assert paper_cnn.digest != all_exits.digest


def test_held_by_gives_narrow_shapes_where_width_is_scaled(three_depths: Blueprint):
    whole = (Unit("L1", "conv", "layer", 1, (TensorSpec("L1.w", (4, 2), "trained"),)),)
    narrow = (Unit("L1", "conv", "layer", 1, (TensorSpec("L1.w", (2, 2), "trained"),)),)
    scaled = msgspec.structs.replace(three_depths, units=whole, widths=(narrow, whole), costs=three_depths.costs[:2])
    assert scaled.exchanged_by(1) == narrow
    assert scaled.exchanged_by(2) == scaled.global_units == whole
    assert scaled.nested_shapes == {"L1.w": (4, 2)}
    assert three_depths.nested_shapes == {}
    assert scaled.digest != msgspec.structs.replace(scaled, widths=(whole, whole)).digest


def test_answers_with_the_mean_of_exits_that_all_devices_teach_and_share(
    paper_cnn: Blueprint, three_depths: Blueprint, all_exits: Blueprint
):
    shared = msgspec.structs.replace(three_depths, exits="all")
    assert shared.answer == "mean"
    assert ids(shared.answer_path(2)) == ["L1", "L2", "H1", "H2"]
    assert ids(shared.downloads_of_answer(2)) == ["L1", "L2", "H1", "H2"]
    # Personal heads are on devices alone.
    assert [blueprint.answer for blueprint in (paper_cnn, three_depths, all_exits)] == ["exit"] * 3
    assert ids(all_exits.answer_path(3)) == ["L1", "L2", "L3", "H3"]


def test_judges_the_exits_that_devices_train_and_the_full_model(paper_cnn: Blueprint, three_depths: Blueprint):
    shared = msgspec.structs.replace(three_depths, exits="all")
    assert shared.judged_depths({2}) == (1, 2, 3)
    assert shared.judged_depths({1}) == (1, 3)
    assert shared.judged_depths(()) == (3,)
    assert three_depths.judged_depths({2}) == (2, 3)
    assert paper_cnn.judged_depths({1, 2}) == (paper_cnn.full_depth,)  # personal heads are not here
    # A file of depth 3 answers with the mean of all three exits, of which nobody may have trained the last two.
    assert shared.exits_for((1, 3)) == (1, 2, 3)
    assert three_depths.exits_for((1, 3)) == (1, 3)
