"""The difference between two configurations, and that no field of the schema is forgotten in it."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsrelay.kernel.core.configuration.schema import KINDS
from wsrelay.kernel.core.reconfiguration import FIXED_AT_START, TAKES_EFFECT, needs_restart, plan, refusals, start_order
from wsrelay.kernel.wire.configuration import (
    Application,
    Entry,
    GatewayConfiguration,
    HostConfiguration,
    HostLimits,
    Identity,
    Lifecycle,
    Proxy,
    Restart,
    Route,
    Sandbox,
    Server,
    Service,
    Static,
    Tls,
)

FULL = Application(
    gateway=GatewayConfiguration(
        (
            Server(
                "a:web",
                "127.0.0.1:80",
                tls=Tls("/c.pem", "/k.pem"),
                proxy=Proxy(("10.0.0.0/8",)),
                routes=(Route("a:e", "GET", "/x", "a:f", True, ("https://x",)),),
                statics=(Static("/s", "/srv"),),
                tracing="opentelemetry",
                cpu_affinity=(0,),
            ),
        )
    ),
    hosts={
        "a:h": HostConfiguration(
            "a:h",
            limits=HostLimits(open_files=64, memory=1, cpu=1.0, liveness=1.0, processes=1, cpus=1.0, disk=1, core=1),
            user="u",
            group="g",
            groups=("g",),
            umask=0o77,
            oom_score=1,
            cpu_affinity=(0,),
            sandbox=Sandbox(read=("/r",), write=("/w",)),
            identity=Identity(1, 1, (1,), "u", "/u"),
        )
    },
    processes={"a:p": Entry("a:p", "file:///p.py", "main")},
    functions={"a:f": Entry("a:f", "file:///f.py", "f")},
    function_hosts={"a:f": "a:h"},
    services={"a:s": Service("a:s", "a:p", "a:h", register="n", lifecycle=Lifecycle(requires=(), restart=Restart()))},
)


def changed(value: Any) -> Any:
    """Another value of the same type."""
    match value:
        case bool():
            return not value
        case int() | float():
            return value + 1
        case str():
            return value + "2"
        case bytes():
            return value + b"2"
        case ():
            return ("more",)
        case tuple():
            return ()
    raise AssertionError(f"no other value for {value!r}")


def variants(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every leaf of nested dataclasses, tuples of them and dicts, changed one at a time: its path, and the whole."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            if field.name == "id":
                continue
            for where, other in variants(getattr(value, field.name), f"{path}.{field.name}"):
                yield where, dataclasses.replace(value, **{field.name: other})
    elif isinstance(value, dict) and not all(isinstance(each, str) for each in value.values()):
        for key, item in value.items():
            for where, other in variants(item, f"{path}.{key}"):
                yield where, {**value, key: other}
    elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
        for where, other in variants(value[0], f"{path}[0]"):
            yield where, (other, *value[1:])
        yield path, ()
    elif isinstance(value, dict):
        yield path, {key: changed(item) for key, item in value.items()}
    else:
        yield path, changed(value)


IGNORED = (
    ".services.a:s.process", ".services.a:s.host", ".hosts.a:h.sources", ".hosts.a:h.places",
    ".gateway.servers[0].places",
)  # fmt: skip
"""References, which have to exist; what follows from the entries; and where something was written."""


@pytest.mark.parametrize(
    ("path", "other"),
    [(path, other) for path, other in variants(FULL) if path not in IGNORED],
    ids=lambda each: str(each)[:60],
)
def test_a_change_of_any_value_is_in_the_plan(path: str, other: Application) -> None:
    assert not plan(FULL, other).empty, path
    assert not plan(other, FULL).empty, path


def test_every_field_of_the_schema_says_when_it_takes_effect() -> None:
    schema = {kind: {".".join(field.path) for field in made.fields} for kind, made in KINDS.items()}
    assert {kind: set(fields) for kind, fields in TAKES_EFFECT.items()} == schema


def with_host(**fields: Any) -> Application:
    return dataclasses.replace(FULL, hosts={"a:h": dataclasses.replace(FULL.hosts["a:h"], **fields)})


@pytest.mark.parametrize("name", FIXED_AT_START)
def test_who_the_workers_are_needs_a_restart(name: str) -> None:
    other = with_host(**{name: changed(getattr(FULL.hosts["a:h"], name))})
    assert needs_restart(FULL, other) == [f"a:h: another {name} needs a restart"]


def test_what_new_workers_can_have_needs_no_restart() -> None:
    assert needs_restart(FULL, with_host(umask=0, limits=HostLimits(memory=2), sandbox=Sandbox())) == []


def test_anything_of_an_admin_needs_a_restart() -> None:
    here, there = (Server("a:admin", address, admin=True) for address in ("127.0.0.1:1", "127.0.0.1:2"))
    without = FULL.gateway.servers

    def having(*servers: Server) -> Application:
        return dataclasses.replace(FULL, gateway=GatewayConfiguration((*without, *servers)))

    refused = ["a:admin: adding, changing or removing an http.admin needs a restart"]
    assert needs_restart(having(here), having(here)) == []
    for old, new in ((having(), having(here)), (having(here), having()), (having(here), having(there))):
        assert needs_restart(old, new) == refused


# --- laws -------------------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["n:a", "n:b", "n:c", "n:d"])


@st.composite
def applications(draw: st.DrawFn) -> Application:
    """Small configurations that a check would pass."""
    servers = draw(st.dictionaries(NAMES, st.tuples(st.integers(1, 3), st.booleans(), st.integers(1, 2)), max_size=3))
    hosts = draw(st.dictionaries(NAMES, st.integers(1, 3), min_size=1, max_size=3))
    processes = draw(st.dictionaries(NAMES, st.integers(1, 2), min_size=1, max_size=3))
    services: dict[str, Service] = {}
    for id in draw(st.lists(NAMES, unique=True, max_size=4)):
        requires = tuple(sorted(draw(st.sets(st.sampled_from(sorted(services)))))) if services else ()
        services[id] = Service(
            id,
            draw(st.sampled_from(sorted(processes))),
            draw(st.sampled_from(sorted(hosts))),
            draw(st.sampled_from([b"1", b"2"])),
            None,
            Lifecycle(draw(st.booleans()), requires, stop_timeout=draw(st.sampled_from([1.0, 2.0]))),
        )
    return Application(
        GatewayConfiguration(
            tuple(
                Server(id, f":{port}", tls=Tls("c", "k") if tls else None, routes=(Route("e", "GET", f"/{n}", "f"),))
                for id, (port, tls, n) in servers.items()
            )
        ),
        {id: HostConfiguration(id, functions=number) for id, number in hosts.items()},
        {id: Entry(id, f"file:///{number}.py", "main") for id, number in processes.items()},
        services=services,
    )


@given(applications())
def test_the_same_configuration_is_an_empty_plan(one: Application) -> None:
    assert plan(one, one).empty


@given(applications(), applications())
def test_there_and_back(one: Application, other: Application) -> None:
    there, back = plan(one, other), plan(other, one)
    for field in dataclasses.fields(there):
        kind, _, how = field.name.partition("_")
        mirrored = {"added": "removed", "removed": "added", "started": None}.get(how, how)
        if mirrored is not None:
            assert set(getattr(there, field.name)) == set(getattr(back, f"{kind}_{mirrored}"))
    same = dataclasses.replace(one, gateway=GatewayConfiguration(one.gateway.servers)) == other
    order = {server.id: server for server in one.gateway.servers} == {
        server.id: server for server in other.gateway.servers
    }
    assert there.empty == (same or (order and dataclasses.replace(one, gateway=other.gateway) == other))


@given(applications(), applications())
def test_what_becomes_of_each_service_is_one_thing(one: Application, other: Application) -> None:
    made = plan(one, other)
    groups = (made.services_removed, made.services_added, made.services_replaced, made.services_adjusted)
    assert sum(map(len, groups)) == len(set().union(*groups))
    assert set().union(*groups) <= one.services.keys() | other.services.keys()
    order = start_order(other)
    for id, service in other.services.items():
        assert all(order.index(required) < order.index(id) for required in service.lifecycle.requires)
    for group in (made.services_added, made.services_replaced, made.services_started):
        assert list(group) == sorted(group, key=order.index)


@given(applications(), applications(), st.sets(NAMES))
def test_only_sockets_that_a_unit_has_passed_need_a_restart(
    one: Application, other: Application, pinned: set[str]
) -> None:
    made = plan(one, other)
    refused = refusals(made, pinned)
    assert len(refused) == len(pinned & {*made.servers_moved, *made.servers_removed})
    assert all("restart" in each for each in refused)


def test_the_summary_names_what_is_different() -> None:
    assert plan(FULL, FULL).summary() == "the configuration is the same"
    other = dataclasses.replace(FULL, services={})
    assert plan(FULL, other).summary() == "services removed: a:s"
    assert typing.get_type_hints(type(plan(FULL, other)))
