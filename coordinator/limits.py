"""Defines all limits of the coordinator, each once, with its unit and the reason for its size."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CoordinatorLimits:
    """The limits of what the coordinator waits for, reads and sends.

    Attributes:
        control_bytes: Bytes of the longest control message that is read at all; an offer for a model of 4,000 units
            stays far below.
        heartbeat_seconds: Seconds after which the loop looks at its clocks, whatever comes.
        items_between_ticks: Messages that are taken in a row before the loop looks at its clocks.
        state_seconds: Seconds between two states of the run that are published for dashboards, at the least.
        build_seconds: Seconds that the worker may take to build the model; a large one takes minutes.
        trial_export_seconds: Seconds that a trial export may take before the first round; ten times what usual models
            take.
        return_seconds: Seconds for devices to report to a coordinator that was started again after the last round; who
            does is waited for.
        broker_seconds: Seconds after which it is said that a run that goes on waits for its broker.
        echo_seconds: Seconds for the question who is the coordinator to come back, behind what the broker has kept;
            some brokers' rules let nobody hear it.
        answer_seconds: Seconds for a coordinator that announced itself to answer that question.

        search_seconds: Seconds without any device after which other names for their topics are tried.
        alone_seconds: Seconds without any device after which it is said what may be the reason; agents that are started
            together with the coordinator have reported by then.
        unanswered_seconds: Seconds after which it is said that a device does not answer what it is told to hold; most
            build their model in less.
        held_seconds: Seconds without a look at the clock after which the process was held, or busy, and has heard
            nobody: its loop looks at it several times a second.
        class_settle_seconds: Seconds from the report that makes enough devices until class numbers are given: others
            may be about to report.
        message_burst: Messages of one device that are heeded at once; one whose connection comes and goes needs some at
            each return.
        messages_per_second: Messages of one device that are heeded in the long run; a fit one sends far fewer.
        message_accounts: Device names that have an account of their own; where access rules do not vouch for names,
            there may be any number.

        early_rounds: Rounds before which a model that judges like a guess is nothing to wonder at.
        loss_explosion: Factor on the loss of the round before, or of guessing, that is an explosion.
        named_devices: Devices that a line names before it only counts.
        named_settings: Settings that a line names before it only counts.
        task_patience_seconds: Seconds of silence before a device asks for what it misses, at the least.
        broker_bytes_per_second: Bytes per second that a broker hands out to all devices together, at the least: half a
            link of 1 Gbit/s. The more devices listen, the longer one may wait for its next chunk, and asking for it
            again would only add to the load.

        window_chunks: Chunks that the broker may not have acknowledged yet.
        broadcast_bytes: Bytes that a broadcast runs ahead of its slowest reader, since they are the broker's memory.
        repeat_chunks: Chunks repeated for one request; bounds what a hostile device can cause, and fits into any usual
            queue.
        repeat_bytes: Bytes repeated for one request.
        credit_chunks: Granted chunks under way from all devices together, if the broker's queue allows that many.
        credit_bytes: Bytes under way from all devices together.
        grant_chunks: Most chunks granted to one device at a time.
        leader_chunks: Most chunks granted at a time to the device that is nearest to its end.
        least_grant_chunks: Fewest chunks granted at a time, unless fewer are missing: a grant for each chunk would
            double the messages.
        least_grant_bytes: Bytes that are enough for a grant, even if they are fewer chunks than that.
        least_chunk_bytes: Payload bytes of the smallest chunk that an offer may name: each chunk takes a byte of
            memory, so there must not be too many.
        slow_chunk_seconds: Seconds that a chunk takes a link, at the least, for this to count as slow.
        grant_seconds: Seconds from the moment the broker has a grant until an offer that does not know it is taken for
            a sign that it got lost.
        lag_factor: Factor by which the way from the broker may have become longer since it was measured.
        silent_upload_seconds: Seconds of silence after which credit of a device is taken back.
        open_uploads: Uploads that have begun and are not complete, each of which holds a file; others wait with their
            offer alone.
        slices_ahead: Slices of a broadcast that are sent before the readers of the first one have reported.
        reader_seconds: Seconds from the moment a slice is with the broker until its silent readers are left behind, on
            top of the time that their links need for it.
        reader_share: Share of a round's deadline that a broadcast waits for a silent reader at the most, since a device
            may say of its link what it likes, and all others wait as well.
        link_factor: Factor by which a link may be slower than it was measured.
        equal_requests: Equal requests in a row, the first one included, after which message length is suspected.
        shorter_factor: Divisor of the length of messages that are suspected.
        least_message_bytes: Payload bytes of the shortest message that is tried then.

        fetch_seconds: Seconds without progress of a device that fetches its final model; one that gets something says
            so every few seconds.
        rebuild_seconds: Seconds for a device that is back to build its model anew.
        fetch_chunks: Chunks; on a link where as many take longer than ``fetch_seconds``, it is waited for as long.
        fetch_gaps: Factor on the longest silence so far that is taken for the end.
        most_fetch_seconds: Seconds that no silence of a device that fetches is waited for longer.
        offered_models: Most files that a device measures; a message names twice as many, with their self-tests.
    """

    # The service and its loop
    control_bytes: int = 1 << 20
    heartbeat_seconds: float = 0.5
    items_between_ticks: int = 32
    state_seconds: float = 1.0
    build_seconds: float = 600.0
    trial_export_seconds: float = 600.0
    return_seconds: float = 20.0
    broker_seconds: float = 2.0
    echo_seconds: float = 2.0
    answer_seconds: float = 5.0
    # The fleet
    search_seconds: float = 15.0
    alone_seconds: float = 60.0
    unanswered_seconds: float = 120.0
    held_seconds: float = 10.0
    class_settle_seconds: float = 2.0
    message_burst: int = 30
    messages_per_second: float = 0.5
    message_accounts: int = 4096
    # Rounds
    early_rounds: int = 3
    loss_explosion: float = 10.0
    named_devices: int = 4
    named_settings: int = 3
    task_patience_seconds: float = 0.5
    broker_bytes_per_second: float = 50e6
    # Transfer
    window_chunks: int = 32
    broadcast_bytes: int = 128 << 20
    repeat_chunks: int = 64
    repeat_bytes: int = 16 << 20
    credit_chunks: int = 64
    credit_bytes: int = 16 << 20
    grant_chunks: int = 16
    leader_chunks: int = 32
    least_grant_chunks: int = 4
    least_grant_bytes: int = 1 << 20
    least_chunk_bytes: int = 512
    slow_chunk_seconds: float = 0.5
    grant_seconds: float = 2.0
    lag_factor: float = 2.0
    silent_upload_seconds: float = 5.0
    open_uploads: int = 128
    slices_ahead: int = 2
    reader_seconds: float = 5.0
    reader_share: float = 0.25
    link_factor: float = 2.0
    equal_requests: int = 4
    shorter_factor: int = 4
    least_message_bytes: int = 2048
    # Handing out the final models
    fetch_seconds: float = 30.0
    rebuild_seconds: float = 120.0
    fetch_chunks: int = 4
    fetch_gaps: int = 3
    most_fetch_seconds: float = 600.0
    # Roll-outs
    offered_models: int = 30


LIMITS = CoordinatorLimits()
"""The limits of this coordinator."""
