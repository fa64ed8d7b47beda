"""Defines all limits of the device agent, each once, with its unit and the reason for its size."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MessageLimits:
    """The limits of the length of messages.

    Attributes:
        control_bytes: Bytes of the longest control message that is read; a task's manifest takes some 150 bytes a
            unit, a grant's ranges 20 each.
        reason_characters: Characters of a reason that is sent to the coordinator, which refuses longer ones.
    """

    control_bytes: int = 4 << 20
    reason_characters: int = 2000


@dataclass(frozen=True)
class PresenceLimits:
    """The limits of the waiting for a sign of the coordinator, or of another agent with this device's name.

    Attributes:
        settled_seconds: Seconds after its first status, after which an agent that nobody contradicted has its name.
        contest_seconds: Seconds in which copies of an old status arrive, before another agent of this name is asked
            whether it is there, and in which it answers then.
        search_seconds: Seconds with a connection and without a coordinator, after which other names are looked at.
        heartbeat_first_seconds: Seconds without a message to this device, after which an idle one reports again.
        heartbeat_longest_seconds: Seconds that this grows to, doubled each time: thousands of idle devices must not
            load the broker.
        unanswered_reports: Reports without any answer after which the log says what may be wrong.
        unheard_rounds: Rounds in which layers came in one of two ways alone, after which the log says what may be
            wrong.
        heartbeat_spread: Share of that time by which devices that heard the same last message report later.
        measure_first_seconds: Seconds after a refusal, after which a device measures itself again.
        measure_longest_seconds: Seconds that this grows to, doubled each time: measuring takes seconds of a processor.
    """

    settled_seconds: float = 5.0
    contest_seconds: float = 3.0
    search_seconds: float = 15.0
    heartbeat_first_seconds: float = 5.0
    heartbeat_longest_seconds: float = 60.0
    unanswered_reports: int = 3
    unheard_rounds: int = 3
    heartbeat_spread: float = 0.5
    measure_first_seconds: float = 60.0
    measure_longest_seconds: float = 3600.0


@dataclass(frozen=True)
class LinkProbeLimits:
    """The limits of the measurement of the link.

    Attributes:
        pings: Number of tiny messages that give the latency.
        ping_bytes: Bytes of each of them.
        first_bytes: Bytes of the first exchange.
        growth: Factor from one exchange to the next.
        total_bytes: Bytes of all exchanges together; a link on which they take no time is fast enough.
        parts: Messages of one exchange: the two directions overlap in all but one of them.
        most_parts: Messages of one exchange where the broker's packets are small: below what the shortest queues hold.
        trusted_seconds: Seconds that a trusted exchange takes at least.
        trusted_latencies: Latencies that it takes at least: TCP needs some journeys to find a link's rate.
        trusted_at_most_seconds: Seconds that bound what the latency asks for.
        patience_seconds: Seconds from one echo to the next.
        longest_seconds: Seconds of the whole measurement: the first report waits for it.
        attempts: Connections on which it is tried; one that breaks may have broken for another reason.
    """

    pings: int = 3
    ping_bytes: int = 64
    first_bytes: int = 4 << 10
    growth: int = 4
    total_bytes: int = 1 << 20
    parts: int = 8
    most_parts: int = 16
    trusted_seconds: float = 0.25
    trusted_latencies: float = 8
    trusted_at_most_seconds: float = 2.0
    patience_seconds: float = 5.0
    longest_seconds: float = 20.0
    attempts: int = 2


@dataclass(frozen=True)
class InTransitLimits:
    """The limits of the check whether something is still in transit.

    Attributes:
        echo_bytes: Random bytes of an echo: nobody can guess them.
        patience_seconds: Seconds for an echo until another is sent; doubled each time.
        echoes: Unanswered echoes in a row, after which silence has to do this time.
        longest_seconds: Seconds for which an echo may wait its turn behind other messages, as on a slow link.
        remembered: Echoes that are recognised when they come back late.
    """

    echo_bytes: int = 16
    patience_seconds: float = 5.0
    echoes: int = 3
    longest_seconds: float = 900.0
    remembered: int = 16


@dataclass(frozen=True)
class LinkLimits:
    """The limits that follow from the rate of the link.

    Attributes:
        ahead_seconds: Seconds of chunks in transit at once: enough to keep any link busy, and no more, since all else
            has to wait behind them.
        least_ahead: Chunks in transit at once: while one is acknowledged the next is carried.
        least_seconds: Seconds of use, before which a link has not shown its rate.
        reported_share: A rate that a round showed is reported if it is less than this share of what was thought, since
            measurements differ by less.
        short_rounds: Rounds missed by the link, after which its rate is corrected: one may be bad luck.
        good_rounds: Rounds in a row that were done in time, after which earlier bad luck is forgotten.
        rise_factor: Factor on the rate that is planned with, at the least, before rounds show that a link is better.
        rise_rounds: Rounds in a row that showed it; twice as many after each fall, so that plans do not go to and fro.
        most_rise_rounds: Rounds in a row at the most, however often the link has fallen.
        most_rise: Factor on the rate at once: what a router had stored comes in a burst and is no link.
    """

    ahead_seconds: float = 4.0
    least_ahead: int = 2
    least_seconds: float = 2.0
    reported_share: float = 0.7
    short_rounds: int = 2
    good_rounds: int = 2
    rise_factor: float = 2.0
    rise_rounds: int = 3
    most_rise_rounds: int = 48
    most_rise: float = 4.0


@dataclass(frozen=True)
class DownloadLimits:
    """The limits of requests for missing chunks.

    Attributes:
        patience_seconds: Seconds of silence before the first request; doubled each time.
        longest_patience_seconds: Seconds that this grows to.
        gaps: Silence of so many times the gap between two chunks is taken for a loss; on a slow link each takes time.
        enough_chunks: Units are asked for together until they miss so many chunks, so that small ones do not cost a
            journey each.
        slice_seconds: Seconds that a link takes at most for what is asked for at once, so that the sender hears now and
            then how it goes.
    """

    patience_seconds: float = 0.5
    longest_patience_seconds: float = 5.0
    gaps: float = 3
    enough_chunks: int = 16
    slice_seconds: float = 30.0


@dataclass(frozen=True)
class UploadLimits:
    """The limits of repeated offers, and of the chunks of updates.

    Attributes:
        offer_seconds: Seconds from the first offer of an update to the second; doubled each time.
        longest_offer_seconds: Seconds that this grows to.
        offer_spread: Share of that time by which an offer comes later: those that overflowed the coordinator's queue
            together do not come again together.
        receipt_seconds: Seconds from the last acknowledged chunk to the next offer.
        repeated_grants: Grants in a row for nothing but chunks that the broker has acknowledged, after which these are
            taken for too long.
        least_piece_bytes: Bytes that the pieces of a chunk are not cut below: headers would take too much.
        behind_chunks: Chunks that an answer may have to wait for on a slow link: the next model may be in transit.
    """

    offer_seconds: float = 1.0
    longest_offer_seconds: float = 10.0
    offer_spread: float = 0.5
    receipt_seconds: float = 2.0
    repeated_grants: int = 3
    least_piece_bytes: int = 2048
    behind_chunks: int = 2


@dataclass(frozen=True)
class FinalModelLimits:
    """The limits of the download and the trial of the final model.

    Attributes:
        model_bytes: Bytes of a self-contained ONNX file, which is one protobuf message.
        patience_seconds: Seconds to wait for the rest of it after the coordinator went offline.
        report_seconds: Seconds between two reports while chunks come, or while the file is compared with the model: the
            coordinator stays as long as it hears them.
        compare_seconds: Seconds for which it is asked to wait for the comparison.
        linger_seconds: Seconds that an agent with ``--once`` waits for a coordinator that is away to come back and hear
            the last report.
        trial_seconds: Seconds for one inference, loading included.
    """

    model_bytes: int = 1 << 31
    patience_seconds: float = 30.0
    report_seconds: float = 5.0
    compare_seconds: float = 600.0
    linger_seconds: float = 60.0
    trial_seconds: float = 300.0


@dataclass(frozen=True)
class InstallationLimits:
    """How a model of a release is fetched, tried and watched.

    Attributes:
        file_bytes: Bytes of all files of a release together.
        spare_bytes: Bytes that stay free on the disk beside them.
        report_seconds: Seconds between two reports while chunks come, and while the model is tried.
        exam_seconds: Seconds of the self-test and the exam beside the old model together.
        attempts: Ends of the agent while it tried one version, after which that version is given up: it may be what
            ends the agent, or the device.
        serving_starts: Starts of whatever answers with the new model during its probation, after which these count as
            a crash loop; so do as many ends of the process that the agent starts.
        watch_seconds: Seconds between two looks at what answers, during the probation.
        hold_seconds: Seconds between two tries to write what a disk did not take that is full or read-only.
        measure_seconds: Seconds for which each of several models is measured.
    """

    file_bytes: int = 1 << 31
    spare_bytes: int = 16 << 20
    report_seconds: float = 5.0
    exam_seconds: float = 300.0
    attempts: int = 3
    serving_starts: int = 3
    watch_seconds: float = 0.5
    hold_seconds: float = 5.0
    measure_seconds: float = 2.0


@dataclass(frozen=True)
class DataWatchLimits:
    """The limits of how often the training data are looked at.

    Attributes:
        interval_seconds: Seconds between two looks. What is being copied is left alone: it counts once two looks have
            seen the same.
        restless_seconds: Seconds after which data count that never stay the same for two looks, such as a table to
            which a logger always adds.
        duty: Share of the time that looking may take: a folder with very many files is looked at more rarely.
    """

    interval_seconds: float = 30.0
    restless_seconds: float = 600.0
    duty: float = 0.02


@dataclass(frozen=True)
class ServingLimits:
    """The process that answers requests with the installed model.

    Attributes:
        look_seconds: Seconds between two looks whether there is a model, and whether the process runs.
        report_seconds: Seconds between two reports of what was answered: each is a retained status.
        restart_seconds: Seconds after which a process that has ended is started again.
        restart_longest_seconds: Seconds that this grows to, doubled each time: what is broken stays so.
        stop_seconds: Seconds that it has to end in.
    """

    look_seconds: float = 2.0
    report_seconds: float = 60.0
    restart_seconds: float = 1.0
    restart_longest_seconds: float = 60.0
    stop_seconds: float = 6.0


@dataclass(frozen=True)
class AgentLimits:
    """The limits of an agent, by subject.

    Attributes:
        messages: Lengths of messages.
        presence: Waiting for the coordinator, and for another agent with the same name.
        link_probe: The measurement of the link.
        in_transit: Echoes that follow what is in transit.
        link: Estimate of the link's rate.
        downloads: Requests for missing chunks.
        uploads: Offers and chunks of updates.
        final_model: The ONNX file at the end of a run.
        installation: Models of a release.
        data_watch: Looks at the training data.
        serving: The process that answers requests.
    """

    messages: MessageLimits = MessageLimits()
    presence: PresenceLimits = PresenceLimits()
    link_probe: LinkProbeLimits = LinkProbeLimits()
    in_transit: InTransitLimits = InTransitLimits()
    link: LinkLimits = LinkLimits()
    downloads: DownloadLimits = DownloadLimits()
    uploads: UploadLimits = UploadLimits()
    final_model: FinalModelLimits = FinalModelLimits()
    installation: InstallationLimits = InstallationLimits()
    data_watch: DataWatchLimits = DataWatchLimits()
    serving: ServingLimits = ServingLimits()


LIMITS = AgentLimits()
"""The limits of this agent."""
