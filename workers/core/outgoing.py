"""What may be sent: from a destination, a topic and a payload to the frames that carry them (S6, S8, S9, S50).

The path follows from the PID: processes of the supervisor by one frame on the control channel, connections by one frame on
the data channel. Everything is checked before a byte is written. Knows nothing of sockets.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from functools import lru_cache
from typing import Any, NamedTuple

from ...kernel.wire import messages as wire
from ...kernel.wire.client_frames import encode_send, send_prefix
from ...kernel.wire.codec import MAX_ITEMS, encode
from ...kernel.wire.errors import Invalid, LimitExceeded, NotFound
from ...kernel.wire.pid import Pid, check_name, looks_like_pid
from ...kernel.wire.quantities import parse_duration
from .packing import pack, to_json

_MAX_CLOSE_REASON = 123
"""Bytes (RFC 6455, 5.5)."""
_SMALL = 64 << 10
"""Characters or bytes up to which a message to one connection is encoded without the general codec."""


class Frames(NamedTuple):
    """What one call writes; None for a channel that has no part in it."""

    control: bytes | None = None
    data: bytes | None = None


class Destinations(NamedTuple):
    """Where a message goes, before its names are resolved."""

    pids: tuple[Pid, ...]
    names: tuple[str, ...]
    several: bool
    """Whether the caller gave an iterable: then the dead among them are skipped (S8)."""


def read_destinations(destination: object) -> Destinations:
    """Sort what the caller gave into PIDs and names. Raises Invalid for what is neither."""
    if isinstance(destination, str):
        given: tuple[object, ...] = (destination,)
        several = False
    elif isinstance(destination, Iterable) and not isinstance(destination, (bytes, bytearray, memoryview)):
        given = tuple(destination)
        several = True
    else:
        raise Invalid(f"expected a PID, a name or an iterable of them, got {type(destination).__name__}")
    if len(given) > MAX_ITEMS:
        raise LimitExceeded(f"{len(given)} destinations: a message has at most {MAX_ITEMS}, so send several")
    pids, names = [], []
    for item in given:
        if isinstance(item, str) and not looks_like_pid(item):
            names.append(check_name(item))
        else:
            pids.append(check_pid(item))
    return Destinations(tuple(pids), tuple(names), several)


def check_pid(value: object) -> Pid:
    """Return `value` as a PID. Raises Invalid if it is malformed (S1)."""
    pid = Pid.parse(value)
    pid.parts  # noqa: B018  # a Pid that a user made by hand is checked here
    return pid


def check_ids(entry: object, host: object) -> None:
    """Raise Invalid for what cannot be the id of an entry, or of a host."""
    check_id("entry", entry)
    check_id("host", host)


def check_id(what: str, value: object) -> None:
    """Raise Invalid for what cannot be the id of a `what`."""
    if not isinstance(value, str):
        raise Invalid(f"expected the id of the {what}, namespace:name, got {type(value).__name__}")


def check_flag(what: str, value: object) -> bool | None:
    """Raise Invalid unless the value of an option is a boolean, or None for one that is left as it is: "no" would be true."""
    if value is None or isinstance(value, bool):
        return value
    raise Invalid(f"{what} is True or False, not {type(value).__name__}")


def check_topic(topic: object) -> str:
    """Return `topic` if a process may send on it. Raises Invalid otherwise (S9)."""
    if not isinstance(topic, str):
        raise Invalid(f"expected a topic, got {type(topic).__name__}")
    return check_topic_text(str(topic))


@lru_cache(maxsize=256)
def check_topic_text(topic: str) -> str:
    """What was accepted is remembered: a process sends on few topics, again and again."""
    if not 0 < len(topic) <= wire.MAX_TOPIC:
        raise Invalid(f"expected a topic of 1 to {wire.MAX_TOPIC} characters, got {len(topic)}")
    if wire.topic_is_reserved(topic):
        raise Invalid(f"the topic {topic!r} is reserved: only the runtime sends on it")
    if not _is_utf8(topic):
        raise Invalid("the topic is no UTF-8: it holds lone surrogates")
    return topic


def check_listened_topic(topic: object) -> str:
    """Return `topic` if messages can come on it. Raises Invalid otherwise."""
    if not isinstance(topic, str):
        raise Invalid(f"expected a topic, got {type(topic).__name__}")
    if not 0 < len(topic) <= wire.MAX_TOPIC:
        raise Invalid(f"expected a topic of 1 to {wire.MAX_TOPIC} characters, got {len(topic)}")
    if topic.startswith("@"):
        raise Invalid(f"no message comes on {topic!r}: topics that start with @ are the runtime's own")
    return topic


def live_pids(pids: tuple[Pid, ...], observed_dead: Collection[str], *, several: bool) -> tuple[Pid, ...]:
    """Return `pids` without those whose end this process has seen. Raises NotFound for a single one (S8)."""
    if not observed_dead:
        return pids
    live = tuple(pid for pid in pids if pid not in observed_dead)
    if pids and not live and not several:
        raise NotFound(f"{pids[0]} has ended: this process has seen its EXIT")
    return live


@lru_cache(maxsize=16384)
def route_of(pid: Pid) -> tuple[int, int, bytes]:
    """Return the path to a PID: the incarnation of the gateway that owns it, 0 for a process of the supervisor; its serial; and
    what the frames to a connection begin with (`send_prefix`). Raises Invalid if a user has made it by hand and it is malformed.
    """
    # A plain tuple, because a named one takes ten times as long to unpack, and this is done for each message.
    parts = pid.parts
    return parts.gateway_incarnation, parts.serial, send_prefix(parts.serial)


def message_to_process(pid: Pid, topic: str, payload: Any) -> bytes:
    """Return the control frame of a message to one process. Raises Invalid or LimitExceeded."""
    return frame(wire.Send((pid,), topic, pack(payload)))


def message_to_connection(serial: int, prefix: bytes, topic: str, payload: Any) -> bytes:
    """Return the data frame of a message to one connection: see `route_of`. Raises Invalid or LimitExceeded."""
    if topic == "ws.send":
        data = _client_data(payload)
        if len(data) <= _SMALL:
            try:
                return encode_send(prefix, data)
            except UnicodeEncodeError:
                pass  # to be refused as everything else that is
    return frame(_client_record((serial,), topic, payload))


def compose_message(pids: tuple[Pid, ...], topic: str, payload: Any, gateway: int) -> Frames:
    """Return the frames of a message. `gateway` is the incarnation that the data channel leads to, 0 without one.

    Connections of another incarnation are dead, and dropped like any dead destination; what is sent to them is checked
    all the same. Raises Invalid or LimitExceeded.
    """
    workers, serials, to_connection = [], [], False
    for pid in pids:
        parts = pid.parts
        if not parts.is_connection:
            workers.append(pid)
            continue
        to_connection = True
        if parts.gateway_incarnation == gateway:
            serials.append(parts.serial)
    control = data = None
    if workers:
        control = frame(wire.Send(tuple(workers), topic, pack(payload)))
    if to_connection:
        record = _client_record(tuple(serials), topic, payload)
        data = frame(record)
    return Frames(control, data if serials else None)


def compose_cancel(pid: Pid, grace: int | None, gateway: int) -> Frames:
    """Return the frames of `cancel`; `grace` is in milliseconds."""
    parts = pid.parts
    if not parts.is_connection:
        return Frames(control=frame(wire.Cancel(pid, grace)))
    if parts.gateway_incarnation != gateway:
        return Frames()
    return Frames(data=frame(wire.ClientCancel((parts.serial,), grace)))


def compose_terminate(pid: Pid, gateway: int) -> Frames:
    """Return the frames of `terminate`. For a connection of today's gateway there are two: the control frame is only for
    a data channel that is blocked (S30)."""
    parts = pid.parts
    control = frame(wire.Terminate(pid))
    if not parts.is_connection:
        return Frames(control=control)
    if parts.gateway_incarnation != gateway:
        return Frames()
    return Frames(control, frame(wire.ClientTerminate((parts.serial,))))


def frame(record: tuple[Any, ...]) -> bytes:
    """Return the frame of a record. Raises LimitExceeded over MAX_FRAME, Invalid for text that is no UTF-8."""
    try:
        encoded = encode(record)
    except UnicodeEncodeError:
        raise Invalid("text is no UTF-8: it holds lone surrogates") from None
    except (ValueError, OverflowError) as error:
        raise LimitExceeded(f"the message does not fit into a frame: {error}") from None
    if len(encoded) > wire.MAX_FRAME:
        raise LimitExceeded(f"a message of {len(encoded)} bytes: the limit is {wire.MAX_FRAME}")
    return encoded


def milliseconds(value: object, what: str) -> int:
    """Return a duration (a string with units, or seconds) in milliseconds, rounded up. Raises Invalid."""
    try:
        return math.ceil(parse_duration(value) * 1000)
    except ValueError as error:
        raise Invalid(f"{what}: {error}") from None


# --- to a connection --------------------------------------------------------------------------------------------------


def _client_record(serials: tuple[int, ...], topic: str, payload: Any) -> tuple[Any, ...]:
    if topic == "ws.send":
        return wire.ClientSend(serials, _client_data(payload))
    if topic == "ws.close":
        return _client_close(serials, payload)
    if topic == "ws.control":
        return _client_control(serials, payload)
    return wire.ClientSend(serials, to_json({"topic": topic, "data": payload}, "the message"))


def _client_data(payload: Any) -> str | bytes:
    """Return what a `ws.send` sends. Raises Invalid."""
    if not isinstance(payload, dict):
        raise Invalid(f"ws.send: expected a dict, got {type(payload).__name__}")
    kind, data = payload.get("type") or "text", payload.get("data")
    if kind == "text":
        if isinstance(data, str):
            return data
        raise Invalid(f"ws.send of type text: expected data to be str, got {type(data).__name__}")
    if kind == "binary":
        if isinstance(data, (bytes, bytearray, memoryview)):
            return bytes(data)
        raise Invalid(f"ws.send of type binary: expected data to be bytes, got {type(data).__name__}")
    raise Invalid(f"ws.send: expected type text or binary, got {kind!r:.80}")


def _client_close(serials: tuple[int, ...], payload: Any) -> wire.ClientClose:
    fields = _fields({} if payload is None else payload, "ws.close", ("code", "reason"))
    code, reason = fields.get("code"), fields.get("reason")
    code = 1000 if code is None else code
    reason = "" if reason is None else reason
    if type(code) is not int or not _may_close_with(code):
        raise Invalid(f"ws.close: expected a code of 1000-1003, 1007-1014 or 3000-4999, got {code!r:.80}")
    if not isinstance(reason, str):
        raise Invalid(f"ws.close: expected reason to be str, got {type(reason).__name__}")
    if not _is_utf8(reason):
        raise Invalid("ws.close: reason is no UTF-8: it holds lone surrogates")
    return wire.ClientClose(serials, code, reason.encode()[:_MAX_CLOSE_REASON].decode(errors="ignore"))


def _may_close_with(code: int) -> bool:
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def _client_control(serials: tuple[int, ...], payload: Any) -> wire.ClientControl:
    fields = _fields(payload, "ws.control", ("target_pid", "message_topic", "metadata", "heartbeat_interval"))
    target, topic = fields.get("target_pid"), fields.get("message_topic")
    metadata, interval = fields.get("metadata"), fields.get("heartbeat_interval")
    if not isinstance(target, str):
        raise Invalid(f"ws.control: expected target_pid to be a PID or a name, got {type(target).__name__}")
    if metadata is not None and not isinstance(metadata, dict):
        raise Invalid(f"ws.control: expected metadata to be a dict, got {type(metadata).__name__}")
    return wire.ClientControl(
        serials,
        check_pid(target) if looks_like_pid(target) else check_name(target),
        None if topic is None else check_topic(topic),
        None if metadata is None else pack(metadata, "the metadata"),
        None if interval is None else milliseconds(interval, "ws.control: heartbeat_interval"),
    )


def _fields(payload: Any, topic: str, known: tuple[str, ...]) -> dict[Any, Any]:
    if not isinstance(payload, dict):
        raise Invalid(f"{topic}: expected a dict, got {type(payload).__name__}")
    if unknown := [key for key in payload if key not in known]:
        raise Invalid(f"{topic}: unknown field {unknown[0]!r:.80}, expected {', '.join(known)}")
    return payload


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
