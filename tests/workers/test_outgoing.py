"""What may be sent, and the frames that carry it (S1, S6, S8, S9, S50, S52)."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import msgpack
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from wsrelay.kernel.wire import messages as wire
from wsrelay.kernel.wire.codec import FrameDecoder
from wsrelay.kernel.wire.errors import Invalid, LimitExceeded, NotFound
from wsrelay.kernel.wire.pid import Pid
from wsrelay.workers.core import outgoing
from wsrelay.workers.core.packing import pack, to_json, unpack

EPOCH = "0123456789abcdef"
WORKER = Pid.make("n", "h", EPOCH, "s", 1)
CLIENT = Pid.make("n", "g", EPOCH, "g2", 7)
OTHER = Pid.make("n", "g", EPOCH, "g2", 8)
STALE = Pid.make("n", "g", EPOCH, "g1", 7)


def compose(pids: list[Pid], topic: str, payload: Any) -> tuple[Any, Any]:
    """The records that the frames of a message hold."""
    frames = outgoing.compose_message(tuple(pids), topic, payload, 2)
    return decode(frames.control, wire.WORKER_TO_SUPERVISOR), decode(frames.data, wire.WORKER_TO_GATEWAY)


def decode(frame: bytes | None, accepts: dict[int, type]) -> Any:
    if frame is None:
        return None
    (record,) = FrameDecoder(accepts).decode(frame)
    return record


def test_one_frame_for_each_path() -> None:
    # S6
    control, data = compose([WORKER, CLIENT, STALE, OTHER], "ws.send", {"type": "text", "data": "hi"})
    assert control == wire.Send((WORKER,), "ws.send", msgpack.packb({"type": "text", "data": "hi"}))
    assert data == wire.ClientSend((7, 8), "hi")
    assert compose([STALE], "ws.send", {"data": "x"}) == (None, None)
    assert compose([], "topic", object()) == (None, None)


@pytest.mark.parametrize(
    ("topic", "payload", "record"),
    [
        ("ws.send", {"data": "ü"}, wire.ClientSend((7,), "ü")),
        ("ws.send", {"type": None, "data": "x", "client_pid": CLIENT, "metadata": {}}, wire.ClientSend((7,), "x")),
        ("ws.send", {"type": "binary", "data": bytearray(b"\x00")}, wire.ClientSend((7,), b"\x00")),
        # S50
        ("ws.close", None, wire.ClientClose((7,), 1000, "")),
        ("ws.close", {"code": 4000, "reason": None}, wire.ClientClose((7,), 4000, "")),
        ("ws.close", {"reason": "é" * 100}, wire.ClientClose((7,), 1000, "é" * 61)),
        # S47
        ("ws.control", {"target_pid": "room"}, wire.ClientControl((7,), "room", None, None, None)),
        (
            "ws.control",
            {"target_pid": WORKER, "message_topic": "t", "metadata": {}, "heartbeat_interval": "1.5s"},
            wire.ClientControl((7,), WORKER, "t", b"\x80", 1500),
        ),
        ("ws.control", {"target_pid": "room", "heartbeat_interval": 0.0001}, wire.ClientControl((7,), "room", None, None, 1)),
        # S52
        ("news", {"n": [1, None, "ü"]}, wire.ClientSend((7,), '{"topic":"news","data":{"n":[1,null,"ü"]}}')),
        ("ws.message", None, wire.ClientSend((7,), '{"topic":"ws.message","data":null}')),
    ],
)  # fmt: skip
def test_what_a_connection_gets(topic: str, payload: Any, record: Any) -> None:
    assert compose([CLIENT], topic, payload) == (None, record)


@pytest.mark.parametrize(
    ("topic", "payload", "match"),
    [
        ("ws.send", "hi", "expected a dict, got str"),
        ("ws.send", {}, "got NoneType"),
        ("ws.send", {"data": b"x"}, "got bytes"),
        ("ws.send", {"type": "binary", "data": "x"}, "got str"),
        ("ws.send", {"type": "ping", "data": "x"}, "'ping'"),
        ("ws.send", {"data": "\udc80"}, "UTF-8"),
        ("ws.close", {"code": "1000"}, "'1000'"),
        ("ws.close", {"code": True}, "True"),
        ("ws.close", {"reason": b"x"}, "got bytes"),
        ("ws.close", {"reason": "\udc80"}, "UTF-8"),
        ("ws.close", {"kode": 1000}, "'kode'"),
        ("ws.close", 1000, "got int"),
        ("ws.control", {}, "target_pid"),
        ("ws.control", {"target_pid": "{nonsense"}, "PID"),
        ("ws.control", {"target_pid": "a b"}, "name"),
        ("ws.control", {"target_pid": "room", "metadata": []}, "got list"),
        ("ws.control", {"target_pid": "room", "metadata": {"a": object()}}, r"the metadata\['a'\] is of type object"),
        ("ws.control", {"target_pid": "room", "message_topic": "ws.join"}, "reserved"),
        ("ws.control", {"target_pid": "room", "message_topic": ""}, "topic"),
        ("ws.control", {"target_pid": "room", "heartbeat_interval": -1}, "heartbeat_interval"),
        ("ws.control", {"target_pid": "room", "topic": "x"}, "unknown field 'topic'"),
        ("news", {"a": [b"x"]}, r"the message\['data'\]\['a'\]\[0\] is of type bytes"),
        ("news", math.nan, "float nan"),
        ("news", {"a": {1}}, "is of type set"),
        ("news", {(1, 2): 3}, "a key of .* is of type tuple"),
        ("news", "\udc80", "UTF-8"),
    ],
)
def test_what_a_connection_cannot_get(topic: str, payload: Any, match: str) -> None:
    # S9, S50; also when it is of a gateway that is gone
    for pid in (CLIENT, STALE):
        with pytest.raises(Invalid, match=match):
            compose([pid], topic, payload)


@given(st.integers(-1, 6000))
@example(999).via("each edge of S50")
@example(1003)
@example(1004)
@example(1005)
@example(1006)
@example(1007)
@example(1014)
@example(1015)
@example(2999)
@example(3000)
@example(4999)
@example(5000)
def test_close_codes(code: int) -> None:
    # S50
    allowed = code in {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}
    if allowed:
        assert compose([CLIENT], "ws.close", {"code": code})[1].code == code
    else:
        with pytest.raises(Invalid):
            compose([CLIENT], "ws.close", {"code": code})


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_close_reasons_are_cut_on_a_boundary(reason: str) -> None:
    # S50
    sent = compose([CLIENT], "ws.close", {"reason": reason})[1].reason
    assert reason.startswith(sent)
    assert len(sent.encode()) <= 123
    assert len(sent) == len(reason) or len(reason[: len(sent) + 1].encode()) > 123


@pytest.mark.parametrize("topic", ["@x", "ws.join", "ws.leave", "ws.heartbeat", "", "x" * 257, "\udc80", None, b"x"])
def test_topics_that_are_not_a_processs(topic: Any) -> None:
    # S9
    with pytest.raises(Invalid):
        outgoing.check_topic(topic)


@pytest.mark.parametrize(
    "destination",
    ["{x}", "{n@h|0123456789abcdef.s.0}", "a name", "", 1, None, b"x", [1], ["ok", "{"], Pid("{made up}")],
)
def test_malformed_destinations(destination: Any) -> None:
    # S1
    with pytest.raises(Invalid):
        outgoing.read_destinations(destination)


def test_destinations_are_sorted() -> None:
    assert outgoing.read_destinations(WORKER) == ((WORKER,), (), False)
    assert outgoing.read_destinations({"room": 1, str(CLIENT): 2}) == ((CLIENT,), ("room",), True)
    assert outgoing.read_destinations(iter([])) == ((), (), True)
    with pytest.raises(LimitExceeded):
        outgoing.read_destinations([WORKER] * 200_001)


def test_the_dead() -> None:
    # S8
    dead = {str(WORKER): None}
    with pytest.raises(NotFound):
        outgoing.live_pids((WORKER,), dead, several=False)
    assert outgoing.live_pids((WORKER, CLIENT), dead, several=True) == (CLIENT,)
    assert outgoing.live_pids((), dead, several=False) == ()


def test_frames_are_bounded() -> None:
    compose([WORKER], "t", bytes(wire.MAX_FRAME - 1000))
    with pytest.raises(LimitExceeded):
        compose([WORKER], "t", bytes(wire.MAX_FRAME))
    with pytest.raises(LimitExceeded):
        compose([CLIENT], "ws.send", {"data": "x" * wire.MAX_FRAME})


def test_cancel_and_terminate() -> None:
    # S29, S30
    assert outgoing.compose_cancel(STALE, None, 2) == (None, None)
    assert decode(outgoing.compose_cancel(WORKER, 5, 2).control, wire.WORKER_TO_SUPERVISOR) == wire.Cancel(WORKER, 5)
    data = decode(outgoing.compose_cancel(CLIENT, None, 2).data, wire.WORKER_TO_GATEWAY)
    assert data == wire.ClientCancel((7,), None)
    assert outgoing.compose_terminate(STALE, 2) == (None, None)
    frames = outgoing.compose_terminate(CLIENT, 2)
    assert decode(frames.control, wire.WORKER_TO_SUPERVISOR) == wire.Terminate(CLIENT)
    assert decode(frames.data, wire.WORKER_TO_GATEWAY) == wire.ClientTerminate((7,))
    assert outgoing.milliseconds("1m", "grace") == 60_000
    for bad in (-1, "soon", math.nan, None, True):
        with pytest.raises(Invalid, match="grace"):
            outgoing.milliseconds(bad, "grace")


CARRIED = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.integers(-5, 5) | st.text("ab"), inner),
    max_leaves=20,
)


@given(CARRIED)
def test_what_is_carried_arrives(value: Any) -> None:
    assert unpack(pack(value)) == value


@given(st.binary())
def test_garbage_unpacks_to_a_value_or_a_value_error(garbage: bytes) -> None:
    with contextlib.suppress(ValueError):
        unpack(garbage)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (object(), "the payload is of type object"),
        ({"a": [1, {2: {3}}]}, "the payload['a'][1][2] is of type set"),
        ([2**64], "the payload[0] is of type int 18446744073709551616"),
        (["\ud800"], "the payload[0] is of type str that is no UTF-8"),
        ({frozenset(): 1}, "a key of the payload is of type frozenset"),
        ((1, (2, lambda: None)), "the payload[1][1] is of type function"),
    ],
)
def test_refusals_name_type_and_place(value: Any, place: str) -> None:
    with pytest.raises(Invalid) as refused:
        pack(value)
    assert str(refused.value).startswith(place)


def test_what_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    for attempt in (pack, to_json):
        with pytest.raises(Invalid):
            attempt(value)
