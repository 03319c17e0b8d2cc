"""The metrics that there are, and how they come from what was counted.

Owns their names, types, labels and help. Labels are ids of the configuration and words of the runtime's own; nothing that a
client sends becomes one. Pure: what was counted and measured is an argument.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from ...kernel.wire.observation import HistogramData, Observation
from .counts import ServerCounts
from .exposition import Metric, Samples

P: Final = "wsrelay_"

CATALOGUE: Final = (
    Metric(f"{P}build_info", "gauge", "The version that runs; always 1.", ("version",)),
    Metric(f"{P}supervisor_up", "gauge", "Whether the supervisor has answered this scrape. If not, what it counts is missing."),
    Metric(f"{P}ready", "gauge", "Whether /readyz answers 200."),
    Metric(f"{P}start_time_seconds", "gauge", "When the process started, in seconds since the epoch.", ("process",)),
    Metric(f"{P}connections", "gauge", "WebSocket connections that are open.", ("server",)),
    Metric(f"{P}connections_opened_total", "counter", "WebSocket connections that were admitted.", ("server",)),
    Metric(f"{P}connections_closed_total", "counter", "WebSocket connections that ended, by close code and by who ended them.",
           ("server", "code", "initiator")),
    Metric(f"{P}connections_lost_total", "counter", "WebSocket connections that died with their gateway."),
    Metric(f"{P}connection_seconds", "histogram", "How long ended WebSocket connections were open.", ("server",)),
    Metric(f"{P}messages_received_total", "counter", "Messages of clients.", ("server",)),
    Metric(f"{P}messages_sent_total", "counter", "Messages to clients.", ("server",)),
    Metric(f"{P}received_bytes_total", "counter", "Bytes of WebSocket clients, with frames, before TLS.", ("server",)),
    Metric(f"{P}sent_bytes_total", "counter", "Bytes to WebSocket clients, with frames, before TLS.", ("server",)),
    Metric(f"{P}worker_queue_bytes", "gauge", "Bytes that wait in the gateway for workers, all together."),
    Metric(f"{P}worker_queue_high_water_bytes", "gauge",
           "Most bytes that waited in the gateway for one worker, in the last 30 to 60 seconds."),
    Metric(f"{P}client_queue_bytes", "gauge", "Bytes that wait in the gateway for slow clients, all together."),
    Metric(f"{P}client_queue_high_water_bytes", "gauge",
           "Most bytes that waited in the gateway for one client, in the last 30 to 60 seconds."),
    Metric(f"{P}slow_clients_total", "counter", "Clients closed with 1013 because they did not take what they were sent.", ("server",)),
    Metric(f"{P}stalls_total", "counter", "Times that the queue for a worker was full, so that its clients were not read."),
    Metric(f"{P}stalled_workers", "gauge", "Workers whose clients are not read now."),
    Metric(f"{P}http_requests_total", "counter", "HTTP requests by the status of their answer; 101 is a WebSocket, 499 a client that was gone before the answer.", ("server", "status")),
    Metric(f"{P}http_request_seconds", "histogram", "From the head of a request to its answer.", ("server",)),
    Metric(f"{P}http_requests_waiting", "gauge", "Requests that wait for a function worker.", ("server",)),
    Metric(f"{P}processes", "gauge", "Processes that run now; an idle function worker has no entry.", ("entry",)),
    Metric(f"{P}spawns_total", "counter", "Actors that were spawned.", ("entry",)),
    Metric(f"{P}function_workers_started_total", "counter", "Function workers that were started.", ("host",)),
    Metric(f"{P}exits_total", "counter", "Processes that ended, by the kind of the reason. An HTTP request is one.", ("entry", "reason")),
    Metric(f"{P}service_restarts_total", "counter", "Restarts of supervised services.", ("service",)),
    Metric(f"{P}upgrades_total", "counter", "Processes that went on with other code, by the new entry.", ("entry",)),
    Metric(f"{P}service_running", "gauge", "Whether a supervised service runs, or has done its work.", ("service",)),
    Metric(f"{P}service_failed", "gauge", "Whether a supervised service was given up.", ("service",)),
    Metric(f"{P}gateway_restarts_total", "counter", "Times that the gateway was started again."),
    Metric(f"{P}host_restarts_total", "counter", "Times that a fork server was started again.", ("host",)),
    Metric(f"{P}spawn_seconds", "histogram", "From the decision to start a worker to its birth."),
    Metric(f"{P}crash_to_close_seconds", "histogram",
           "From the supervisor's notice that a target is dead to the close frame of the last of its clients."),
    Metric(f"{P}loop_lag_seconds", "histogram", "How late a timer of the event loop was, once a second.", ("process",)),
    Metric(f"{P}process_cpu_seconds_total", "counter", "CPU time of the runtime's own processes.", ("process", "host")),
    Metric(f"{P}process_resident_memory_bytes", "gauge", "Resident memory of the runtime's own processes.", ("process", "host")),
    Metric(f"{P}worker_cpu_seconds", "gauge", "CPU time of the workers that live, added up.", ("entry",)),
    Metric(f"{P}worker_resident_memory_bytes", "gauge",
           "Resident memory of the workers that live, added up; pages that they share are counted for each.", ("entry",)),
    Metric(f"{P}worker_resident_memory_max_bytes", "gauge", "Resident memory of the largest worker.", ("entry",)),
    Metric(f"{P}workers", "gauge", "Workers that live."),
    Metric(f"{P}workers_measured", "gauge", "Workers whose CPU time and memory were measured: at most 1000."),
    Metric(f"{P}reaped_cpu_seconds_total", "counter", "CPU time of everything that has ended."),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Usage:
    """What one OS process has used: its role and entry as in `ProcessFacts`, seconds of CPU time, bytes resident."""

    role: str
    entry: str
    cpu: float
    resident: int


@dataclass(frozen=True, slots=True)
class OpenTotals:
    """Of the connections of one server that are open."""

    connections: int = 0
    messages_received: int = 0
    messages_sent: int = 0
    bytes_received: int = 0
    bytes_sent: int = 0


@dataclass(frozen=True, slots=True)
class GatewayLook:
    """What the gateway itself knows. By server: id, counts, open connections, requests that wait."""

    version: str
    started_at: float
    servers: Sequence[tuple[str, ServerCounts, OpenTotals, int]]
    worker_queue: int
    worker_queue_high: int
    client_queue: int
    client_queue_high: int
    stalls: int
    stalled: int
    crash_to_close: HistogramData
    lag: HistogramData


def collect(look: GatewayLook, observation: Observation | None, usages: Iterable[Usage]) -> Samples:
    """Return all values. `observation` is None if the supervisor has not answered."""
    samples = Samples(CATALOGUE)
    samples.put(f"{P}build_info", 1, look.version)
    samples.put(f"{P}supervisor_up", int(observation is not None))
    samples.put(f"{P}ready", int(observation is not None and not observation.unready))
    samples.put(f"{P}start_time_seconds", look.started_at, "gateway")
    for server in look.servers:
        _put_server(samples, *server)
    samples.put(f"{P}worker_queue_bytes", look.worker_queue)
    samples.put(f"{P}worker_queue_high_water_bytes", look.worker_queue_high)
    samples.put(f"{P}client_queue_bytes", look.client_queue)
    samples.put(f"{P}client_queue_high_water_bytes", look.client_queue_high)
    samples.put(f"{P}stalls_total", look.stalls)
    samples.put(f"{P}stalled_workers", look.stalled)
    samples.put(f"{P}crash_to_close_seconds", look.crash_to_close)
    samples.put(f"{P}loop_lag_seconds", look.lag, "gateway")
    if observation is not None:
        _put_observation(samples, observation)
    _put_usages(samples, usages)
    return samples


def _put_server(samples: Samples, id: str, counts: ServerCounts, now: OpenTotals, waiting: int) -> None:
    samples.put(f"{P}connections", now.connections, id)
    samples.put(f"{P}connections_opened_total", counts.opened, id)
    for (code, who), number in counts.closed.items():
        samples.put(f"{P}connections_closed_total", number, id, code, who)
    samples.put(f"{P}connection_seconds", counts.connection_seconds.data(), id)
    samples.put(f"{P}messages_received_total", counts.messages_received + now.messages_received, id)
    samples.put(f"{P}messages_sent_total", counts.messages_sent + now.messages_sent, id)
    samples.put(f"{P}received_bytes_total", counts.bytes_received + now.bytes_received, id)
    samples.put(f"{P}sent_bytes_total", counts.bytes_sent + now.bytes_sent, id)
    samples.put(f"{P}slow_clients_total", counts.slow_clients, id)
    for status, number in counts.requests.items():
        samples.put(f"{P}http_requests_total", number, id, str(status))
    samples.put(f"{P}http_request_seconds", counts.request_seconds.data(), id)
    samples.put(f"{P}http_requests_waiting", waiting, id)


def _put_observation(samples: Samples, seen: Observation) -> None:
    samples.put(f"{P}start_time_seconds", seen.started_at, "supervisor")
    samples.put(f"{P}connections_lost_total", seen.connections_lost)
    samples.put_all(f"{P}spawns_total", seen.spawns)
    samples.put_all(f"{P}function_workers_started_total", seen.function_workers)
    samples.put_all(f"{P}upgrades_total", seen.upgrades)
    for entry, reasons in seen.exits.items():
        for reason, number in reasons.items():
            samples.put(f"{P}exits_total", number, entry, reason)
    for id, state in seen.services.items():
        samples.put(f"{P}service_restarts_total", seen.restarts.get(id, 0), id)
        samples.put(f"{P}service_running", int(state in ("running", "finished")), id)
        samples.put(f"{P}service_failed", int(state == "failed"), id)
    samples.put(f"{P}gateway_restarts_total", seen.gateway_restarts)
    samples.put_all(f"{P}host_restarts_total", seen.host_restarts)
    samples.put(f"{P}spawn_seconds", seen.spawn_seconds)
    samples.put(f"{P}loop_lag_seconds", seen.lag_seconds, "supervisor")
    samples.put(f"{P}reaped_cpu_seconds_total", seen.reaped_cpu)
    workers = [facts.entry for facts in seen.processes if facts.role == "worker"]
    samples.put(f"{P}workers", len(workers))
    samples.put_all(f"{P}processes", {entry: workers.count(entry) for entry in dict.fromkeys(workers)})


def _put_usages(samples: Samples, usages: Iterable[Usage]) -> None:
    cpu: dict[str, float] = {}
    resident: dict[str, int] = {}
    largest: dict[str, int] = {}
    measured = 0
    for usage in usages:
        if usage.role != "worker":
            samples.put(f"{P}process_cpu_seconds_total", usage.cpu, usage.role, usage.entry)
            samples.put(f"{P}process_resident_memory_bytes", usage.resident, usage.role, usage.entry)
            continue
        measured += 1
        cpu[usage.entry] = cpu.get(usage.entry, 0.0) + usage.cpu
        resident[usage.entry] = resident.get(usage.entry, 0) + usage.resident
        largest[usage.entry] = max(largest.get(usage.entry, 0), usage.resident)
    samples.put(f"{P}workers_measured", measured)
    samples.put_all(f"{P}worker_cpu_seconds", cpu)
    samples.put_all(f"{P}worker_resident_memory_bytes", resident)
    samples.put_all(f"{P}worker_resident_memory_max_bytes", largest)
