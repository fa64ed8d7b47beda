"""Whatever fails in a fast way is trained again in a plainer one, and what comes out is the plain way's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest
import torch
from torch import Tensor, nn

from fedlp_edge.core.settings import ComputeMode, MemorySaving, ModelSettings, TrainingSettings
from fedlp_edge.errors import DataError
from fedlp_edge.learning import torch_device
from fedlp_edge.learning.data.dataset import Dataset
from fedlp_edge.learning.memory.limits import KERNEL_BYTES, is_out_of_memory, kernel_space
from fedlp_edge.learning.model.layered import LayeredModel, Submodel
from fedlp_edge.learning.training import optimizers
from fedlp_edge.learning.training.compute_cache import ComputeCache
from fedlp_edge.learning.training.compute_modes import COMPUTE
from fedlp_edge.learning.training.compute_trial import TOO_LITTLE_MEMORY, try_out
from fedlp_edge.learning.training.fallback import Execution, FailedAttempt, fallback_for, train_with_fallbacks
from fedlp_edge.learning.training.loop import TrainingOutcome, train_round

CPU = torch.device("cpu")
MODEL = ModelSettings(name="own:net", input=(1, 8, 8))
PRIMITIVE = "could not create a primitive"


def pictures(count: int = 23) -> Dataset:
    """Two whole batches of 8 and a last one of 7."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(count, 1, 8, 8, generator=generator)
    return Dataset.of_tensor(x, torch.arange(count) % 4, tuple("abcd"), scale=1.0, mean=(0.0,), std=(1.0,))


class Sequence(nn.Module):
    """Rows of a picture as a sequence for a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, 6, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.lstm(x.flatten(1, 2))[0].flatten(1)  # type: ignore[no-any-return]


class Looked(nn.Module):
    """Pixels as numbers of an embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.embedding((x.flatten(1) * 2).long().clamp(0, 3)).flatten(1)  # type: ignore[no-any-return]


KINDS: dict[str, Callable[[], nn.Module]] = {
    "convolution": lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten()),
    "depthwise convolution": lambda: nn.Sequential(
        nn.Conv2d(1, 4, 3, groups=1), nn.Conv2d(4, 4, 3, groups=4), nn.Flatten()
    ),
    "transposed convolution": lambda: nn.Sequential(nn.ConvTranspose2d(1, 2, 2), nn.Flatten()),
    "linear": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 8)),
    "batch norm": lambda: nn.Sequential(nn.BatchNorm2d(1), nn.Flatten()),
    "layer norm": lambda: nn.Sequential(nn.LayerNorm(8), nn.Flatten()),
    "max pool": lambda: nn.Sequential(nn.Conv2d(1, 2, 3), nn.MaxPool2d(2), nn.Flatten()),
    "average pool": lambda: nn.Sequential(nn.AvgPool2d(2), nn.Flatten()),
    "lstm": Sequence,
    "embedding": Looked,
    "activation": lambda: nn.Sequential(nn.GELU(), nn.Flatten()),
}


