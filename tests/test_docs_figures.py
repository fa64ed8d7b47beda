"""Figures in the documentation are those of the code: what a page says in these words is made of its constants."""

from __future__ import annotations

import pytest

from coordinator.limits import LIMITS as COORDINATOR
from device_agent.limits import LIMITS as AGENT
from fedlp_edge.cli.doctor.findings import GOOD_QUEUE, SLOW_ROUND_TRIP, SMALLEST_QUEUE
from fedlp_edge.core.accounting import SCALE_BLOCK
from fedlp_edge.core.algorithm.rates import MIN_RATE
from fedlp_edge.core.metrics.serving_report import MAX_REPORTED_LABELS
from fedlp_edge.core.planning.planner import MIN_AUTO_LPR
from fedlp_edge.core.planning.prediction import ANY_DEVICE
from fedlp_edge.core.planning.rules import TIME_SHARE
from fedlp_edge.core.rounds.settings import RoundSettings
from fedlp_edge.core.settings import PlannerSettings
from fedlp_edge.learning.data.labels import MAX_CLASSES
from fedlp_edge.learning.data.partitioners import MIN_SAMPLES
from fedlp_edge.learning.data.pictures.picture_decoding import MAX_PIXELS
from fedlp_edge.learning.data.sounds.log_mel import MEAN, STD
from fedlp_edge.learning.data.spec.data_spec import CACHE_BYTES, HOLDOUT, MEGABYTE
from fedlp_edge.learning.export.activations.observed_tensors import OBSERVED
from fedlp_edge.learning.export.device_check import COMPARED
from fedlp_edge.learning.export.family.file_check import MAX_ERROR
from fedlp_edge.learning.export.made_inputs import MADE
from fedlp_edge.learning.export.precision import CALIBRATION_SAMPLES
from fedlp_edge.learning.export.self_test import TOLERANCES
from fedlp_edge.learning.model.fresh_statistics import SAMPLES
from fedlp_edge.learning.tasks.classification import MAX_CONFUSED
from fedlp_edge.probe.expected import RUNTIME_MEMORY
from fedlp_edge.probe.host import BOARD_SYSTEM_MEMORY
from fedlp_edge.release.repository import MAX_ROOTS, Lifetimes
from fedlp_edge.serving.live_inputs import KEPT
from fedlp_edge.serving.served_model import MAX_REQUEST_BYTES
from fedlp_edge.transport.diagnostics.measurements import PINGS, QUEUE_TRIED
from fedlp_edge.transport.mqtt.unannounced_limit import MIN_BYTES
from fedlp_edge.transport.remembered import KEPT_SECONDS
from fedlp_edge.wire.admission import AdmissionLimits
from fedlp_edge.wire.chunks import DEFAULT_CHUNK_BYTES, HEADER_BYTES, PACKET_ROOM, UNKNOWN_LINK_BYTES
from tests.test_docs import page

