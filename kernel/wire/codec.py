"""Frames: from records to bytes and back.

Bytes are hostile until decoded. Whatever a peer writes, `FrameDecoder` gives either records of the channel's direction,
with every field of the declared type, or one `ProtocolViolation`; and it allocates no more than the declared limits.

It reads every frame twice. First it skips over it, which allocates nothing, and only a frame that is there to its last
byte is unpacked. So lengths that a peer declares cost nothing until it has written as much.
"""

from __future__ import annotations

import itertools
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgpack

from .errors import ProtocolViolation
from .messages import DIRECTIONS, MAX_FRAME

ENVELOPE_ALLOWANCE = 64 << 10
"""Bytes that a frame may have beside its largest string. A decoder bears twice the sum of both, for arrays of strings."""
MAX_ITEMS = 200_000
"""Elements of one array on the wire: destinations of a message, mostly."""
MAX_INTEGER = (1 << 63) - 1

_FEED_SIZE = 256 << 10
_BUFFER_SIZE = 16 << 10
"""Bytes that a buffer has at first; msgpack's default is 1 MiB."""
_FIRST_FEED = 1 << 10
"""Bytes that the slow twin is given where it takes over: most of its frames are short, and what follows them it is given in vain."""
_KEEP_SIZE = 1 << 20
"""Bytes. msgpack's buffers never shrink: after a larger frame they are made anew."""

_TAGS: dict[type, int] = {record: tag for records in DIRECTIONS.values() for tag, record in records.items()}

_packer = msgpack.Packer()


def encode(record: tuple[Any, ...]) -> bytes:
    """Return the frame of a record of `messages`. Raises UnicodeEncodeError for text that is no UTF-8 (lone surrogates)."""
    global _packer
    frame: bytes = _packer.pack((_TAGS[type(record)], *record))
    if len(frame) > _KEEP_SIZE:
        _packer = msgpack.Packer()
    return frame


Check = Callable[[Any], Any]
_SCALARS = (int, str, bytes, bool, float)


