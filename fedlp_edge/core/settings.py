"""The choices of a run that travel with every task: what to learn and how to train it.

They are structs that validate themselves when they are built, whether they come from a TOML file,
from a message, or from code, so that no later module has to ask again.
"""

from __future__ import annotations

import unicodedata
from typing import Annotated, Final, Literal

import msgspec

from fedlp_edge.core.augment_settings import AugmentSettings
from fedlp_edge.core.blueprint import ExitMode, HeadMode
from fedlp_edge.core.metric_names import BETTER, Better
from fedlp_edge.core.standardisation.column_sums import ColumnSums
from fedlp_edge.core.targets import check_task, default_metric

Positive = Annotated[float, msgspec.Meta(gt=0)]
Finite = Annotated[float, msgspec.Meta(ge=-1e30, le=1e30)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
Count = Annotated[int, msgspec.Meta(ge=1)]
_PROCESSORS = '"auto" or "cpu" or "cuda"; the GPU of a Mac (mps) and others that are not CUDA stay unused: say "cpu"'
Processor = Annotated[Literal["auto", "cpu", "cuda"], msgspec.Meta(extra_json_schema={"description": _PROCESSORS})]

Prune = Literal["upload", "train"]
Granularity = Literal["layer", "tensor"]
Weighting = Literal["samples", "uniform"]
PersonalHeads = Literal["persist", "reset"]
Rates = Literal["fixed", "importance"]
UnitId = Annotated[
    str, msgspec.Meta(pattern=r"^[LH][1-9][0-9]{0,3}\Z", description="the id of a layer or a head, such as L1 or H5")
]
ComputeMode = Literal["float32", "float32-channels-last", "bfloat16", "bfloat16-channels-last"]
"""How a processor computes; weights are float32 in all of them."""
Balance = Literal["none", "weights", "sampling"]
DistillationTeacher = Literal["exits", "ensemble"]
LocalOptimizer = Literal["sgd", "adam", "adamw"]
Technique = Literal["allocation", "accumulation", "checkpointing"]
UPDATE_ENCODINGS: Final = ("none", "fp16", "int8", "none+zstd", "fp16+zstd", "int8+zstd", "int4+zstd", "int2+zstd")
"""How the numbers of an update can travel, beside ``levels:N+zstd``."""
BROADCAST_ENCODINGS: Final = (*UPDATE_ENCODINGS, "int4", "int2")
"""How the weights of a model can travel to the devices, beside ``levels:N`` and ``levels:N+zstd``."""
_ODD = "([3579]|[1-9][13579]|1[0-9][13579]|2[0-4][13579]|25[135])"
_UPDATE_PATTERN = rf"(none|fp16|int8)(\+zstd)?|(int4|int2|levels:{_ODD})\+zstd"
_BROADCAST_PATTERN = rf"(none|fp16|int8|int4|int2|levels:{_ODD})(\+zstd)?"
_UPDATE_WORDS = (
    '"none", "fp16" or "int8", each also with +zstd ("int8+zstd"), "int4+zstd", "int2+zstd", or "levels:N+zstd" '
    "with an odd number N of levels from 3 to 255"
)
_BROADCAST_WORDS = (
    '"none", "fp16", "int8", "int4", "int2", or "levels:N" with an odd number N of levels from 3 to 255, '
    'each also with +zstd ("int8+zstd")'
)

Encoding = Annotated[str, msgspec.Meta(pattern=rf"^({_UPDATE_PATTERN})\Z", description=_UPDATE_WORDS)]
"""How the numbers of an update travel: as float32, in half precision, as 8-bit integers, or as integers of an odd
number of levels, which ``int4`` (15), ``int2`` (3) and ``levels:N`` name; then perhaps compressed."""
BroadcastEncoding = Annotated[str, msgspec.Meta(pattern=rf"^({_BROADCAST_PATTERN})\Z", description=_BROADCAST_WORDS)]
"""How the weights of a model travel to the devices: in 4, 2, 1 or less than a byte each, then perhaps compressed."""
EncodingOrAuto = Annotated[
    str, msgspec.Meta(pattern=rf"^(auto|{_UPDATE_PATTERN})\Z", description=f'"auto", {_UPDATE_WORDS}')
]
BroadcastOrAuto = Annotated[
    str, msgspec.Meta(pattern=rf"^(auto|{_BROADCAST_PATTERN})\Z", description=f'"auto", {_BROADCAST_WORDS}')
]


class ModelSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which model the fleet learns.

    Attributes:
        name: ``fedlp-cnn``, ``fedlp-cnn-narrow``, ``small-cnn``, ``mlp``, ``torchvision:NAME`` or
            ``module:callable``.
        input: Shape of one sample, channels first.
        classes: Number of classes, labels or targets, which is the number of the model's outputs; 0 keeps the model's
            own. One output of a classification tells two classes apart.
        tokens: The input is whole numbers, such as token ids, which the model looks up in an embedding.
        depths: Most depths that the model is split into; 0 for at most 8, or as a built-in model has them.
        head_mode: ``shared`` averages one head per depth; ``personal`` (the paper) keeps shallow ones on their devices.
        exits: A device of depth d holds and trains its ``own`` head d, or ``all`` heads 1 to d.
        exit_heads: Heads of the shallow depths: those that a built-in ``model`` brings, ``pooled`` ones with one
            linear layer on means, as a user's own model gets, or ``max-pooled`` ones with one on maxima of smaller
            places, which hold more parameters.
        scaling: Dimension in which a weak device's model is smaller: layers (``depth``, FedLP) or channels (``width``,
            the baseline
            HeteroFL, in simulations alone).
        width_ratios: Share of the channels of each level, rising to 1; empty for HeteroFL's five.
        class_names: Names of the classes, labels or targets by number; empty lets the fleet agree on them (see
            ``core.class_names``).
        weights: Source of the start weights, used instead of random values: a file (``.safetensors``, ``.pt``),
            ``run:DIR`` or
            ``torchvision``; empty for random values.
        weights_sha256: SHA-256 of that file, which must then have it; found by itself if it is not stated.
        reset_heads: All heads start from random values whatever that file holds, as for other classes than its own.
        freeze: Patterns on names of modules or parameters of the original model, or ids of units; what they match is
            not trained, sent down once and never up.
        task: Kind of the learning task: ``classification``, ``multi-label``, ``regression``, ``anomaly`` (detection by
            reconstruction), or a task of your own as ``module:callable``.
        target_mean: Mean of each target of a regression; empty lets the fleet agree on it.
        target_std: Standard deviation of each target of a regression; empty lets the fleet agree on it.
        target_units: Unit of each target of a regression, for people.
        input_names: Names of the features of a table, in the order in which the model gets them; empty lets the fleet
            agree on them.
        input_mean: Input mean of each feature; empty lets the fleet agree on it.
        input_std: Standard deviation of each feature; empty lets the fleet agree on it.
        anomaly_quantile: Share of the normal samples whose score lies below the threshold of an exported model.
    """

    name: str = "small-cnn"
    input: tuple[Count, ...] = (1, 28, 28)
    classes: Annotated[int, msgspec.Meta(ge=0)] = 10
    tokens: bool = False
    depths: Annotated[int, msgspec.Meta(ge=0)] = 0
    head_mode: HeadMode = "shared"
    exits: ExitMode = "own"
    exit_heads: Literal["model", "pooled", "max-pooled"] = "model"
    scaling: Literal["depth", "width"] = "depth"
    width_ratios: tuple[Annotated[float, msgspec.Meta(gt=0, le=1)], ...] = ()
    class_names: tuple[str, ...] = ()
    weights: str = ""
    weights_sha256: Annotated[
        str,
        msgspec.Meta(pattern=r"^([0-9a-f]{64})?\Z", description="64 digits from 0 to f in small letters, in quotes"),
    ] = ""
    reset_heads: bool = False
    freeze: tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=200)], ...] = ()
    task: str = "classification"
    target_mean: tuple[Finite, ...] = ()
    target_std: tuple[Positive, ...] = ()
    target_units: tuple[str, ...] = ()
    input_names: tuple[str, ...] = ()
    input_mean: tuple[Finite, ...] = ()
    input_std: tuple[Positive, ...] = ()
    anomaly_quantile: Annotated[float, msgspec.Meta(gt=0, lt=1)] = 0.99

    @property
    def without_names(self) -> ModelSettings:
        """What decides how the model is built, which names and statistics of its inputs and targets do not."""
        return msgspec.structs.replace(
            self, class_names=(), input_names=(), input_mean=(), input_std=(), target_mean=(), target_std=()
        )

    def scaled_by(self, features: ColumnSums | None) -> ModelSettings:
        """Returns the settings with the statistics of features that a fleet has agreed on; None for none."""
        if features is None:
            return self
        return msgspec.structs.replace(
            self, input_names=features.names, input_mean=features.mean, input_std=features.std
        )

    def with_targets(self, targets: ColumnSums | None) -> ModelSettings:
        """Returns the settings with the statistics of targets that a fleet has agreed on; None for none."""
        if targets is None:
            return self
        if set(targets.names) == set(self.class_names):
            targets = targets.arranged(self.class_names)
        return msgspec.structs.replace(self, target_mean=targets.mean, target_std=targets.std)

    @property
    def without_weights(self) -> ModelSettings:
        """What a device or a job is told, which need not know where the first values came from."""
        return msgspec.structs.replace(self, weights="", weights_sha256="", reset_heads=False) if self.weights else self

    @property
    def identified(self) -> dict[str, object]:
        """What decides what is learned, by key: the bytes of a file of start weights, wherever it lies."""
        fields = msgspec.structs.asdict(self)
        if self.weights_sha256:
            fields["weights"] = "a file"
        if not self.reset_heads:  # a key that came later does not make another run of those that lack it
            del fields["reset_heads"]
        return fields

    def __post_init__(self) -> None:
        check_task(self.task)
        names = tuple(unicodedata.normalize("NFC", name) for name in self.class_names)
        if names != self.class_names:  # sites compare names, which editors write in different forms
            msgspec.structs.force_setattr(self, "class_names", names)
        _check_columns(self)
        if len(set(self.class_names)) < len(self.class_names) or "" in self.class_names:
            raise ValueError("class_names must all be different, and none empty")
        most = 2 if self.classes == 1 and self.task == "classification" else self.classes
        if self.classes and len(self.class_names) > most:
            raise ValueError(f"there are {len(self.class_names)} class_names for {most} classes")
        if (self.freeze or self.weights) and self.scaling == "width":
            raise ValueError('weights and freeze are for scaling = "depth"')
        if self.weights_sha256 and not self.weights:
            raise ValueError("weights_sha256 is of the file that weights names, and it names none")
        if self.reset_heads and not self.weights:
            raise ValueError("reset_heads is for start weights, and weights names none: heads start anew without it")
        if self.width_ratios and self.scaling == "depth":
            raise ValueError('width_ratios are for scaling = "width"')
        if self.scaling == "width" and (self.head_mode, self.exits) != ("shared", "own"):
            raise ValueError('scaling = "width" has one head for all: leave head_mode = "shared" and exits = "own"')
        if self.width_ratios and (
            self.width_ratios[-1] != 1 or list(self.width_ratios) != sorted(set(self.width_ratios))
        ):
            raise ValueError("width_ratios must rise to 1")


def is_custom(model: str) -> bool:
    """Returns whether a model's name stands for code of the user's own (``module:callable``)."""
    return ":" in model and not model.startswith("torchvision:")


def _check_columns(model: ModelSettings) -> None:
    """Checks the statistics of targets and features.

    Raises:
        ValueError: An entry is missing, or the task has no such targets.
    """
    of_targets: dict[str, tuple[object, ...]] = {
        "target_mean": model.target_mean,
        "target_std": model.target_std,
        "target_units": model.target_units,
    }
    for key, values in of_targets.items():
        if values and model.task != "regression":
            raise ValueError(f'{key} is for task = "regression"')
        if values and model.classes and len(values) != model.classes:
            raise ValueError(f"{key} has {len(values)} entries for {model.classes} targets ([model] classes)")
    if bool(model.target_mean) != bool(model.target_std):
        raise ValueError("target_mean and target_std belong together: give both or neither")
    if len({len(model.input_names), len(model.input_mean), len(model.input_std)}) > 1:
        raise ValueError("input_names, input_mean and input_std belong together: give one entry for each feature")


class ObjectiveSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a device minimises beside the cross entropy of its exits; everything is off by default.

    ``fedlp_edge/learning/training/objectives`` has the formulas.

    Attributes:
        logit_adjustment: Tau, the factor on the log of the device's own class frequencies.
        proximal: Mu, which pulls the weights towards those at the start of the round (FedProx).
        distillation: Factor on what the exits learn from each other; needs ``[model] exits = "all"``.
        distillation_teacher: ``exits`` if an exit learns from every other exit (DepthFL), ``ensemble`` if it learns
            from the mean of the logits of all exits.
        distillation_temperature: Temperature that softens the logits of the teacher.
        distillation_rampup: First rounds, in which the factor of the distillation rises to its full size (DepthFL).
        mask_absent: Whether the cross entropy leaves out classes that the device lacks (HeteroFL).
    """

    logit_adjustment: NotNegative = 0.0
    proximal: NotNegative = 0.0
    distillation: NotNegative = 0.0
    distillation_teacher: DistillationTeacher = "exits"
    distillation_temperature: Positive = 1.0
    distillation_rampup: Annotated[int, msgspec.Meta(ge=0)] = 0
    mask_absent: bool = False


