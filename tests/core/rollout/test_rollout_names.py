"""A roll-out is told from the run of a coordinator by its name."""

from __future__ import annotations

from fedlp_edge.core.rollout.rollout_names import is_rollout, rollout_run


def test_roll_outs_are_told_from_runs() -> None:
    assert rollout_run("spring-1c9e0b7a", "3f2a91") == "deploy-spring-1c9e0b7a-3f2a91"
    assert is_rollout(rollout_run("spring-1c9e0b7a", "3f2a91"))
    assert is_rollout(rollout_run("x" * 60, "3f2a91"))
    assert not is_rollout("shop-3f2a91")
    assert not is_rollout("deploy-shop")
