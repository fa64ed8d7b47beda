from __future__ import annotations

from fedlp_edge.transport.mqtt.paho_clients import new_client_id


def test_client_id_cannot_be_guessed_and_says_whose_it_is() -> None:
    first, second = (new_client_id("fedlp", "shop", "coordinator") for _ in range(2))

    assert first != second
    assert first.startswith("fedlp-shop-coordinator-")
    assert len(first.rpartition("-")[2]) == 20  # 80 bits


def test_client_id_of_the_longest_names_is_one_that_hosted_brokers_take() -> None:
    assert len(new_client_id("fedlp", "f" * 64, "d" * 64)) <= 128
