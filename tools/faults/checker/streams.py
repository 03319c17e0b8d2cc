"""Invariants 3, 4, 12 and 13: what arrives, in which order, and what is lost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from ....kernel.wire import journal_records as j
from ..entry import Entry
from .groups import changes_are_read_in_order
from .handing import heartbeats_wait_alone, mail_is_handed_over
from .leaving import brackets_are_closed_by_the_gateway
from .world import Violation, World

_LEFT_IN_ORDER = frozenset({"normal", "cancelled", "exception"})
"""Kinds of a sender that has written its exit report, behind everything that it sent."""


def pairs_are_in_order(world: World) -> list[Violation]:
    """3. For every pair, received is a prefix of sent. The whole of it if the receiver has read all that came to it and the
    sender did not die in the midst of a send."""
    sent: dict[tuple[str, str], list[tuple[Entry, Any]]] = defaultdict(list)
    read: dict[tuple[str, str], list[tuple[Entry, Any]]] = defaultdict(list)
    for entry, message in world.of(j.Sent):
        for to in message.to:
            sent[message.pid, to].append((entry, (message.topic, message.size)))
    for entry, arrived in world.of(j.Readable):
        if arrived.what == "message" and not arrived.epoch:
            read[arrived.sender, arrived.pid].append((entry, (arrived.topic, arrived.size)))
    found = _compare(world, sent, read, whole=True)
    numbers: dict[tuple[str, str], list[tuple[Entry, Any]]] = defaultdict(list)
    received: dict[tuple[str, str], list[tuple[Entry, Any]]] = defaultdict(list)
    for entry, sending in world.of(j.NumberSent):
        numbers[sending.pid, sending.to].append((entry, sending.number))
    for entry, receiving in world.of(j.NumberReceived):
        if not receiving.stream:
            received[receiving.sender, receiving.pid].append((entry, receiving.number))
    for entry, at_client in world.of(j.ClientReceived):
        connection = world.connection_of.get(at_client.stream)
        if at_client.sender and connection is not None:
            received[at_client.sender, connection].append((entry, at_client.number))
    return (
        found
        + _compare(world, numbers, received, whole=False)
        + changes_are_read_in_order(world)
        + mail_is_handed_over(world)
    )


def _compare(
    world: World,
    sent: dict[tuple[str, str], list[tuple[Entry, Any]]],
    read: dict[tuple[str, str], list[tuple[Entry, Any]]],
    *,
    whole: bool,
) -> list[Violation]:
    found = []
    for (sender, receiver), arrived in read.items():
        expected = sent.get((sender, receiver), [])
        for index, (entry, item) in enumerate(arrived):
            if index >= len(expected):
                found.append(Violation(3, f"{receiver} receives from {sender} no more than was sent: {item}", (entry,)))
                break
            if item != expected[index][1]:
                what = f"the {index + 1}. message from {sender} at {receiver} is {expected[index][1]}, not {item}"
                found.append(Violation(3, what, (expected[index][0], entry)))
                break
    for (sender, receiver), items in sent.items() if whole and not world.supervisor_killed else ():
        missing = items[len(read.get((sender, receiver), ())) :]
        death = world.death(sender)
        excused = 0 if death is None or death.kind in _LEFT_IN_ORDER else 1
        if receiver in world.attentive and len(missing) > excused and not _unsent(world, sender, missing):
            what = f"{receiver} waits, so it has all that {sender} sent: {len(missing)} are missing"
            found.append(Violation(3, what, tuple(entry for entry, _ in missing[:3])))
    return found


def _unsent(world: World, sender: str, missing: Sequence[tuple[Entry, Any]]) -> bool:
    """Whether a live sender may still be in the midst of sending: it does not wait."""
    return world.lives(sender) and sender not in world.attentive and len(missing) <= 1


def exit_is_a_barrier(world: World) -> list[Violation]:
    """4. When EXIT(p) is readable, everything p will ever deliver is readable; nothing comes later."""
    found = []
    ended: dict[tuple[str, str], Entry] = {}
    joined: dict[tuple[str, str], Entry] = {}
    for entry, arrived in world.of(j.Readable):
        key = (arrived.pid, arrived.sender)
        if arrived.what in ("EXIT", "LINK_DOWN"):
            ended.setdefault(key, entry)
            if key in joined:
                what = f"`ws.leave` of {arrived.sender} precedes its end at {arrived.pid}"
                found.append(Violation(4, what, (joined[key], entry)))
        elif arrived.what == "message":
            if key in ended:
                what = f"nothing of {arrived.sender} arrives at {arrived.pid} after its end"
                found.append(Violation(4, what, (ended[key], entry)))
            if arrived.topic == "ws.join":
                joined[key] = entry
            elif arrived.topic == "ws.leave":
                joined.pop(key, None)
    return found


class _Bracket(NamedTuple):
    """From a join to its leave, at one target."""

    join: Entry
    messages: int
    leave: Entry | None


def brackets_are_whole(world: World) -> list[Violation]:
    """12. Each (connection, target, transfer epoch) log matches S45, balanced for live targets."""
    found: list[Violation] = []
    opened: dict[tuple[str, str], _Bracket] = {}
    closed: dict[tuple[str, str], list[_Bracket]] = defaultdict(list)
    for entry, arrived in world.of(j.Readable):
        if arrived.what != "message" or not arrived.epoch or arrived.topic == "ws.control_error":
            continue
        key = (arrived.sender, arrived.pid)
        bracket = opened.get(key)
        if arrived.topic == "ws.join":
            if bracket is not None:
                found.append(Violation(12, f"{arrived.sender} joins {arrived.pid} once", (bracket.join, entry)))
            opened[key] = _Bracket(entry, 0, None)
        elif bracket is None:
            what = f"{arrived.topic} of {arrived.sender} comes to {arrived.pid} between a join and its leave"
            found.append(Violation(12, what, (*(one.leave for one in closed[key][-1:] if one.leave), entry)))
        elif arrived.topic == "ws.leave":
            closed[key].append(bracket._replace(leave=entry))
            del opened[key]
        elif arrived.topic == "ws.message":
            opened[key] = bracket._replace(messages=bracket.messages + 1)
    over = {record.connection: entry for entry, record in world.of(j.ConnectionOver)}
    for (connection, target), bracket in opened.items():
        end = over.get(connection) or world.died.get(connection)
        if end is not None and target in world.attentive and not world.supervisor_killed:
            found.append(
                Violation(12, f"{connection} has left {target}, which waits: no leave came", (bracket.join, end))
            )
    found += brackets_are_closed_by_the_gateway(world)
    return found + _counts_agree(world, opened, closed) + heartbeats_wait_alone(world)


def _counts_agree(
    world: World, opened: dict[tuple[str, str], _Bracket], closed: dict[tuple[str, str], list[_Bracket]]
) -> list[Violation]:
    """What the gateway took from a client is what the target got."""
    found = []
    written: dict[tuple[str, str], list[tuple[Entry, j.Left]]] = defaultdict(list)
    joined: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry, joining in world.of(j.Joined):
        joined[joining.connection, joining.target].append(entry)
    for entry, leaving in world.of(j.Left):
        written[leaving.connection, leaving.target].append((entry, leaving))
    for key in closed.keys() | opened.keys() | joined.keys():
        brackets = [*closed[key], *([opened[key]] if key in opened else [])]
        entries = joined.get(key, [])
        if joined and len(brackets) > len(entries):
            found.append(Violation(12, f"{key[0]} joins {key[1]} as often as the gateway says", (brackets[-1].join,)))
        read_all = key[1] in world.attentive and not world.gateway_lost(key[0]) and not world.supervisor_killed
        if read_all and len(brackets) < len(entries):
            what = f"{key[1]} waits, so it has each join of {key[0]}: {len(brackets)}, not {len(entries)}"
            found.append(Violation(12, what, (entries[len(brackets)],)))
        for bracket, (entry, left) in zip(brackets, written[key], strict=False):
            short = bracket.leave is not None and left.reason and bracket.messages < left.messages
            if bracket.messages > left.messages or short:
                what = f"{key[1]} gets the {left.messages} messages of {key[0]}: it got {bracket.messages}"
                found.append(Violation(12, what, (bracket.join, entry)))
            reason = bracket.leave.record[7] if bracket.leave is not None and left.reason else left.reason
            if reason not in (left.reason, "gateway_lost"):
                what = f"{key[0]} leaves {key[1]} for the reason that the gateway wrote: {left.reason}, not {reason}"
                found.append(Violation(12, what, (entry, bracket.leave or bracket.join)))
    return found


class _Received(NamedTuple):
    number: int
    pid: str
    entry: Entry


def streams_are_partitioned(world: World) -> list[Violation]:
    """13. The client's numbered stream, up to the close (S46), is partitioned into contiguous ranges by target; only a
    target's own death, or the tail of a cut line, loses items."""
    found: list[Violation] = []
    sent: dict[str, list[Entry]] = defaultdict(list)
    received: dict[str, list[_Received]] = defaultdict(list)
    for entry, sending in world.of(j.ClientSent):
        sent[sending.stream].append(entry)
    for entry, item in world.of(j.NumberReceived):
        if item.stream:
            received[item.stream].append(_Received(item.number, item.pid, entry))
    for stream, items in received.items():
        found += _in_order(stream, items, {entry.record[1] for entry in sent[stream]})
    for stream, entries in sent.items():
        numbers = [entry.record[1] for entry in entries]
        if numbers != list(range(1, len(numbers) + 1)):
            raise ValueError(f"the client {stream} must number what it sends from 1, without a gap")
        if not world.supervisor_killed:
            found += _lost(world, stream, entries, received[stream])
    return found


