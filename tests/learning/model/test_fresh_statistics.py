import torch
from torch import nn

from fedlp_edge.learning.data.dataset import Dataset, load_data
from fedlp_edge.learning.model.fresh_statistics import MIN_SAMPLES_FOR_STATISTICS, batches, measure_statistics


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4, momentum=0.01), nn.Dropout(), nn.Linear(4, 10)
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
    assert not measured(net, load_data(f"digits#limit={MIN_SAMPLES_FOR_STATISTICS - 1}"))
    net[2].requires_grad_(False)
    assert not measured(net, load_data("digits#limit=100"))
    assert net[2].running_var.tolist() == [1.0] * 4


def by_class(*samples: int) -> Dataset:
    """So many samples of each class, one class after the other, as a folder gives them; each says its class."""
    y = torch.repeat_interleave(torch.arange(len(samples)), torch.tensor(samples))
    return Dataset.of_tensor(nn.functional.one_hot(y, len(samples)).float(), y, (), scale=1.0, mean=(0.0,), std=(1.0,))


def test_samples_sorted_by_class_count_alike_up_to_the_last() -> None:
    norm, data = nn.BatchNorm1d(3), by_class(130, 130, 130)
    assert measured(norm, data)
    torch.testing.assert_close(norm.running_mean, torch.full((3,), 1 / 3), rtol=1e-3, atol=0)
    torch.testing.assert_close(norm.running_var, torch.full((3,), 2 / 9), rtol=0.02, atol=0)


def test_samples_of_one_class_leave_averages_that_answer_right() -> None:
    norm = nn.BatchNorm1d(3)
    norm.running_mean, norm.running_var = torch.full((3,), 1 / 3), torch.full((3,), 2 / 9)
    assert not measured(norm, by_class(0, 40, 0))
    assert norm.running_mean.tolist() == torch.full((3,), 1 / 3).tolist()
    assert norm.running_var.tolist() == torch.full((3,), 2 / 9).tolist()
    assert not norm.training


def test_samples_of_two_classes_replace_averages_that_answer_wrong() -> None:
    norm = nn.BatchNorm1d(3)
    norm.running_mean = torch.tensor([0.0, 500.0, 500.0])
    assert measured(norm, by_class(40, 40, 0))
    assert norm.running_mean.tolist() == [0.5, 0.5, 0.0]


def test_batches_leave_nothing_out_and_are_of_one_size() -> None:
    made = list(batches(torch.arange(300)))
    assert [len(batch) for batch in made] == [100, 100, 100]
    assert sorted(torch.cat(made).tolist()) == list(range(300))
    assert made[0][:3].tolist() == [0, 3, 6]
