"""Takes an assignment up to Ready: the model is built and compared, and its units are subscribed to."""

from __future__ import annotations

from dataclasses import dataclass

from device_agent.limits import LIMITS
from device_agent.protocol.events import (
    BuildFailed,
    BuildModel,
    Effects,
    FailureKind,
    Identity,
    Log,
    ModelBuilt,
    Publish,
    Subscribe,
    Unsubscribe,
)
from fedlp_edge.core.blueprint import Blueprint
from fedlp_edge.core.device_data import has_numbers_for_names, listed, missing_classes
from fedlp_edge.core.settings import ModelSettings, is_custom
from fedlp_edge.core.targets import BUILT_IN_TASKS
from fedlp_edge.wire.admission import max_unit_bytes
from fedlp_edge.wire.messages import Assignment, AssignmentRefused, Failure, Ready


@dataclass(frozen=True, slots=True)
class AssignedModel:
    """The model that a device trains in a run.

    Attributes:
        model: Settings of the whole model.
        blueprint: Blueprint of the whole model.
        depth: Number of its layers that this device holds.
    """

    model: ModelSettings
    blueprint: Blueprint
    depth: int


class AssignmentHandler:
    """The assignment of this device, from the coordinator's message to Ready.

    Args:
        identity: Identity of the agent.
        allow_models: ``module:callable`` models whose code the owner trusts.

    Attributes:
        assignment: The last one, if it is acceptable.
        blueprint: Blueprint of the model assigned; None until it is built and found to be the coordinator's.
        refused: Whether the last assignment could not be accepted.
    """

    def __init__(self, identity: Identity, allow_models: frozenset[str]) -> None:
        self._identity = identity
        self._allow_models = allow_models
        self._building: ModelSettings | None = None
        self._built: tuple[ModelSettings, Blueprint] | None = None
        self._topics: set[str] = set()
        self._confirmed: set[str] = set()
        self.assignment: Assignment | None = None
        self.blueprint: Blueprint | None = None
        self.refused = False
        self._refusal_reason = ""

    def assign(self, assignment: Assignment) -> Effects:
        """Takes an assignment, new or repeated."""
        model, self.refused, self._refusal_reason = assignment.model, False, ""
        if is_custom(model.name) and model.name not in self._allow_models:
            return self._refuse(
                assignment,
                "model",
                f'this device does not run the code of "{model.name}"; '
                f"its owner can install that module and start the agent with --allow-model {model.name}",
            )
        if model.task not in BUILT_IN_TASKS and model.task not in self._allow_models:
            return self._refuse(
                assignment,
                "model",
                f'this device does not run the code of the task "{model.task}"; '
                f"its owner can install that module and start the agent with --allow-model {model.task}",
            )
        effects: Effects = []
        if assignment != self.assignment and assignment.explanation:
            effects.append(Log(f"assigned: {assignment.explanation}"))
        self.assignment = assignment
        if self._built is not None and self._built[0].without_names == model.without_names:
            # Names are only ever added to those that this device's classes were compared with.
            return [*effects, *self._accept(assignment, self._built[1])]
        self.blueprint = None
        if self._building == model:
            return effects
        self._building = model
        return [*effects, BuildModel(model)]

    def built(self, event: ModelBuilt) -> Effects:
        """Takes the model that the worker has built."""
        if event.model == self._building:
            self._building = None
        self._built = (event.model, event.blueprint)
        if self.assignment is None or self.assignment.model.without_names != event.model.without_names:
            return []
        effects: Effects = []
        if event.data is not None and (missing := missing_classes(event.data, event.model.class_names)):
            effects.append(Log(f"this device has no samples of {listed(missing)}: others of the fleet teach these"))
        names = event.model.class_names if event.model.task == "classification" else ()
        if event.data is not None and has_numbers_for_names(event.data, names):
            effects.append(Log(f"this device's classes are numbers: 0, 1 and so on are taken for {listed(names)}"))
        return [*effects, *self._accept(self.assignment, event.blueprint)]

    def build_failed(self, event: BuildFailed) -> Effects:
        """Reports that the worker could not build the model."""
        if event.model == self._building:
            self._building = None
        if self.assignment is None or self.assignment.model.without_names != event.model.without_names:
            return []
        return self._refuse(self.assignment, event.kind, event.reason)

    def on_refusal(self, refusal: AssignmentRefused) -> Effects:
        """Logs once that the coordinator refuses this device, however often the refusal is repeated."""
        if refusal.reason == self._refusal_reason:
            return []
        self._refusal_reason = refusal.reason
        note = Log(f"this device cannot take part in run {refusal.run}: {refusal.reason}", warning=True)
        self.assignment, self.blueprint, self.refused = None, None, True
        return [note, *self._subscribe_only(set())]

    def subscribed(self, topic: str) -> Effects:
        """Notes that the broker confirmed a subscription."""
        if topic not in self._topics or topic in self._confirmed:
            return []
        self._confirmed.add(topic)
        return self.ready()

    def ready(self) -> Effects:
        """Reports Ready if the model is built and all subscriptions are confirmed."""
        if self.blueprint is None or self.assignment is None or self._topics - self._confirmed:
            return []
        message = Ready(
            run=self.assignment.run,
            device=self._identity.device,
            session=self._identity.session,
            depth=self.assignment.depth,
        )
        return [Publish(self._up, message)]

    @property
    def assigned_model(self) -> AssignedModel | None:
        """The model that this device trains; None until it is Ready, and when the run is over."""
        if self.blueprint is None or self.assignment is None:
            return None
        return AssignedModel(self.assignment.model, self.blueprint, self.assignment.depth)

    def end(self) -> Effects:
        """Ends the assignment, since the run is over."""
        self.assignment = self.blueprint = None
        return self._subscribe_only(set())

    def prefetch_bytes(self) -> dict[str, int]:
        """Bytes that may be held of each subscribed unit before a task names its version."""
        if self.blueprint is None or self.assignment is None:
            return {}
        units = self.blueprint.downloads_of(self.assignment.depth)
        return {unit.id: max_unit_bytes(unit) for unit in units}

    @property
    def _up(self) -> str:
        return self._identity.topics.of("up", self._identity.device)

    def _accept(self, assignment: Assignment, blueprint: Blueprint) -> Effects:
        """Compares the device's own blueprint with the coordinator's and subscribes to the layers."""
        if blueprint.digest != assignment.blueprint_digest:
            return self._refuse(
                assignment,
                "model",
                f"this device's copy of \"{assignment.model.name}\" is split differently from the coordinator's; "
                "install the same versions of fedlp-edge and of the model's package on both",
            )
        if assignment.depth not in blueprint.depths:
            return self._refuse(assignment, "model", f"the model has no depth {assignment.depth}")
        self.blueprint = blueprint
        units = blueprint.downloads_of(assignment.depth)
        effects = self._subscribe_only({self._identity.topics.of("model", unit.id) for unit in units})
        return [*effects, *self.ready()]

    def _subscribe_only(self, topics: set[str]) -> Effects:
        effects: Effects = [Unsubscribe(topic) for topic in sorted(self._topics - topics)]
        effects += [Subscribe(topic) for topic in sorted(topics - self._topics)]
        self._confirmed &= topics
        self._topics = topics
        return effects

    def _refuse(self, assignment: Assignment, kind: FailureKind, reason: str) -> Effects:
        self.assignment, self.blueprint, self.refused = None, None, True
        message = Failure(
            run=assignment.run,
            device=self._identity.device,
            session=self._identity.session,
            kind=kind,
            reason=reason[: LIMITS.messages.reason_characters],
        )
        return [
            Log(f"assignment refused: {reason}", warning=True),
            Publish(self._up, message),
            *self._subscribe_only(set()),
        ]
