"""How limits are kept follows from what is asked for and what the machine offers; nothing is skipped."""

from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsrelay.kernel.core.enforcement import (
    Enforcement,
    Lack,
    Machine,
    User,
    choose,
    describe,
    environment,
    gateway_lacks,
)
from wsrelay.kernel.wire.configuration import (
    Environment,
    GatewayConfiguration,
    HostConfiguration,
    HostLimits,
    Identity,
    Sandbox,
    Server,
)

ROOT = frozenset({"CAP_SETUID", "CAP_SETGID", "CAP_SYS_RESOURCE"})
USERS = {"me": User(1000, 1000, (1000, 27), "/home/me"), "web": User(33, 33, (33, 44), "/var/www")}
GROUPS = {"web": 33, "video": 44, "me": 1000}
BARE = Machine(1000, 1000, users=USERS, groups=GROUPS, no_controllers="there is no cgroup v2 at /sys/fs/cgroup")
FULL = Machine(
    0, 0, ROOT, frozenset({"memory", "pids", "cpu"}), landlock=7, users=USERS, groups=GROUPS, ceilings={"open_files": 4096},
    processors=frozenset({0, 1, 2, 4})
)  # fmt: skip


def host(**fields: object) -> HostConfiguration:
    return dataclasses.replace(HostConfiguration("app:host"), **fields)  # type: ignore[arg-type]


def chosen(wanted: HostConfiguration, machine: Machine) -> Enforcement:
    result = choose(wanted, machine)
    assert isinstance(result, Enforcement), result
    return result


def lacks(wanted: HostConfiguration, machine: Machine) -> list[Lack]:
    result = choose(wanted, machine)
    assert isinstance(result, tuple), result
    return list(result)


LIMITS = HostLimits(memory=64 << 20, processes=8, cpus=0.5, disk=1 << 20)


def test_a_delegated_cgroup_keeps_what_it_can() -> None:
    made = chosen(host(limits=LIMITS, private_tmp=True), FULL)
    assert made.cgroup == (
        ("memory.max", "67108864"), ("memory.swap.max", "0"), ("memory.oom.group", "1"),
        ("pids.max", "8"), ("cpu.max", "50000 100000"),
    )  # fmt: skip
    assert made.watched == {"disk"}
    assert made.counts_forks


def test_without_one_the_supervisor_looks() -> None:
    made = chosen(host(limits=dataclasses.replace(LIMITS, cpus=None)), BARE)
    assert made == Enforcement(watched=frozenset({"memory", "processes", "disk"}))


def test_who_asks_for_nothing_pays_nothing() -> None:
    assert chosen(host(), FULL) == chosen(host(), BARE) == Enforcement()


