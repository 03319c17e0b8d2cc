"""The configuration comes out of a channel as it went in."""

from __future__ import annotations

import dataclasses
import inspect

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wsrelay.kernel.wire import configuration
from wsrelay.kernel.wire.configuration import Application, GatewayConfiguration, HostConfiguration, pack, unpack

for basic, strategy in (
    (str, st.text(st.characters(codec="utf-8"), max_size=12)),
    (int, st.integers(0, (1 << 63) - 1)),
    (float, st.floats(0, 1e9)),
):
    st.register_type_strategy(basic, strategy)

KINDS = [item for _, item in inspect.getmembers(configuration, dataclasses.is_dataclass)]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_round_trip(kind: type, data: st.DataObject) -> None:
    made = data.draw(st.builds(kind, **{field.name: st.from_type(hint) for field, hint in _fields(kind)}))
    assert unpack(kind, pack(made)) == made


def _fields(kind: type) -> list[tuple[dataclasses.Field[object], type]]:
    hints = inspect.get_annotations(kind, eval_str=True)
    return [(field, hints[field.name]) for field in dataclasses.fields(kind)]


@pytest.mark.parametrize("kind", [Application, GatewayConfiguration])
def test_the_defaults_travel(kind: type) -> None:
    assert unpack(kind, pack(kind())) == kind()


def test_what_comes_out_is_frozen() -> None:
    host = unpack(HostConfiguration, pack(HostConfiguration("app:host", sources=("python://a",))))
    assert hash(host) == hash(HostConfiguration("app:host", sources=("python://a",)))
    with pytest.raises(dataclasses.FrozenInstanceError):
        host.functions = 3  # type: ignore[misc]
