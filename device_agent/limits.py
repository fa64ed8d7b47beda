"""All limits of the device agent, each once, with its unit and the reason for its size."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MessageLimits:
    """How long messages may be.

    Attributes:
        control_bytes: bytes of the longest control message that is read; a task's manifest takes some 150 bytes a
            unit, a grant's ranges 20 each.
        reason_characters: characters of a reason that is sent to the coordinator, which refuses longer ones.
    """

    control_bytes: int = 4 << 20
    reason_characters: int = 2000


@dataclass(frozen=True)
class PresenceLimits:
    """How long a device waits for a sign of the coordinator, or of another agent with its name.

    Attributes:
        settled_seconds: seconds after its first status, after which an agent that nobody contradicted has its name.
        search_seconds: seconds with a connection and without a coordinator, after which other names are looked at.
        heartbeat_first_seconds: seconds without a message to this device, after which an idle one reports again.
        heartbeat_longest_seconds: seconds that this grows to, doubled each time: thousands of idle devices must not
            load the broker.
        heartbeat_spread: share of that time by which devices that heard the same last message report later.
    """

    settled_seconds: float = 5.0
    search_seconds: float = 15.0
    heartbeat_first_seconds: float = 5.0
    heartbeat_longest_seconds: float = 60.0
    heartbeat_spread: float = 0.5


@dataclass(frozen=True)
class LinkProbeLimits:
    """How the link is measured.

    Attributes:
        pings: number of tiny messages that give the latency.
        ping_bytes: bytes of each of them.
        first_bytes: bytes of the first exchange.
        growth: factor from one exchange to the next.
        total_bytes: bytes of all exchanges together; a link on which they take no time is fast enough.
        parts: messages of one exchange: the two directions overlap in all but one of them.
        most_parts: messages of one exchange where the broker's packets are small: below what the shortest queues hold.
        trusted_seconds: seconds that a trusted exchange takes at least.
        trusted_latencies: latencies that it takes at least: TCP needs some journeys to find a link's rate.
        trusted_at_most_seconds: seconds that bound what the latency asks for.
        patience_seconds: seconds from one echo to the next.
        longest_seconds: seconds of the whole measurement: the first report waits for it.
        attempts: connections on which it is tried; one that breaks may have broken for another reason.
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
    """How it is found out whether something is still in transit.

    Attributes:
        echo_bytes: random bytes of an echo: nobody can guess them.
        patience_seconds: seconds for an echo until another is sent; doubled each time.
        echoes: unanswered echoes in a row, after which silence has to do this time.
        remembered: echoes that are recognised when they come back late.
    """

    echo_bytes: int = 16
    patience_seconds: float = 5.0
    echoes: int = 3
    remembered: int = 16


@dataclass(frozen=True)
class LinkLimits:
    """What follows from what is known of the link.

    Attributes:
        ahead_seconds: seconds of chunks in transit at once: enough to keep any link busy, and no more, since all else
            has to wait behind them.
        least_ahead: chunks in transit at once: while one is acknowledged the next is carried.
        least_seconds: seconds of use, before which a link has not shown its rate.
        reported_share: a rate that a round showed is reported if it is less than this share of what was thought, since
            measurements differ by less.
        short_rounds: rounds missed by the link, after which its rate is corrected: one may be bad luck.
        good_rounds: rounds in a row that were done in time, after which earlier bad luck is forgotten.
        rise_factor: factor on the rate that is planned with, at the least, before rounds show that a link is better.
        rise_rounds: rounds in a row that showed it; twice as many after each fall, so that plans do not go to and fro.
        most_rise_rounds: rounds in a row at the most, however often the link has fallen.
        most_rise: factor on the rate at once: what a router had stored comes in a burst and is no link.
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
    """When missing chunks are asked for.

    Attributes:
        patience_seconds: seconds of silence before the first request; doubled each time.
        longest_patience_seconds: seconds that this grows to.
        gaps: silence of so many times the gap between two chunks is taken for a loss; on a slow link each takes time.
        enough_chunks: units are asked for together until they miss so many chunks, so that small ones do not cost a
            journey each.
        slice_seconds: seconds that a link takes at most for what is asked for at once, so that the sender hears now and
            then how it goes.
    """

    patience_seconds: float = 0.5
    longest_patience_seconds: float = 5.0
    gaps: float = 3
    enough_chunks: int = 16
    slice_seconds: float = 30.0


@dataclass(frozen=True)
class UploadLimits:
    """When updates are offered again, and how their chunks are cut.

    Attributes:
        offer_seconds: seconds from the first offer of an update to the second; doubled each time.
        longest_offer_seconds: seconds that this grows to.
        offer_spread: share of that time by which an offer comes later: those that overflowed the coordinator's queue
            together do not come again together.
        receipt_seconds: seconds from the last acknowledged chunk to the next offer.
        repeated_grants: grants in a row for nothing but chunks that the broker has acknowledged, after which these are
            taken for too long.
        least_piece_bytes: bytes that the pieces of a chunk are not cut below: headers would take too much.
        behind_chunks: chunks that an answer may have to wait for on a slow link: the next model may be in transit.
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
    """How the final model is fetched and tried.

    Attributes:
        model_bytes: bytes of a self-contained ONNX file, which is one protobuf message.
        patience_seconds: seconds to wait for the rest of it after the coordinator went offline.
        report_seconds: seconds between two reports while chunks come: the coordinator stays as long as it hears them.
        trial_seconds: seconds for one inference, loading included.
    """

    model_bytes: int = 1 << 31
    patience_seconds: float = 30.0
    report_seconds: float = 5.0
    trial_seconds: float = 300.0


@dataclass(frozen=True)
class DataWatchLimits:
    """How often the training data are looked at.

    Attributes:
        interval_seconds: seconds between two looks. What is being copied is left alone: it counts once two looks have
            seen the same.
        duty: share of the time that looking may take: a folder with very many files is looked at more rarely.
    """

    interval_seconds: float = 30.0
    duty: float = 0.02


@dataclass(frozen=True)
class AgentLimits:
    """The limits of an agent, by subject.

    Attributes:
        messages: lengths of messages.
        presence: waiting for the coordinator, and for another agent with the same name.
        link_probe: the measurement of the link.
        in_transit: echoes that follow what is in transit.
        link: what follows from the link's rate.
        downloads: requests for missing chunks.
        uploads: offers and chunks of updates.
        final_model: the ONNX file at the end of a run.
        data_watch: looks at the training data.
    """

    messages: MessageLimits = MessageLimits()
    presence: PresenceLimits = PresenceLimits()
    link_probe: LinkProbeLimits = LinkProbeLimits()
    in_transit: InTransitLimits = InTransitLimits()
    link: LinkLimits = LinkLimits()
    downloads: DownloadLimits = DownloadLimits()
    uploads: UploadLimits = UploadLimits()
    final_model: FinalModelLimits = FinalModelLimits()
    data_watch: DataWatchLimits = DataWatchLimits()


LIMITS = AgentLimits()
"""The limits of this agent."""
