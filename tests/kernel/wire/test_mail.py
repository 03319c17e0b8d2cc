"""The fast way of messages from worker to worker beside its slow twin, the general codec."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsrelay.kernel.wire.codec import FrameDecoder, encode
from wsrelay.kernel.wire.mail import Mail, MailDecoder
from wsrelay.kernel.wire.messages import (
    SUPERVISOR_TO_WORKER,
    WORKER_TO_SUPERVISOR,
    Deliver,
    Monitor,
    Send,
)
from wsrelay.kernel.wire.pid import Pid

from . import twins
from .twins import LIMIT, cuts, damaged, damages

pids = st.builds(
    Pid.make, st.just("node"), st.sampled_from(["a:b", "app:host"]), st.just("0" * 16), st.just("s"), st.integers(1, 3)
)
destinations = pids | pids | st.text(max_size=40)
topics = st.sampled_from(
    ["count", "@exit", "ws.join", "", "thirty-one characters and ä", "x" * 31, "x" * 32]
) | st.text(max_size=9)
payloads = st.binary(max_size=60) | st.integers(200, LIMIT).map(bytes)
sends = st.builds(Send, st.tuples(destinations) | st.lists(destinations, max_size=3).map(tuple), topics, payloads)
plain = st.builds(Send, st.tuples(pids), st.just("count"), payloads)
records = plain | plain | sends | st.builds(Monitor, st.integers(0, 9), pids)


def general(record: Any) -> Iterable[Any]:
    """The records that a Mail stands for."""
    return record.sends() if isinstance(record, Mail) else [record]


def compare(stream: bytes, cuts: list[int]) -> list[Any]:
    """What both decoders make of a stream."""
    return twins.compare(MailDecoder, WORKER_TO_SUPERVISOR, general, stream, cuts)


@given(st.lists(records, max_size=12), cuts)
def test_the_decoders_agree_on_records(wanted: list[Any], cuts: list[int]) -> None:  # S6
    assert compare(b"".join(map(encode, wanted)), cuts) == wanted


@given(st.lists(records, max_size=4), cuts, damages)
def test_the_decoders_agree_on_damage(  # S11
    sent: list[Any], cuts: list[int], damages: list[tuple[int, int]]
) -> None:
    compare(damaged(b"".join(map(encode, sent)), damages), cuts)


@given(st.lists(records, max_size=3), st.binary(max_size=30), cuts)
def test_the_decoders_agree_on_garbage(sent: list[Any], garbage: bytes, cuts: list[int]) -> None:  # S11
    compare(b"".join(map(encode, sent)) + b"\x94\x02\x91\xd9" + garbage, cuts)


@pytest.mark.parametrize("size", [1000, *range(1005, 1030), 5000])
def test_the_decoders_agree_on_a_long_frame_between_others(size: int) -> None:  # S6
    mail = Send((Pid("{node@app:host|0123456789abcdef.s.2}"),), "count", b"payload")
    sent = [mail, Monitor(1, Pid("{}")), Send(("",) * size, "count", b""), mail, Send(("",) * size, "count", b""), mail]
    stream = b"".join(map(encode, sent))
    assert compare(stream, []) == compare(stream, list(range(0, len(stream), 97))) == sent


@pytest.mark.parametrize("size", [0, 1, 255, 256, 65535, 65536, 1 << 20])
def test_what_is_delivered_is_what_was_sent(size: int) -> None:  # S6
    sent = [
        Send(("{node@app:host|0123456789abcdef.s.2}",), topic, bytes(size)) for topic in ("a", "a", "b", "a", "ä" * 99)
    ]
    stream = b"".join(map(encode, sent))
    got: list[Any] = []
    decoder, receiver = MailDecoder(WORKER_TO_SUPERVISOR), FrameDecoder(SUPERVISOR_TO_WORKER)
    for start in range(0, len(stream), 10_007):
        for record in decoder.decode(stream[start : start + 10_007]):
            if isinstance(record, Mail):
                got += receiver.decode(record.deliver("{me}"))
            else:
                got.append(Deliver("{me}", record.topic, record.payload))
    assert got == [Deliver("{me}", topic, payload) for _, topic, payload in sent]


@pytest.mark.parametrize("topic", ["@exit", "@", "ws.join", "ws.leave", "ws.heartbeat"])
def test_a_message_on_a_reserved_topic_is_no_mail(topic: str) -> None:  # S9
    sent = Send(("{node@app:host|0123456789abcdef.s.2}",), topic, b"payload")
    assert list(MailDecoder(WORKER_TO_SUPERVISOR).decode(encode(sent))) == [sent]


def test_messages_to_one_process_come_together() -> None:
    sent = Send(("{node@app:host|0123456789abcdef.s.2}",), "count", b"payload")
    assert [len(mail.rests) for mail in MailDecoder(WORKER_TO_SUPERVISOR).decode(encode(sent) * 9)] == [9]


def test_a_split_frame_is_no_reason_to_go_the_slow_way() -> None:
    stream = encode(Send(("{node@app:host|0123456789abcdef.s.2}",), "count", b"payload")) * 3
    for cut in range(1, len(stream)):
        decoder = MailDecoder(WORKER_TO_SUPERVISOR)
        got = [*decoder.decode(stream[:cut]), *decoder.decode(stream[cut:])]
        assert {type(record) for record in got} == {Mail}