class Net(nn.Module):
    """Some layers and a classifier."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.layers = KINDS[kind]()
            self.head = nn.LazyLinear(4)
            with torch.no_grad():
                self(torch.zeros(2, 1, 8, 8))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layers(x))  # type: ignore[no-any-return]


def is_channels_last(x: Tensor) -> bool:
    return x.dim() == 4 and x.stride(1) == 1 and x.shape[2] > 1


Where = Callable[[nn.Module, Tensor], bool]
FAST: dict[ComputeMode, Where] = {
    "bfloat16": lambda _layer, _x: torch.is_autocast_enabled("cpu"),
    "float32-channels-last": lambda layer, x: len(x) == 7 and _of_a_mode(layer),
    "bfloat16-channels-last": lambda layer, x: len(x) == 7 and torch.is_autocast_enabled("cpu"),
}


def _of_a_mode(layer: nn.Module) -> bool:
    return _mode == "float32-channels-last" and bool(layer)


_mode: ComputeMode = "float32"


@contextmanager
def planted(model: nn.Module, where: Where, failure: Callable[[], object]) -> Iterator[None]:
    """Within the block the first layer that is no container fails wherever ``where`` says."""
    layer = next(m for m in model.modules() if not list(m.children()) and m is not model)

    def fail(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        if where(module, inputs[0]):
            failure()

    handle = layer.register_forward_pre_hook(fail)
    try:
        yield
    finally:
        handle.remove()


def raising(error: Exception) -> Callable[[], object]:
    def throw() -> None:
        raise error

    return throw


def train(
    model: nn.Module, execution: Execution, data: Dataset, **settings: object
) -> tuple[TrainingOutcome, Execution, tuple[FailedAttempt, ...]]:
    """As a worker does it."""
    start = {name: value.clone() for name, value in model.state_dict().items()}
    plan = TrainingSettings(batch_size=8, **settings)  # type: ignore[arg-type]

    def attempt(way: Execution) -> TrainingOutcome:
        global _mode  # noqa: PLW0603 - a layer cannot see the mode that it computes in
        _mode = way.compute
        model.load_state_dict(start)
        return train_round(model, data, way.of(plan), seed=3, device=CPU, fused=way.fused)

    return train_with_fallbacks(execution, attempt)


def same(one: nn.Module, other: nn.Module) -> bool:
    return all(value.equal(other.state_dict()[name]) for name, value in one.state_dict().items())


@pytest.mark.parametrize("mode", FAST)
@pytest.mark.parametrize("kind", KINDS)
def test_planted_failure_of_a_mode_is_survived_in_the_round(kind: str, mode: ComputeMode) -> None:
    model, reference = Net(kind), Net(kind)
    with planted(model, FAST[mode], raising(RuntimeError(PRIMITIVE))):
        outcome, used, failed_attempts = train(model, Execution(mode), pictures())
    plain, _, none = train(reference, Execution(), pictures())
    assert used == Execution("float32")
    (failed,) = failed_attempts
    assert failed.execution.compute == mode
    # Not every processor has the primitive in the first place: then that is what failed.
    assert failed.reason.startswith(f"RuntimeError: {PRIMITIVE}")
    assert none == ()
    assert (outcome.compute, outcome.loss, outcome.seen) == ("float32", plain.loss, plain.seen)
    assert same(model, reference)
    assert all(parameter.is_contiguous() for parameter in model.parameters())


@pytest.mark.parametrize(
    "failure",
    [MemoryError(), NotImplementedError('"slow_conv2d" not implemented for BFloat16'), ValueError("x"), KeyError("y")],
)
def test_whatever_a_mode_raises_is_survived(failure: Exception) -> None:
    model, reference = Net("convolution"), Net("convolution")
    with planted(model, FAST["bfloat16"], raising(failure)):
        _, used, _ = train(model, Execution("bfloat16"), pictures())
    train(reference, Execution(), pictures())
    assert used.compute == "float32"
    assert same(model, reference)


class Spoilt(nn.Module):
    """Its answers in bfloat16 are no numbers."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.linear = nn.Linear(64, 4)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.linear(x.flatten(1))
        return logits * math.nan if logits.dtype == torch.bfloat16 else logits


def test_loss_that_is_no_number_is_survived() -> None:
    model, reference = Spoilt(), Spoilt()
    _, used, failed_attempts = train(model, Execution("bfloat16"), pictures())
    train(reference, Execution(), pictures())
    assert (used.compute, failed_attempts[0].reason) == ("float32", "its loss is not a number")
    assert same(model, reference)


def test_failure_in_float32_is_the_failure() -> None:
    model = Net("linear")
    with (
        planted(model, lambda _layer, _x: True, raising(RuntimeError("shapes"))),
        pytest.raises(RuntimeError, match="shapes"),
    ):
        train(model, Execution("bfloat16"), pictures())


def test_unusable_data_are_not_trained_on_twice() -> None:
    tries = []

    def attempt(way: Execution) -> None:
        tries.append(way)
        raise DataError("one sample")

    with pytest.raises(DataError):
        train_with_fallbacks(Execution("bfloat16"), attempt)
    assert len(tries) == 1


def layered(layer: nn.Module) -> Submodel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        head = nn.Sequential(nn.Flatten(), nn.Linear(64, 4))
        return LayeredModel([("one", layer)], [("head", head)], torch.zeros(1, 1, 8, 8), classes=4).submodel(1)