@pytest.mark.parametrize(
    ("fields", "machine", "field", "words"),
    [
        ({"limits": HostLimits(cpus=1.0)}, BARE, "limits.cpus", "there is no cgroup v2 at /sys/fs/cgroup"),
        ({"limits": HostLimits(open_files=5000)}, FULL, "limits.open_files", "5000 is over the hard limit .* 4096"),
        ({"user": "nil"}, FULL, "user", "there is no user 'nil'"),
        ({"user": "web"}, BARE, "user", "only root .* 'web'"),
        ({"group": "nil"}, FULL, "group", "there is no group 'nil'"),
        ({"group": "video"}, BARE, "group", "only root"),
        ({"groups": ("video", "nil")}, FULL, "groups", "there is no group 'nil'"),
        ({"groups": ()}, BARE, "groups", "only root"),
        ({"oom_score": -1}, BARE, "oom_score", "-1 is lower than the runtime's own 0: that needs CAP_SYS_RESOURCE"),
        ({"cpu_affinity": (1, 3, 5, 6)}, FULL, "cpu_affinity", "3,5-6 cannot be had: .* cpuset allows 0-2,4$"),
        ({"sandbox": Sandbox(read=())}, BARE, "sandbox.read", "needs Landlock with ABI 3 .*: this kernel has none"),
        ({"sandbox": Sandbox(write=())}, dataclasses.replace(FULL, landlock=2), "sandbox.write", "this kernel has ABI 2"),
        ({"sandbox": Sandbox(signals=False)}, dataclasses.replace(FULL, landlock=5), "sandbox.signals", "needs Landlock with ABI 6"),
        ({"sandbox": Sandbox(read=("/a",))}, dataclasses.replace(FULL, missing=frozenset({"/a"})), "sandbox.read", "no file or folder '/a'"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_said_at_its_field(fields: dict[str, object], machine: Machine, field: str, words: str) -> None:  # fmt: skip
    wanted = host(**fields, places={field: "a.yaml:7:9"})
    (lack,) = lacks(wanted, machine)
    (line,) = describe(wanted, [lack])
    assert line.startswith(f"a.yaml:7:9: {field}: ")
    assert re.search(words, line), line


def test_processors_that_are_there() -> None:
    assert chosen(host(cpu_affinity=(0, 4)), FULL) == Enforcement()


def test_what_the_gateway_cannot_have_is_said_of_each_server() -> None:
    places = {"cpu_affinity": "a.yaml:7:9"}
    stating, silent = Server("app:web", ":80", cpu_affinity=(2, 3), places=places), Server("app:other", ":81")
    (line,) = gateway_lacks(GatewayConfiguration((silent, stating)), FULL)
    assert line.startswith("a.yaml:7:9: cpu_affinity: 3 cannot be had: ")
    able = dataclasses.replace(FULL, processors=frozenset({2, 3}))
    assert gateway_lacks(GatewayConfiguration((silent, stating)), able) == []


@pytest.mark.parametrize(
    ("fields", "machine", "identity"),
    [
        ({"user": "web"}, FULL, Identity(33, 33, (33, 44), "web", "/var/www")),
        ({"user": "web", "group": "video"}, FULL, Identity(33, 44, (44,), "web", "/var/www")),
        ({"user": "web", "groups": ()}, FULL, Identity(33, 33, (), "web", "/var/www")),
        ({"group": "video", "groups": ("web",)}, FULL, Identity(0, 44, (33,), "", "")),
        ({"user": "me"}, BARE, None),  # it is that already, and only the privileged may say so again
        ({"group": "me"}, BARE, None),
    ],
)
def test_identity(fields: dict[str, object], machine: Machine, identity: Identity | None) -> None:
    assert chosen(host(**fields), machine).identity == identity


@given(
    memory=st.none() | st.integers(32 << 20, 1 << 40),
    processes=st.none() | st.integers(1, 1000),
    cpus=st.none() | st.floats(0.01, 1024),
    disk=st.none() | st.integers(1 << 16, 1 << 40),
    controllers=st.frozensets(st.sampled_from(["memory", "pids", "cpu"])),
)
def test_every_limit_is_kept_or_refused(
    memory: int | None, processes: int | None, cpus: float | None, disk: int | None, controllers: frozenset[str]
) -> None:
    limits = HostLimits(memory=memory, processes=processes, cpus=cpus, disk=disk)
    result = choose(host(limits=limits), dataclasses.replace(BARE, controllers=controllers))
    if isinstance(result, tuple):
        assert [lack.field for lack in result] == ["limits.cpus"]
        assert cpus is not None
        assert "cpu" not in controllers
        return
    kept = {name for name, _ in result.cgroup}
    assert (memory is not None) == (("memory.max" in kept) or ("memory" in result.watched))
    assert (processes is not None) == (("pids.max" in kept) or ("processes" in result.watched))
    assert (cpus is not None) == ("cpu.max" in kept)
    assert (disk is not None) == ("disk" in result.watched)
    assert {name.partition(".")[0] for name in kept} <= controllers


def test_environment() -> None:
    inherited = {"PATH": "/bin", "LC_ALL": "C", "SECRET": "x", "WSRELAY_LOG_LEVEL": "info", "HOME": "/root"}
    identity = Identity(33, 33, (), "web", "/var/www")
    own = {"HOME": "/var/www", "USER": "web", "LOGNAME": "web"}
    assert environment(inherited, Environment()) == inherited
    assert environment(inherited, Environment(unset=("SECRET",)), identity) == {
        **{name: value for name, value in inherited.items() if name != "SECRET"}, **own
    }  # fmt: skip
    clean = {"PATH": "/bin", "LC_ALL": "C", "WSRELAY_LOG_LEVEL": "info"}
    assert environment(inherited, Environment(inherit=False)) == clean
    assert environment(inherited, Environment(False, (("HOME", "/x"),)), identity) == {**clean, **own, "HOME": "/x"}