FIGURES = {
    "wire-protocol.md": (
        f"after {AGENT.presence.heartbeat_first_seconds:g} to "
        f"{AGENT.presence.heartbeat_first_seconds * (1 + AGENT.presence.heartbeat_spread):g} seconds of silence",
        f"at least every {AGENT.presence.heartbeat_longest_seconds * (1 + AGENT.presence.heartbeat_spread):g}:",
        f"than the link carries in {AGENT.downloads.slice_seconds:g} seconds",
        f"silent for {COORDINATOR.fetch_seconds:g} seconds",
        f"or than {COORDINATOR.broadcast_bytes >> 20} MiB,",
        f"{HEADER_BYTES} bytes of header",
        f"`chunk_bytes` is {DEFAULT_CHUNK_BYTES >> 10} KiB",
        f"({PACKET_ROOM - HEADER_BYTES} bytes are kept",
        f"{UNKNOWN_LINK_BYTES >> 10} KiB are the most on a link",
        f"messages of {AGENT.link_probe.ping_bytes} bytes",
        f"exchanges of {AGENT.link_probe.first_bytes >> 10} KiB",
        f"in {AGENT.link_probe.parts} to {AGENT.link_probe.most_parts} messages",
        f"sends {AGENT.in_transit.echo_bytes} random bytes",
    ),
    "planning.md": (
        f"less {BOARD_SYSTEM_MEMORY // 10**6} MB for the operating system and {RUNTIME_MEMORY // 10**6} MB",
        f"+ {ANY_DEVICE.copies:g} * largest parameter + {ANY_DEVICE.operation_bytes / 1e3:g} kB * operations",
        f"takes by itself; {ANY_DEVICE.base / 1e6:g} MB",
        f"{ANY_DEVICE.exact:g}, or as calibrated, with exact allocation; {ANY_DEVICE.cached:g} without",
        f"less `memory_margin` ({PlannerSettings().memory_margin:.0%})".replace("%", " %"),
        f"may fill {TIME_SHARE} of `deadline_seconds`",
        f"Below a rate of {MIN_AUTO_LPR} layers",
        f"less than {AGENT.link.reported_share:.0%}".replace("%", " %"),
        f"up to {AGENT.link.most_rise_rounds}, so that",
    ),
    "security.md": (
        f"`[rounds] max_sample_ratio` ({RoundSettings().max_sample_ratio:g})",
        f"`[limits] norm_ratio` ({AdmissionLimits().norm_ratio:g})",
        f"at most {COORDINATOR.message_burst} times at once",
    ),
    "inference.md": (
        f"larger than {MAX_REQUEST_BYTES >> 20} MiB",
        f"the {MAX_REPORTED_LABELS} most frequent",
    ),
    "releases.md": (f"after {Lifetimes().online_days} days", f"the newest {MAX_ROOTS} roots"),
    "scaling.md": (f"At most {COORDINATOR.open_uploads} uploads have a file open",),
    "brokers.md": (
        f"updates up to {COORDINATOR.credit_chunks} chunks and {COORDINATOR.credit_bytes >> 20} MiB, "
        f"of the model up to {COORDINATOR.broadcast_bytes >> 20} MiB",
        f"a quarter, up to {COORDINATOR.repeat_chunks} chunks and {COORDINATOR.repeat_bytes >> 20} MiB",
        f"at each further loss, down to {MIN_BYTES >> 10} kB",
        f"median of {PINGS} | | above {SLOW_ROUND_TRIP * 1e3:g} ms |",
        f"up to {QUEUE_TRIED} messages to a device",
        f"a machine remembers it for {KEPT_SECONDS / 86400:g} days",
        f"it holds less than {SMALLEST_QUEUE} | it holds less than the fleet assumes, or less than {GOOD_QUEUE} |",
    ),
    "compression.md": (
        f"the payload, {HEADER_BYTES} bytes a chunk ({100 * HEADER_BYTES / DEFAULT_CHUNK_BYTES:.3f} % at",
        f"times the scale of its {SCALE_BLOCK} neighbours",
    ),
    "data.md": (
        f"{CACHE_BYTES // MEGABYTE} unless the specification says otherwise",
        f"nothing; {HOLDOUT:g} with `share=`",
        f"none has fewer than {MIN_SAMPLES} samples",
        f"more than {MAX_PIXELS // 10**6} million pixels",
        f"(mean {MEAN:g}, standard deviation {STD:g})",
        f"names; at most {MAX_CLASSES:,}.",
        f"An agent looks every {AGENT.data_watch.interval_seconds:g} seconds",
    ),
    "deploy.md": (
        f"({100 * TOLERANCES['fp32']:g} % of the largest answer for fp32, {100 * TOLERANCES['fp16']:g} % for fp16, "
        f"{100 * TOLERANCES['int8']:g} % for int8",
        f"tried again ({AGENT.installation.attempts} times at the most)",
        f"(at most {KEPT}, on the device alone)",
    ),
    "evaluation.md": (
        f"{MADE} random inputs with the mean",
        f"up to {COMPARED} of its own held-out samples",
        f"on up to {SAMPLES:,} of its training samples",
    ),
    "export.md": (
        f"from up to {CALIBRATION_SAMPLES} samples of `[data] evaluate`",
        f"is more than {MAX_ERROR['fp16']:.0%} (fp16) or {MAX_ERROR['int8']:.0%} (int8)".replace("%", " %"),
        f"on up to {OBSERVED} samples that it holds out",
        f"nothing more of it has come for {COORDINATOR.fetch_seconds:g} seconds",
        f"waits {COORDINATOR.return_seconds:g} seconds for the devices to report",
    ),
    "fedlp.md": (
        f"<= {1 - PlannerSettings().memory_margin:g} * what the device has free",
        f"<= {TIME_SHARE:g} * deadline",
        f"below {MIN_AUTO_LPR:g} the next shallower depth",
        f"min({MIN_RATE:g}, lpr)",
    ),
    "run-directory.md": (f"of a classification of at most {MAX_CONFUSED} classes",),
}


@pytest.mark.parametrize(("name", "words"), [(name, words) for name, found in FIGURES.items() for words in found])
def test_figures_of_a_page_are_those_of_the_code(name: str, words: str) -> None:
    assert words in " ".join(page(f"docs/{name}").split())
