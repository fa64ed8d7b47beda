import torch
from torch import nn

from fedlp_edge.learning.data import Dataset, load_data
from fedlp_edge.learning.fresh_statistics import LEAST_SAMPLES, measure_statistics


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4, momentum=0.01), nn.Dropout(), nn.Linear(4, 2)
    )


def measured(net: nn.Module, data: Dataset) -> bool:
    return measure_statistics(net, data, net, lambda x: x)


def test_statistics_are_those_of_the_data_under_the_present_weights() -> None:
    net, data = model(), load_data("digits#limit=100")
    assert measured(net, data)
    x = net[1](net[0](data.batch(slice(0, 100))[0]))
    torch.testing.assert_close(net[2].running_mean, x.mean(0))
    torch.testing.assert_close(net[2].running_var, x.var(0))
    assert net[2].momentum == 0.01
    assert not any(module.training for module in net.modules())


def test_the_same_samples_give_the_same_bits_and_no_weight_changes() -> None:
    net, data = model(), load_data("digits#limit=500")
    weights = {
        name: value.clone() for name, value in net.state_dict().items() if "running" not in name and "num" not in name
    }
    measured(net, data)
    first = net[2].running_var.clone()
    measured(net, data)
    assert torch.equal(net[2].running_var, first)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in weights.items())


def test_frozen_norms_and_few_samples_are_left_alone() -> None:
    net = model()
    assert not measured(net, load_data(f"digits#limit={LEAST_SAMPLES - 1}"))
    net[2].requires_grad_(False)
    assert not measured(net, load_data("digits#limit=100"))
    assert net[2].running_var.tolist() == [1.0] * 4