def _check_for(annotation: Any) -> Check:
    """Return the function that checks a decoded value against a field's annotation. It raises ValueError."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation in _SCALARS:
        return _check_scalar(annotation)
    if origin is types.UnionType or origin is typing.Union:
        return _check_union(arguments)
    if origin is tuple and arguments[-1] is Ellipsis:
        return _check_sequence(arguments[0])
    if origin is tuple:
        return _check_fields(tuple, arguments)
    if isinstance(annotation, type) and hasattr(annotation, "_fields"):
        return _check_record(annotation)
    raise TypeError(f"no check for fields of type {annotation!r}")


def _types_of(annotation: Any) -> tuple[type, ...]:
    """Return the exact types that msgpack gives to values of a field."""
    if typing.get_origin(annotation) in (types.UnionType, typing.Union):
        return tuple(kind for arm in typing.get_args(annotation) for kind in _types_of(arm))
    return (annotation,) if annotation in (*_SCALARS, types.NoneType) else (tuple,)


def _expected(annotation: Any, value: Any) -> ValueError:
    names = " or ".join(sorted(kind.__name__ for kind in set(_types_of(annotation))))
    return ValueError(f"expected {names}, got {type(value).__name__}")


_RANGE = "expected an integer of 63 bits that is not negative"


def _check_range(value: int) -> None:
    if not 0 <= value <= MAX_INTEGER:
        raise ValueError(_RANGE)


def _check_scalar(expected: type) -> Check:
    def check(value: Any) -> Any:
        if type(value) is not expected:
            raise _expected(expected, value)
        if type(value) is int:
            _check_range(value)
        return value

    return check


def _check_union(arms: tuple[Any, ...]) -> Check:
    by_type = {kind: _check_for(arm) for arm in arms if arm is not types.NoneType for kind in _types_of(arm)}

    def check(value: Any) -> Any:
        if value is None and types.NoneType in arms:
            return None
        arm = by_type.get(type(value))
        if arm is None:
            raise ValueError(f"no value of this field is of type {type(value).__name__}")
        return arm(value)

    return check


def _check_sequence(element: Any) -> Check:
    """Check arrays of any length. They may be long, so the usual ones are checked without a call for each element."""
    arguments = typing.get_args(element)
    if element in _SCALARS:
        return _check_array_of(element)
    if typing.get_origin(element) is tuple and len(set(arguments)) == 1 and arguments[0] in _SCALARS:
        return _check_array_of_rows(len(arguments), _check_array_of(arguments[0]))
    check_element = _check_for(element)

    def check(value: Any) -> tuple[Any, ...]:
        if type(value) is not tuple:
            raise ValueError(f"expected an array, got {type(value).__name__}")
        return tuple(map(check_element, value))

    return check


def _check_array_of(scalar: type) -> Check:
    only = {scalar}

    def check(value: Any) -> tuple[Any, ...]:
        if type(value) is not tuple or not only.issuperset(map(type, value)):
            raise ValueError(f"expected an array of {scalar.__name__}")
        if scalar is int and value:
            _check_range(min(value))
            _check_range(max(value))
        return value

    return check


def _check_array_of_rows(width: int, check_items: Check) -> Check:
    only, widths = {tuple}, {width}

    def check(value: Any) -> tuple[Any, ...]:
        if value == ():
            return ()
        if type(value) is not tuple or not only.issuperset(map(type, value)) or not widths.issuperset(map(len, value)):
            raise ValueError(f"expected an array of arrays of {width}")
        check_items(tuple(itertools.chain.from_iterable(value)))
        return value

    return check


def _check_fields(kind: type[tuple[Any, ...]], annotations: tuple[Any, ...]) -> Check:
    """Check an array with one annotation for each element, and make a `kind` of it.

    This is the runtime's hot path: so the function is written out, as those of a NamedTuple are, with a comparison for each field and no
    loop. Only where a type does not say it all is a field looked at by a function of its own.
    """
    names = [f"field{position}" for position in range(len(annotations))]
    known: dict[str, Any] = {"kind": kind, "new": tuple.__new__}
    conditions, steps = [f"type(value) is tuple and len(value) == {len(names)}"], []
    for name, annotation in zip(names, annotations, strict=True):
        expected = frozenset(_types_of(annotation))
        known[f"{name}_type"] = next(iter(expected)) if len(expected) == 1 else expected
        conditions.append(f"type({name}) {'is' if len(expected) == 1 else 'in'} {name}_type")
        if annotation is int:
            conditions.append(f"0 <= {name} <= {MAX_INTEGER}")
        elif not expected.isdisjoint({int, tuple}):
            known[f"{name}_check"] = _check_for(annotation)
            steps.append(f"{name} = {name}_check({name})")
    fields = "".join(f"{name}, " for name in names)
    unpack, rest = f"({fields}) = value" if names else "pass", " and ".join(conditions[1:]) or "True"
    known["misfit"] = lambda value: _misfit(annotations, value)
    lines = [
        "def check(value):",
        f" if {conditions[0]}:",
        f"  {unpack}",
        f"  if {rest}:",
        *(f"   {step}" for step in steps),
        f"   return new(kind, ({fields}))",
        " raise misfit(value)",
    ]
    exec("\n".join(lines), known)
    check: Check = known["check"]
    return check


def _misfit(annotations: tuple[Any, ...], value: Any) -> ValueError:
    if type(value) is not tuple or len(value) != len(annotations):
        count = f" of {len(value)}" if type(value) is tuple else ""
        return ValueError(f"expected an array of {len(annotations)}, got {type(value).__name__}{count}")
    for annotation, item in zip(annotations, value, strict=True):
        if type(item) not in _types_of(annotation):
            return _expected(annotation, item)
    return ValueError(_RANGE)


def _check_record(record: type) -> Check:
    hints = typing.get_type_hints(record)
    return _check_fields(record, tuple(hints[name] for name in record._fields))  # type: ignore[attr-defined]


_CHECKS: dict[type, Check] = {record: _check_record(record) for record in _TAGS}


def _checks_of(accepts: Mapping[int, type]) -> dict[int, tuple[type, Check]]:
    return {tag: (record, _CHECKS[record]) for tag, record in accepts.items()}


_KNOWN = {id(accepts): _checks_of(accepts) for accepts in DIRECTIONS.values()}
"""Made once: every decoder of a direction has the same."""


class _Buffers:
    """What bytes wait in until a frame is complete: one to skip over it, one to unpack it. About 110 KiB, most of it msgpack's."""

    __slots__ = ("fed", "largest", "scanner", "start", "unpacker")

    def __init__(self, limit: int) -> None:
        size = 2 * (limit + ENVELOPE_ALLOWANCE) + 2 * _FEED_SIZE
        self.scanner = msgpack.Unpacker(read_size=_BUFFER_SIZE, max_buffer_size=size)
        self.unpacker = msgpack.Unpacker(
            use_list=False,
            raw=False,
            read_size=_BUFFER_SIZE,
            max_buffer_size=size,
            max_str_len=limit,
            max_bin_len=limit,
            max_array_len=MAX_ITEMS,
            max_map_len=0,
            max_ext_len=0,
        )
        self.fed = 0
        """Bytes that both were fed."""
        self.start = 0
        """Where the frame starts that is not complete; `fed`, if there is none."""
        self.largest = 0
        """Bytes of the largest frame."""