def _in_order(stream: str, items: list[_Received], sent: set[int]) -> Iterator[Violation]:
    """Every item once, and rising at each target."""
    seen: dict[int, _Received] = {}
    last: dict[str, _Received] = {}
    for item in items:
        if item.number not in sent:
            yield Violation(13, f"{stream}: only what was sent is received: {item.number} was not", (item.entry,))
        if item.number in seen:
            what = f"{stream}: item {item.number} comes to one target, once"
            yield Violation(13, what, (seen[item.number].entry, item.entry))
        elif item.pid in last and last[item.pid].number > item.number:
            what = f"{stream}: the items come in order to {item.pid}"
            yield Violation(13, what, (last[item.pid].entry, item.entry))
        seen[item.number] = last[item.pid] = item


def _lost(world: World, stream: str, sent: list[Entry], items: list[_Received]) -> Iterator[Violation]:
    """Items that nobody received, and nothing excuses."""
    got = sorted({item.number: item for item in items}.values())
    connection = world.connection_of.get(stream)
    targets = world.targets_of.get(connection or "", [])
    receivers = {item.pid for item in items}
    silent = [pid for pid in targets if pid in world.died and pid not in receivers]
    """Targets that died before they had noted anything: what they were handed is lost."""
    for before, after in pairwise(got):
        if after.number > before.number + 1 and before.pid not in world.died and not silent:
            what = f"{stream}: nothing is missing between {before.number} and {after.number}: {before.pid} lives"
            yield Violation(13, what, (before.entry, after.entry))
    if got and got[0].number > 1 and not silent and (not targets or targets[0] not in world.died):
        yield Violation(13, f"{stream}: nothing is missing before {got[0].number}", (sent[0], got[0].entry))
    last = got[-1] if got else None
    if (
        last is not None
        and last.number < len(sent)
        and not silent
        and not _tail_is_excused(world, stream, connection, last)
    ):
        what = f"{stream}: {last.pid} waits, so it has all that was sent: it has {last.number} of {len(sent)}"
        yield Violation(13, what, (last.entry, sent[last.number]))


def _tail_is_excused(world: World, stream: str, connection: str | None, last: _Received) -> bool:
    """Whether the last items may be lost: the line was cut, the server closed first, or the target is dead or busy."""
    if (
        stream in world.cut
        or connection is None
        or world.gateway_lost(connection)
        or connection in world.closed_by_server
    ):
        return True
    final = world.targets_of.get(connection, [])[-1:]
    return any(pid in world.died or pid not in world.attentive for pid in (last.pid, *final))