class MemorySaving(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How training saves memory; planned for each device, and stated here only by who knows better.

    Attributes:
        allocator: ``exact`` gives every large block of memory back at once, where ``cached`` keeps it for the next.
        micro_batch: Most samples of a batch that are worked on together, their gradients added; 0 takes all.
        checkpointing: Keeps a layer's input alone and computes what is in the layer again for the backward pass.
    """

    allocator: Literal["cached", "exact"] = "cached"
    micro_batch: Annotated[int, msgspec.Meta(ge=0)] = 0
    checkpointing: bool = False


class TrainingSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a device trains in one round.

    Attributes:
        epochs: Passes over the device's samples.
        batch_size: Samples per step.
        optimizer: ``sgd``, ``adam``, or ``adamw``, whose weight decay is apart from the gradient.
        lr: Step size, at its highest.
        momentum: Momentum for ``sgd``.
        weight_decay: L2 factor, added to the gradient; for ``adamw`` the share of a weight, times ``lr``, that every
            step takes away.
        schedule: Rule by which the step size falls over the rounds, see ``core.learning_rate``.
        warmup_rounds: First rounds, in which the step size rises to ``lr``.
        min_lr: Step size towards which ``cosine`` falls.
        step_every: Rounds after which ``step`` lowers the step size, again and again.
        step_factor: Factor by which ``step`` multiplies the step size.
        clip_norm: Largest Euclidean norm of the gradient of a step; a longer one is shortened to it. 0 for no limit.
        label_smoothing: Share of a label's weight that all classes get in equal parts.
        balance: Treatment of a device's rare classes: ``weights`` has every sample count by the inverse of the
            frequency of its class; ``sampling`` has every class in an epoch equally often.
        compute: Number format and memory layout, or ``auto``: each device takes its fastest by a short trial.
        objective: Terms that are minimised beside the cross entropy.
        memory: Memory saving of every device; by default each device's plan says it.
        augment: Augmentation of the samples.
    """

    epochs: Count = 1
    batch_size: Count = 32
    optimizer: LocalOptimizer = "sgd"
    lr: Positive = 0.05
    momentum: Share = 0.9
    weight_decay: NotNegative = 0.0
    schedule: Literal["constant", "cosine", "step"] = "constant"
    warmup_rounds: Annotated[int, msgspec.Meta(ge=0)] = 0
    min_lr: NotNegative = 0.0
    step_every: Annotated[int, msgspec.Meta(ge=0)] = 0
    step_factor: Annotated[float, msgspec.Meta(gt=0, le=1)] = 0.1
    clip_norm: NotNegative = 0.0
    label_smoothing: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    balance: Balance = "none"
    compute: ComputeMode | Literal["auto"] = "auto"
    objective: ObjectiveSettings = ObjectiveSettings()
    memory: MemorySaving = MemorySaving()
    augment: AugmentSettings = AugmentSettings()

    def __post_init__(self) -> None:
        if self.min_lr and self.schedule != "cosine":
            raise ValueError('min_lr is for schedule = "cosine"')
        if self.min_lr >= self.lr:
            raise ValueError(f"min_lr ({self.min_lr:g}) must be less than lr ({self.lr:g})")
        if self.step_every and self.schedule != "step":
            raise ValueError('step_every is for schedule = "step"')
        if self.schedule == "step" and not self.step_every:
            raise ValueError('schedule = "step" needs step_every, the rounds between two steps, such as 10')
        if self.balance != "none" and self.objective.logit_adjustment:
            raise ValueError(
                f'balance = "{self.balance}" and objective.logit_adjustment both take the frequencies of the classes '
                "out: leave one of them away"
            )


class SchemeSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What FedLP draws and averages; FedAvg is ``lpr = 1.0`` with ``depth`` at the full depth.

    Attributes:
        lpr: Layer-preserving rate of every layer, or ``auto`` to fit each device's link.
        depth: ``auto`` gives each device the deepest prefix it can bear; ``full`` gives everyone everything;
            ``only-full`` likewise, without those who cannot bear it; a number gives everyone that depth.
        prune: ``upload`` drops a pruned layer after training (the paper); ``train`` also freezes it.
        granularity: ``layer`` (the paper's text) or ``tensor`` (the authors' code) is drawn.
        weights: Weigh updates by ``samples``, or ``uniform`` as the authors do.
        personal_heads: Start values of a personal head in a round: ``persist`` takes the values that its device's
            last round gave it; ``reset`` (the authors' code) its first values, every time.
        lpr_of: Layer-preserving rate by unit id, for units whose rate is not ``lpr``.
        rates: ``fixed``, or by ``importance``: units that change much for their size are sent more often, with
            the same bytes expected as with ``fixed``.
        recycle: Units of which nobody sends an update in a round: the last one is applied again (FedLUAR). 0 for none.
        recycle_decay: Factor on an update each time that it is applied again.
        exchange_every: Rounds between two exchanges of a unit, by unit id; in between it stays on its device, which
            trains its own values on.
    """

    lpr: Share | Literal["auto"] = 1.0
    depth: Count | Literal["auto", "full", "only-full"] = "auto"
    prune: Prune = "upload"
    granularity: Granularity = "layer"
    weights: Weighting = "samples"
    personal_heads: PersonalHeads = "persist"
    lpr_of: dict[UnitId, Share] = {}
    rates: Rates = "fixed"
    recycle: Annotated[int, msgspec.Meta(ge=0)] = 0
    recycle_decay: Share = 0.9
    exchange_every: dict[UnitId, Count] = {}


class UpdateSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the updates of the devices travel, and how many bytes they may take.

    Attributes:
        encoding: Encoding of every update, or ``auto`` to fit each device's link.
        budget: Bytes that a device may be expected to send in a round; rates are cut to fit. 0 for no limit.
        broadcast: Encoding of the weights on their way to the devices, which train from what they decode, or ``auto``
            to fit the slowest of their links.
        error_feedback: Whether a device keeps what the encoding takes from an update and adds it to its next one.
    """

    encoding: EncodingOrAuto = "none"
    budget: Annotated[int, msgspec.Meta(ge=0)] = 0
    broadcast: BroadcastOrAuto = "none"
    error_feedback: bool = False


class PlannerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the planner deals with a device's memory, and with what its rounds show.

    Attributes:
        memory_margin: Share of the memory that a device has free for training which plans leave alone; less than 0
            plans with more than there is.
        techniques: Techniques that may save memory before a depth is given up.
        promote_after_rounds: Good rounds after which a device that has room gets one depth more; 0 for never.
    """

    memory_margin: Annotated[float, msgspec.Meta(ge=-4, lt=1)] = 0.05
    techniques: tuple[Technique, ...] = ("allocation", "accumulation", "checkpointing")
    promote_after_rounds: Annotated[int, msgspec.Meta(ge=0)] = 0


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The server's step on the averaged delta (Reddi et al., arXiv 2003.00295).

    Attributes:
        optimizer: ``plain`` adds the mean; ``momentum`` and ``adam`` treat it as a negative gradient.
        lr: Factor on the step.
        momentum: Momentum for ``momentum``.
        beta1: First moment of ``adam``.
        beta2: Second moment of ``adam``.
        epsilon: Added to the root of the second moment.
        ema: Share of the old in a running average of the models, which is evaluated and exported instead of the last
            one; 0 for none.
    """

    optimizer: Literal["plain", "momentum", "adam"] = "plain"
    lr: Positive = 1.0
    momentum: Share = 0.9
    beta1: Share = 0.9
    beta2: Share = 0.99
    epsilon: Positive = 1e-3
    ema: Share = 0.0

    def __post_init__(self) -> None:
        if self.ema == 1:
            raise ValueError("ema must be below 1: an average that takes nothing new never changes")


AUTO_HOLDOUT = 0.1
"""Share of its samples that a device keeps out of training where nothing else judges the model."""


ModelChoice = Literal["last", "best"]


class EvaluationSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the model of a round is judged, and when a run has learned enough.

    Attributes:
        holdout: Share of its samples that a device keeps out of training and judges the model on; ``auto`` for a tenth
            where the coordinator has no test data (``[data] evaluate = ""``), and for none elsewhere.
        metric: Name of the metric that early stop and ``[export] model = "best"`` go by; ``auto`` for the task's own.
        better: Whether a ``higher`` or a ``lower`` value of the metric is better; ``auto`` for metrics of known names.
        source: Source of the values of the metric: the ``central`` test data, or of the ``devices``; ``auto`` for the
            central ones where there are any.
        depth: Depth whose metric counts; 0 for the deepest one measured in the round that a device has trained.
        patience: Measured rounds without a better value of the metric after which the run ends; 0 for never.
        min_delta: Amount by which a value must be better than the best one so far to count as better.
    """

    holdout: Annotated[float, msgspec.Meta(ge=0, le=0.9)] | Literal["auto"] = "auto"
    metric: Annotated[
        str,
        msgspec.Meta(
            pattern=r"^[a-z][a-z0-9_]{0,63}\Z",
            description='the name of a metric in small letters, digits and underscores, such as "macro_f1"',
        ),
    ] = "auto"
    better: Better | Literal["auto"] = "auto"
    source: Literal["auto", "central", "devices"] = "auto"
    depth: Annotated[int, msgspec.Meta(ge=0)] = 0
    patience: Annotated[int, msgspec.Meta(ge=0)] = 0
    min_delta: NotNegative = 0.0

    def __post_init__(self) -> None:
        if self.metric not in BETTER and self.metric != "auto" and self.better == "auto":
            raise ValueError(
                f'metric "{self.metric}" is not one of {", ".join(BETTER)}; for a metric of a task of your own, '
                'say better = "higher" or better = "lower"'
            )
        if self.metric in BETTER and self.better not in ("auto", BETTER[self.metric]):
            raise ValueError(f'better = "{self.better}" is wrong for {self.metric}, of which {BETTER[self.metric]} '
                             "values are better: leave better out")  # fmt: skip

    def metric_of(self, task: str) -> str:
        """Name of the metric that counts for a task."""
        return default_metric(task) if self.metric == "auto" else self.metric

    def from_devices(self, *, central: bool) -> bool:
        """Whether the devices' values of the metric count.

        Args:
            central: Whether the coordinator has test data of its own.
        """
        return self.source == "devices" or (self.source == "auto" and not central)

    def holdout_share(self, *, central: bool) -> float:
        """Share of its samples that each device keeps out of training.

        Args:
            central: Whether the coordinator has test data of its own.
        """
        if self.holdout != "auto":
            return self.holdout
        return 0.0 if central else AUTO_HOLDOUT


def check_evaluation(evaluation: EvaluationSettings, *, central: bool) -> None:
    """Whether something measures the metric that a run is to go by.

    Args:
        evaluation: Evaluation settings of the run.
        central: Whether the coordinator has test data of its own.

    Raises:
        ValueError: Nothing does.
    """
    if evaluation.source == "central" and not central:
        raise ValueError('[evaluation] source is "central", and there are no central test data: set [data] evaluate')
    if evaluation.source == "devices" and not evaluation.holdout_share(central=central):
        raise ValueError('[evaluation] source is "devices", which keep no samples for it: set holdout, such as 0.1')
    if evaluation.patience and not central and not evaluation.holdout_share(central=central):
        raise ValueError("[evaluation] patience needs a metric: set [data] evaluate, or holdout above 0")


def check_choice(choice: ModelChoice, model: ModelSettings, evaluation: EvaluationSettings, *, central: bool) -> None:
    """Whether a model can be chosen among those of all rounds.

    Args:
        choice: Choice of the model that is exported.
        model: Settings of the model of the run.
        evaluation: Evaluation settings of the run.
        central: Whether the coordinator has test data of its own.

    Raises:
        ValueError: Nothing measures the models, or a part of them stays on the devices.
    """
    if choice == "last":
        return
    if not central and not evaluation.holdout_share(central=central):
        raise ValueError('[export] model = "best" needs a metric: set [data] evaluate, or [evaluation] holdout above 0')
    if model.head_mode == "personal":
        raise ValueError('[export] model = "best" does not go with [model] head_mode = "personal": devices keep the '
                         "heads of their last round alone")  # fmt: skip


def check_exits(model: ModelSettings, training: TrainingSettings) -> None:
    """Whether the objective goes with the exits that devices hold.

    Raises:
        ValueError: The settings do not fit each other.
    """
    if training.objective.distillation and model.exits == "own":
        raise ValueError('[training.objective] distillation is among the exits of a device: set [model] exits = "all"')


def check_training(model: ModelSettings, training: TrainingSettings) -> None:
    """Whether training goes with the inputs and the task of the model.

    Raises:
        ValueError: The settings do not fit each other.
    """
    if model.task != "classification" and (key := _class_term(training)):
        raise ValueError(f'[training] {key} is for classes, and [model] task is "{model.task}": leave {key} out')
    augment, shape = training.augment, list(model.input)
    if augment.transforms and (len(shape) != 3 or model.tokens):
        raise ValueError(f"[training.augment] transforms is for pictures [C, H, W], and [model] input is {shape}")
    if augment.of_windows and model.tokens:
        raise ValueError("[training] augment varies numbers, and [model] tokens says that the inputs are token ids")
    if (augment.crop < 1 or augment.time_shift) and len(shape) != 2:
        key = "crop" if augment.crop < 1 else "time_shift"
        raise ValueError(f"[training.augment] {key} is for windows [C, L], and [model] input is {shape}")
    if augment.time_shift and augment.time_shift >= shape[-1]:
        raise ValueError(f"[training.augment] time_shift ({augment.time_shift}) must be less than the {shape[-1]} "
                         "steps of a window")  # fmt: skip
    if (augment.jitter or augment.scaling) and len(shape) == 3:
        key = "jitter" if augment.jitter else "scaling"
        raise ValueError(f"[training.augment] {key} is for windows and tables, and [model] input is {shape}; "
                         "pictures have transforms such as GaussianNoise and ColorJitter")  # fmt: skip


def _class_term(training: TrainingSettings) -> str:
    """Name of a setting that needs one class for each sample; empty if there is none."""
    if training.objective.logit_adjustment:
        return "objective.logit_adjustment"
    if training.objective.mask_absent:
        return "objective.mask_absent"
    if training.objective.distillation:
        return "objective.distillation"
    if training.label_smoothing:
        return "label_smoothing"
    return "balance" if training.balance != "none" else ""


def check_schedule(training: TrainingSettings, rounds: int) -> None:
    """Whether a run is long enough for the schedule of its step sizes.

    Raises:
        ValueError: The value is not supported.
    """
    if training.warmup_rounds >= rounds:
        raise ValueError(f"[training] warmup_rounds ({training.warmup_rounds}) must be less than [rounds] count "
                         f"({rounds})")  # fmt: skip
