import numpy as np

from fedlp_edge.core.model_digest import model_digest


def array(*values: float):
    return np.array(values, dtype=np.float32)


def test_digest_is_the_same_on_every_machine():
    assert model_digest({"a": array(1.0, -2.0)}) == "112254da25d308cb815d5291dcd0ed2d2c397b7521bc88fecf4b03d10679c02f"


def test_digest_does_not_depend_on_the_order_of_tensors_or_their_memory():
    one, two = array(1.0), np.arange(6, dtype=np.float32).reshape(2, 3)
    turned = np.asfortranarray(two)
    assert model_digest({"a": one, "b": two}) == model_digest({"b": turned, "a": one})


def test_digest_follows_names_shapes_and_bits():
    models = [
        {"a": array(1.0, 2.0)},
        {"b": array(1.0, 2.0)},
        {"a": array(1.0, 2.0).reshape(2, 1)},
        {"a": array(1.0, np.nextafter(np.float32(2.0), np.float32(3.0)))},
        {"a": array(1.0), "b": array(2.0)},
        {},
    ]
    assert len({model_digest(model) for model in models}) == len(models)