_spare: dict[int, list[_Buffers]] = {}
"""Empty buffers, by limit. A stream needs them only in the midst of a frame, so nearly all streams of a process share one pair."""
_MAX_SPARE = 4


class FrameDecoder:
    """Turns a stream of bytes, split anyhow, into records of one direction. One decoder for each channel."""

    def __init__(self, accepts: Mapping[int, type], *, limit: int = MAX_FRAME, resumable: bool = False) -> None:
        """`accepts` is a table of `messages`; `limit` is in bytes, for the largest string of a frame. With `resumable` another
        decoder can go on where this one stops: it keeps the bytes of a frame that is not complete, `unfinished`."""
        self._records = _KNOWN.get(id(accepts)) or _checks_of(accepts)
        self._limit = limit
        self._frame_limit = 2 * (limit + ENVELOPE_ALLOWANCE)
        self.frames = 0
        """Frames decoded so far."""
        self._resumable = resumable
        self._pieces: list[bytes] = []
        self._buffers: _Buffers | None = None
        """Those that hold the part of a frame that is there; None between two frames."""
        self._read = 0
        """How much of the data of the latest `decode` the frames take that have been yielded."""
        self._spare = _spare.setdefault(limit, [])
        if not self._spare:
            self._spare.append(_Buffers(limit))

    @property
    def unfinished(self) -> bytes:
        """The bytes of the frame that is not complete. Raises ValueError if the decoder is not `resumable`."""
        if not self._resumable:
            raise ValueError("this decoder is not resumable")
        return b"".join(self._pieces)

    def decode(self, data: bytes | bytearray | memoryview) -> Iterable[tuple[Any, ...]]:
        """Yield the records that `data` completes. Raises ProtocolViolation at the first frame that is none of ours.

        Records before it have been yielded. After a violation the decoder is of no further use. One that is not asked for all
        records forgets the rest of the data.
        """
        buffers = self._buffers
        if buffers is not None:
            self._buffers = None
        else:
            try:
                buffers = self._spare.pop()
            except IndexError:
                buffers = _Buffers(self._limit)
        for offset in range(0, len(data), _FEED_SIZE):
            chunk = data[offset : offset + _FEED_SIZE]
            scanner, unpacker, start, before = buffers.scanner, buffers.unpacker, buffers.start, buffers.fed
            scanner.feed(chunk)
            unpacker.feed(chunk)
            fed = before + len(chunk)
            while start < fed:
                # Records have few fields: the first byte of a frame is that of an array of 1 to 15.
                if start >= before and not 0x90 < chunk[start - before] < 0xA0:
                    raise ProtocolViolation("no frame: expected an array that starts with a tag")
                try:
                    scanner.skip()
                    frame = unpacker.unpack()
                except msgpack.OutOfData:
                    break
                except Exception as problem:  # msgpack has no common base: ValueError, FormatError, StackError, …
                    raise ProtocolViolation(f"no frame: {type(problem).__name__}") from problem
                end = scanner.tell()
                if end - start > buffers.largest:
                    self._note_size(buffers, end - start)
                start = end
                self._read = offset + start - before
                yield self._record(frame)
            if fed - start > buffers.largest:
                self._note_size(buffers, fed - start)
            if self._resumable:
                if start > before:
                    self._pieces.clear()
                if start < fed:
                    self._pieces.append(bytes(chunk[max(0, start - before) :]))
            buffers.start, buffers.fed = start, fed
            if start == fed and buffers.largest > _KEEP_SIZE:
                buffers = _Buffers(self._limit)
        if buffers.start < buffers.fed:
            self._buffers = buffers
        elif len(self._spare) < _MAX_SPARE and buffers.unpacker.tell() == buffers.fed:  # the other one always does
            self._spare.append(buffers)

    def decode_into(self, records: list[tuple[Any, ...]], data: bytes) -> None:
        """Add to `records` what `decode` yields. Raises what it raises; the records before that are there."""
        records.extend(self.decode(data))

    def _note_size(self, buffers: _Buffers, size: int) -> None:
        """Take note of the size of a frame, or of what is there of it."""
        buffers.largest = size
        if size > self._frame_limit:
            raise ProtocolViolation("a frame is larger than its limit")

    def _record(self, frame: tuple[Any, ...]) -> tuple[Any, ...]:
        tag = frame[0]
        if type(tag) is not int:
            raise ProtocolViolation("no frame: expected an array that starts with a tag")
        entry = self._records.get(tag)
        if entry is None:
            raise ProtocolViolation(f"tag {tag} has no place on this channel")
        record, check = entry
        try:
            decoded: tuple[Any, ...] = check(frame[1:])
        except ValueError as problem:
            raise ProtocolViolation(f"{record.__name__}: {problem}") from None
        self.frames += 1
        return decoded