class NotTwice(nn.Module):
    """Cannot be computed again for the backward pass, as a layer with a state of its own cannot."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.armed = False

    def forward(self, x: Tensor) -> Tensor:
        if self.armed and not torch.is_grad_enabled():
            raise RuntimeError("element 0 of tensors does not require grad")
        return x * self.scale


def test_technique_that_fails_is_left_out() -> None:
    def made(*, armed: bool) -> Submodel:
        model = layered(NotTwice())
        for layer in model.modules():
            if isinstance(layer, NotTwice):
                layer.armed = armed
        return model

    model, reference = made(armed=True), made(armed=False)
    memory_saving = MemorySaving(checkpointing=True)
    _, used, failed_attempts = train(model, Execution(memory_saving=memory_saving), pictures())
    train(reference, Execution(fused=False), pictures())
    assert used == Execution(memory_saving=MemorySaving(), fused=False)
    assert failed_attempts[0].execution.memory_saving.checkpointing
    assert same(model, reference)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_fused_optimizer_that_fails_is_replaced_by_plain_operations(
    optimizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = Net("convolution")
    settings = {"optimizer": optimizer, "weight_decay": 0.01, "lr": 0.01, "epochs": 2}
    train(reference, Execution(), pictures(), **settings)

    def fused(*_: object, **__: object) -> None:
        raise NotImplementedError("no fused kernel")

    monkeypatch.setattr(optimizers.torch, f"_fused_{optimizer}_", fused)  # type: ignore[attr-defined]
    model = Net("convolution")
    _, used, _ = train(model, Execution(), pictures(), **settings)
    assert not used.fused
    for mine, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)


def test_sparse_gradients_are_trained_by_plain_operations() -> None:
    def net(*, sparse: bool) -> Net:
        model = Net("embedding")
        model.layers.embedding.sparse = sparse
        return model

    model, reference = net(sparse=True), net(sparse=False)
    train(model, Execution(), pictures())
    train(reference, Execution(fused=False), pictures())
    for mine, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize(
    ("way", "short", "diverged", "following"),
    [
        (Execution("bfloat16"), False, False, Execution()),
        (Execution("bfloat16"), True, False, Execution()),
        (Execution(), True, False, Execution(memory_saving=MemorySaving("exact"))),
        (Execution(memory_saving=MemorySaving("exact", 4, True)), True, False, None),
        (
            Execution(memory_saving=MemorySaving("exact", 4, True)),
            False,
            False,
            Execution(memory_saving=MemorySaving("exact"), fused=False),
        ),
        (
            Execution(memory_saving=MemorySaving("exact", 4, True)),
            False,
            True,
            Execution(memory_saving=MemorySaving("exact")),
        ),
        (Execution(), False, True, None),
        (Execution(fused=False), False, False, None),
    ],
)
def test_plainer_gives_up_what_may_be_to_blame(
    way: Execution, short: bool, diverged: bool, following: Execution | None
) -> None:
    assert fallback_for(way, short=short, diverged=diverged) == following


@pytest.mark.parametrize("words", [PRIMITIVE, "could not execute a primitive", "can't start new thread"])
def test_failed_primitives_are_want_of_memory_under_a_limit_alone(words: str) -> None:
    assert is_out_of_memory(RuntimeError(words), limited=True)
    assert not is_out_of_memory(RuntimeError(words))


def test_kernels_of_convolutions_have_room_that_is_no_memory() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Flatten(), nn.Linear(8, 2), nn.Conv1d(1, 2, 3))
    assert kernel_space(model) == 2 * KERNEL_BYTES


def test_want_of_memory_is_known_by_what_an_error_came_of() -> None:
    error = DataError("cannot read the model state")
    error.__context__ = OSError(12, "Cannot allocate memory")
    assert is_out_of_memory(error)


def test_trial_refuses_a_mode_that_fails_on_the_last_batch_or_on_one_sample() -> None:
    for size in (7, 1):
        model = Net("convolution")
        where: Where = lambda _layer, x, size=size: len(x) == size and torch.is_autocast_enabled("cpu")  # noqa: E731
        with planted(model, where, raising(RuntimeError(PRIMITIVE))):
            choice = try_out(model, pictures(), TrainingSettings(batch_size=8), CPU, ("float32", "bfloat16"))
        assert choice.refused == {"bfloat16": f"RuntimeError: {PRIMITIVE}"}


def test_trial_asks_no_mode_for_a_batch_that_float32_does_not_bear() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4))
    choice = try_out(model, pictures(), TrainingSettings(batch_size=8), CPU, ("float32", "float32-channels-last"))
    assert choice.refused == {}


def test_trial_works_within_the_limit_of_training() -> None:
    entered = []

    @contextmanager
    def limit() -> Iterator[None]:
        entered.append(True)
        yield

    model = Net("convolution")
    with planted(model, FAST["bfloat16"], raising(RuntimeError(PRIMITIVE))):
        choice = try_out(model, pictures(), TrainingSettings(batch_size=8), CPU, ("float32", "bfloat16"), limit=limit)
    assert choice.refused == {"bfloat16": TOO_LITTLE_MEMORY}
    assert len(entered) >= 2


def test_choices_do_not_take_again_what_failed_but_do_where_there_is_more_memory(tmp_path: Path) -> None:
    training = TrainingSettings(batch_size=8, compute="bfloat16")

    def way(choices: ComputeCache, budget: int | None) -> Execution:
        return choices.execution(Net("linear"), pictures(), training, MODEL, 1, budget=budget)

    choices = ComputeCache(CPU, tmp_path)
    assert way(choices, 1000).compute == "bfloat16"
    choices.learn(
        [FailedAttempt(Execution("bfloat16"), "short", memory=True)], Execution(), training, MODEL, 1, budget=1000
    )
    for known in (choices, ComputeCache(CPU, tmp_path)):
        assert way(known, 1000).compute == "float32"
        assert way(known, 2000).compute == "bfloat16"
        assert way(known, None).compute == "bfloat16"


def test_choices_leave_techniques_out_that_failed(tmp_path: Path) -> None:
    memory_saving = MemorySaving("exact", 4, True)
    training = TrainingSettings(batch_size=8, compute="float32", memory=memory_saving)
    choices = ComputeCache(CPU, tmp_path)
    used = Execution(memory_saving=MemorySaving("exact"), fused=False)
    (told,) = choices.learn(
        [FailedAttempt(Execution(memory_saving=memory_saving), "no", memory=False)], used, training, MODEL, 2
    )
    assert told == (
        "own:net at depth 2: checkpointing and gradient accumulation and the fused optimizer failed (no); "
        "trained again with a plain optimizer, and from now on"
    )
    assert choices.execution(Net("linear"), pictures(), training, MODEL, 2) == used


@pytest.mark.parametrize("tried", [True, False])
def test_choices_suspect_the_mode_that_a_worker_died_in(tmp_path: Path, tried: bool) -> None:
    training = TrainingSettings(batch_size=8)
    if tried:
        ComputeCache(CPU, tmp_path).execution(Net("linear"), pictures(), training, MODEL, 1)
        (file,) = tmp_path.glob("*.json")
        kept = msgspec.json.decode(file.read_bytes())
        file.write_bytes(msgspec.json.encode({**kept, "compute": "bfloat16"}))
    choices = ComputeCache(CPU, tmp_path)
    suspects = choices.suspects("was ended by SIGSEGV", training, MODEL, 1)
    assert [s.execution.compute for s in suspects] == (["bfloat16"] if tried else list(COMPUTE)[1:])
    choices.learn(suspects, Execution(), training, MODEL, 1)
    later = ComputeCache(CPU, tmp_path).execution(Net("linear"), pictures(), training, MODEL, 1)
    assert later.compute == "float32"


def test_gpu_that_is_listed_but_does_not_work_leaves_training_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch_device, "cuda_problem", lambda: "CUDA error: no kernel image is available")
    device, said = torch_device.choose_device("auto")
    assert device == CPU
    assert said == (
        "PyTorch lists a CUDA device, but it does not work (CUDA error: no kernel image is available): "
        "training on the CPU"
    )
    with pytest.raises(Exception, match=r"the CUDA device does not work \(.*\): say --device cpu"):
        torch_device.choose_device("cuda")
    assert torch_device.choose_device("cpu") == (CPU, "")


def test_gpu_that_works_is_named_by_its_index_which_the_limit_of_its_memory_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch_device, "cuda_problem", lambda: "")
    assert torch_device.choose_device("auto") == (torch.device("cuda", 1), "")


def test_cuda_problem_is_found_where_there_is_no_gpu() -> None:
    assert bool(torch_device.cuda_problem()) is not torch.cuda.is_available()