class ScanningDecoder(FrameDecoder):
    """A FrameDecoder that reads by itself the frames that are nearly all traffic of its channel, and leaves whatever is not exactly
    such a frame to the general one, its slow twin. No byte stream, however split, gives other records or another violation.

    A subclass says which frames those are.
    """

    _HEAD: bytes
    """What those frames start with. Others may start with it too."""

    def __init__(self, accepts: Mapping[int, type], *, limit: int = MAX_FRAME, resumable: bool = False) -> None:
        """See `FrameDecoder`."""
        super().__init__(accepts, limit=limit, resumable=resumable)
        self._held: list[bytes] = []
        """The pieces of what may be a frame of ours, and is not all there. Then `_buffers` is None."""

    @property
    def unfinished(self) -> bytes:
        """See `FrameDecoder.unfinished`."""
        return super().unfinished + b"".join(self._held)

    def decode(self, data: bytes | bytearray | memoryview) -> Iterable[tuple[Any, ...]]:
        """See `FrameDecoder.decode`."""
        data, position = bytes(data), 0
        if self._held:
            found, data = self._complete(data)
            yield from found
        while position < len(data):
            if self._buffers is None and self._may_be_ours(data, position):
                found, position = self._scan(data, position)
                yield from found
                if position == len(data):
                    return
            rest = data[position : position + _FIRST_FEED] if self._buffers is None else data[position:]
            for record in super().decode(rest):
                yield record
                if self._read < len(rest) and self._may_be_ours(rest, self._read):  # the slow twin forgets what follows
                    position += self._read
                    self._pieces.clear()
                    break
            else:
                position += len(rest)

    def decode_into(self, records: list[tuple[Any, ...]], data: bytes) -> None:
        """See `FrameDecoder.decode_into`. Mostly there is nothing but whole frames of ours: then they need not be yielded one by one."""
        if not self._held and self._buffers is None and self._may_be_ours(data, 0):
            found, position = self._scan(data, 0)
            records += found
            if position == len(data):
                return
            data = data[position:]
        records.extend(self.decode(data))

    def _may_be_ours(self, data: bytes, position: int) -> bool:
        return self._HEAD.startswith(data[position : position + len(self._HEAD)])

    def _scan(self, data: bytes, position: int) -> tuple[Sequence[tuple[Any, ...]], int]:
        """Return what the frames of ours give that start at `position`, all of them in one loop, and where the first other thing
        starts. If that may be the beginning of a frame of ours it is held, and what is returned is the end of `data`."""
        raise NotImplementedError

    def _complete(self, data: bytes) -> tuple[Sequence[tuple[Any, ...]], bytes]:
        """Put what is held before `data`. Return what that gives already, and what is still to be read."""
        held, self._held = b"".join(self._held), []
        return (), held + data
