"""The configuration check: good files give exactly their application, bad ones every mistake at its place."""

from __future__ import annotations

import pytest
from wsrelay.kernel.wire.configuration import (
    Application,
    Drain,
    Entry,
    GatewayConfiguration,
    HostConfiguration,
    HostLimits,
    Limits,
    Ping,
    Proxy,
    Route,
    Server,
    Static,
    Timeouts,
    Tls,
    pack,
    unpack,
)

from .checking import EXAMPLE, HOST, SERVICE, check, entries

CHAT = Entry("app:connect", "file:///srv/app/chat.py", "connect")


def test_the_example_of_the_design() -> None:
    route = Route("app:connect.endpoint", "GET", "/ws/chat", "app:connect", True, ("https://app.example.com",))
    assert check(EXAMPLE) == Application(
        gateway=GatewayConfiguration((Server("app:gateway", "127.0.0.1:8080", routes=(route,)),)),
        hosts={"app:processes": HostConfiguration("app:processes", sources=("file:///srv/app/chat.py",))},
        processes={"app:room": Entry("app:room", "file:///srv/app/chat.py", "room")},
        functions={"app:connect": CHAT},
        function_hosts={"app:connect": "app:processes"},
    )


def test_every_field() -> None:
    application = check(
        entries(
            """\
            - name: secure
              kind: http.service
              addr: "[::1]:8443"
              timeouts: {header: 1s, request: 2s, idle: 3, close: 4.5, write: 200ms, stall: 1m30s}
              ping: {interval: 0, timeout: "0"}
              drain: {within: 0, batch: 7, code: 1012}
              limits: {message: 64KiB, header: 4096, body: 0, outbound: 2MiB, inbound: 1GiB, connections: 5,
                       per_address: 2, queue: 0, compression: yes}
              tls: {certificate: cert.pem, key: /srv/app/key.pem}
              proxy: {trusted: [10.0.0.0/8, "::1"]}
            - {name: plain, kind: http.service, addr: "unix:/run/app.sock", meta: {comment: [free, {a: 1}]}}
            - {name: page, kind: http.static, meta: {server: plain}, path: /files/, directory: page, spa: true, index: a.html}
            - name: router
              kind: http.router
              meta: {server: secure, comment: mine}
              middleware: []
              options: {}
              post_middleware: [websocket_relay]
              post_options: {wsrelay.allowed.origins: ["https://*.Example.com:443", "http://[::1]:3000"]}
            - {name: top, kind: http.endpoint, meta: {router: router}, method: GET, path: "", func: other:show}
            - {name: room, kind: http.endpoint, meta: {router: router}, method: GET, path: "/r/{id}/{rest...}", func: other:show}
            - {name: big, kind: process.host, max_processes: 10, functions: 1, preload: false, user: www-data,
               limits: {mailbox: 1MiB, open_files: 256, memory: none, cpu: null}, coalesce_sends: true}
            - {name: small, kind: process.host}
            - {name: work, kind: process.python, source: "python://package.module", method: Work}
            """
        ),
        'version: 1.0\nnamespace: other\nentries: [{name: show, kind: function.python, source: "file://open.py", method: show, host: "app:small"}]',
    )
    origins = ("https://*.example.com", "http://[::1]:3000")
    assert application == Application(
        gateway=GatewayConfiguration((
            Server(
                "app:secure",
                "[::1]:8443",
                Timeouts(1.0, 2.0, 3.0, 4.5, 0.2, 90.0),
                Ping(0.0, 0.0),
                Limits(64 << 10, 4096, 0, 2 << 20, 1 << 30, 5, 2, 0, True),
                Tls("/srv/app/cert.pem", "/srv/app/key.pem"),
                Proxy(("10.0.0.0/8", "::1")),
                (
                    Route("app:top", "GET", "/", "other:show", True, origins),
                    Route("app:room", "GET", "/r/{id}/{rest...}", "other:show", True, origins),
                ),
                drain=Drain(0.0, 7, 1012),
            ),
            Server("app:plain", "unix:/run/app.sock", statics=(Static("/files", "/srv/app/page", True, "a.html"),)),
        )),
        hosts={
            "app:big": HostConfiguration(
                "app:big", 10, 1, False, HostLimits(1 << 20, 256), "www-data", ("python://package.module",), True
            ),
            "app:small": HostConfiguration(
                "app:small", sources=("python://package.module", "file:///srv/app/open.py")
            ),
        },
        processes={"app:work": Entry("app:work", "python://package.module", "Work")},
        functions={"other:show": Entry("other:show", "file:///srv/app/open.py", "show")},
        function_hosts={"other:show": "app:small"},
    )  # fmt: skip
    assert unpack(Application, pack(application)) == application


def test_nothing_to_serve_is_fine() -> None:
    assert check("version: '1.0'\nnamespace: app\nentries: []") == Application()


ROUTER = SERVICE + HOST + "- {name: router, kind: http.router, meta: {server: web}}\n"
FUNCTION = '- {name: f, kind: function.python, source: "file://chat.py", method: connect}\n'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "1:1: the file is empty, expected version, namespace and entries"),
        ("[]", "1:1: expected a mapping of version, namespace and entries, got a list"),
        ("a: {b", "1:6: not valid YAML: expected ',' or '}', but got '<stream end>' (while parsing a flow mapping)"),
        ("a: *b", "1:4: not valid YAML: found undefined alias 'b'"),
        ("a: 1\nb: \x01", "2:4: a control character, expected text"),
        ('a: "\\UFFFFFFFF"', "1:7: not valid YAML: an escape that is no character"),
        ("a:\n  - b\nc: [" + "[" * 50, "3:43: not valid YAML: nested too deeply, expected at most 40 levels"),
        ("- a\n" * 100_001, "100000:3: not valid YAML: too many values, expected at most 50000"),
        (b"a: 1\nb: \xff\n", "2:4: the file is not text, expected UTF-8"),
        ("#" * (1 << 20) + "#", "1:1: the file is too large, expected at most 1048576 bytes"),
        ("--- {}\n--- {}", "2:1: not valid YAML: but found another document (expected a single document in the stream)"),
        ("version: '1.0'\nnamespace: app", "1:1: missing field entries of a file"),
        ("version: '1.0'\nnamespace: app\nentrys: []", "3:1: unknown field 'entrys' of a file; did you mean entries?"),
        ("version: '2.0'\nnamespace: app\nentries: []", "1:10: version: expected \"1.0\", got '2.0'"),
        ("version: 1.0\nnamespace: app\nentries: {}", "3:10: entries: expected a list, got a mapping"),
        ("version: 1.0\nnamespace: a:b\nentries: []",
         "2:12: namespace: expected at most 99 letters, digits and _.- that start with a letter, digit or _, got 'a:b'"),
        ("version: 1.0\nversion: 1.0\nnamespace: app\nentries: []", "2:1: duplicate key 'version', first given at 1:1"),
    ],
    ids=lambda value: repr(value)[:40],
)  # fmt: skip
def test_bad_files(text: str | bytes, expected: str) -> None:
    assert check(text) == [f"a.yaml:{expected}"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Entries
        ("- web", "4:3: expected an entry with name and kind, got 'web'"),
        ("- {kind: process.host}", "4:3: missing field name of an entry"),
        ("- {name: web}", "4:3: missing field kind of an entry"),
        ("- {name: no, kind: process.host}", "4:10: name: expected text, got no without quotes"),
        ("- {name: a, kind: http.servce}", "4:19: unknown kind 'http.servce'; did you mean http.service?"),
        (HOST + HOST, "5:10: duplicate id app:host, first defined at a.yaml:4:10"),
        ("- {name: a, kind: process.host, function: 3}", "4:33: unknown field 'function' of process.host; did you mean functions?"),
        ("- {name: a, kind: process.python, zzz: 3, source: 'python://m', method: f}",
         "4:35: unknown field 'zzz' of process.python; expected name, kind, source, method, meta"),
        (
            "- {name: a, kind: http.service, addr: ':1', drain: {code: 1000}}",
            "4:59: drain.code: expected 1001 or 1012, got 1000",
        ),
        ("- {name: a, kind: http.service, addr: ':1', tracing: jaeger}",
         "4:54: tracing: expected opentelemetry, got 'jaeger'"),
        ("- {name: a, kind: http.service, addr: ':1', tracing: true}",
         "4:54: tracing: expected a tracing library as text, got true without quotes"),
        ("- {name: a, kind: http.service, addr: ':1', tracing: opentelemetri}",
         "4:54: tracing: expected opentelemetry, got 'opentelemetri'; did you mean opentelemetry?"),
        ("- {name: a, kind: process.host, meta: 3}", "4:39: meta: expected a mapping, got 3"),
        ("- {name: a, kind: !!python/name:os.system process.host}",
         "4:19: unknown tag '!!python/name:os.system', expected a plain value"),
        ("- {name: a, kind: process.host, <<: {preload: true}}",
         "4:33: merge keys (<<) are not supported, expected the name of a field"),
        # Values
        ("- {name: a, kind: process.host, functions: two}", "4:44: functions: expected a whole number from 0 to 10000, got 'two'"),
        ("- {name: a, kind: process.host, functions: -1}", "4:44: functions: expected a whole number from 0 to 10000, got -1"),
        ("- {name: a, kind: process.host, functions: 0x10}", "4:44: functions: expected a whole number from 0 to 10000, got '0x10'"),
        ("- {name: a, kind: process.host, functions: true}", "4:44: functions: expected a whole number from 0 to 10000, got true"),
        ("- {name: a, kind: process.host, preload: 1}", "4:42: preload: expected true or false, got 1"),
        ("- {name: a, kind: process.host, limits: {mailbox: 1MB}}",
         "4:51: limits.mailbox: expected a size such as 4096, 64KiB or 1MiB, got '1MB'"),
        ("- {name: a, kind: process.host, limits: {open_files: 3}}",
         "4:54: limits.open_files: expected a whole number from 16 to 1000000, got 3"),
        ("- {name: a, kind: process.host, limits: {memory: 1MiB}}",
         "4:50: limits.memory: expected a size from 33554432 to 1099511627776 bytes, got '1MiB'"),
        ("- {name: a, kind: process.host, limits: {memory: much}}",
         "4:50: limits.memory: expected a size such as 4096, 64KiB or 1MiB, got 'much'"),
        ("- {name: a, kind: process.host, limits: {cpu: 0}}", "4:47: limits.cpu: expected a duration longer than 0, got 0"),
        ("- {name: a, kind: process.host, limits: {liveness: 0}}",
         "4:52: limits.liveness: expected a duration longer than 0, got 0"),
        ("- {name: a, kind: process.host, limits: {liveness: 99ms}}",
         "4:52: limits.liveness: expected a duration of at least 0.1s, got '99ms'"),
        ("- {name: a, kind: process.host, coalesce_sends: often}", "4:49: coalesce_sends: expected true or false, got 'often'"),
        ("- {name: a, kind: process.host, sandbox: {net: none}}",
         "4:43: unknown field 'sandbox.net' of process.host; expected read, write, signals"),
        ("- {name: a, kind: process.host, sandbox: none}", "4:42: sandbox: expected a mapping, got 'none'"),
        ("- {name: a, kind: process.host, sandbox: {read: [1]}}", "4:50: sandbox.read: expected a path as text, got 1 without quotes"),
        ("- {name: a, kind: process.host, umask: 0888}", "4:40: umask: expected an octal number from 000 to 0777, such as 0077, got '0888'"),
        ("- {name: a, kind: process.host, umask: [7]}", "4:40: umask: expected an octal number from 000 to 0777, such as 0077, got a list"),
        ("- {name: a, kind: process.host, oom_score: 1001}", "4:44: oom_score: expected a whole number from -1000 to 1000, got 1001"),
        ("- {name: a, kind: process.host, limits: {processes: 0}}",
         "4:53: limits.processes: expected a whole number from 1 to 1000000, got 0"),
        ("- {name: a, kind: process.host, limits: {cpus: 0}}", "4:48: limits.cpus: expected a number from 0.01 to 1024, got 0"),
        ("- {name: a, kind: process.host, limits: {disk: 1MiB}}",
         "4:48: limits.disk: has no effect, expected private_tmp: true beside it"),
        ("- {name: a, kind: process.host, no_new_privs: false, sandbox: {signals: false}}",
         "4:47: no_new_privs: expected true beside a sandbox, which the kernel gives only to who renounces privileges"),
        ("- {name: a, kind: process.host, group: 'a b'}", "4:40: group: expected the name of a group, got 'a b'"),
        ("- {name: a, kind: process.host, groups: [a, a]}", "4:45: groups: expected each item once, got 'a' twice"),
        ("- {name: a, kind: process.host, environment: {set: {A: 1}}}",
         "4:56: environment.set: expected the value of A as text, got 1 without quotes"),
        ("- {name: a, kind: process.host, environment: {set: {'A B': x}}}",
         "4:60: environment.set: expected at most 99 letters, digits and _ that start with a letter or _, got 'A B'"),
        ("- {name: a, kind: process.host, environment: {set: {A: x}, unset: [A]}}",
         "4:67: environment.unset: A is in environment.set too, expected it in one of them"),
        ("- {name: a, kind: process.host, environment: {inherit: false, unset: [A]}}",
         "4:70: environment.unset: has no effect beside inherit: false, expected one of them"),
        ("- {name: a, kind: process.host, private_tmp: true, environment: {set: {TMPDIR: /x}}}",
         "4:71: environment.set: TMPDIR is what private_tmp sets, expected one of them"),
        ("- {name: a, kind: process.host, environment: {set: {WSRELAY_LOG: x}}}",
         "4:52: environment.set: WSRELAY_LOG is the runtime's own, expected another name"),
        ("- {name: a, kind: process.host, user: 'a b'}", "4:39: user: expected the name of a user, got 'a b'"),
        # Servers
        ("- {name: a, kind: http.admin}", "4:3: missing field addr of http.admin"),
        ("- {name: a, kind: http.admin, addr: ':9464'}",
         "4:37: addr: :9464 can be reached from other machines, expected 127.0.0.1, [::1], localhost or unix:, or remote: true"),
        (SERVICE + "- {name: a, kind: http.admin, addr: '[::1]:80'}",
         "5:37: addr: [::1]:80 cannot be bound beside :80 of app:web at a.yaml:4:41"),
        ("- {name: a, kind: http.admin, addr: 'unix:/a'}\n- {name: b, kind: http.admin, addr: 'unix:/b'}",
         "5:10: there is an http.admin already, app:a at a.yaml:4:10; expected one"),
        ("- {name: a, kind: http.service}", "4:3: missing field addr of http.service"),
        ("- {name: a, kind: http.service, adr: ':80'}", "4:33: unknown field 'adr' of http.service; did you mean addr?"),
        ("- {name: a, kind: http.service, addr: 80}", "4:39: addr: expected an address as text, got 80 without quotes"),
        ("- {name: a, kind: http.service, addr: localhost}",
         "4:39: addr: expected host:port, :port, [v6]:port or unix:/path with a port up to 65535, got 'localhost'"),
        ("- {name: a, kind: http.service, addr: '::1:80'}",
         "4:39: addr: expected host:port, :port, [v6]:port or unix:/path with a valid host, got '::1:80'"),
        ("- {name: a, kind: http.service, addr: '256.0.0.1:80'}",
         "4:39: addr: expected host:port, :port, [v6]:port or unix:/path with a valid host, got '256.0.0.1:80'"),
        ("- {name: a, kind: http.service, addr: 'unix:run.sock'}",
         "4:39: addr: expected unix: and an absolute path of at most 107 bytes, got 'unix:run.sock'"),
        (SERVICE + "- {name: b, kind: http.service, addr: '127.0.0.1:80'}",
         "5:39: addr: 127.0.0.1:80 cannot be bound beside :80 of app:web at a.yaml:4:41"),
        ("- {name: a, kind: http.service, addr: ':80', timeouts: {idle: soon}}",
         "4:63: timeouts.idle: expected a duration such as 200ms, 30s or 1m30s, got 'soon'"),
        ("- {name: a, kind: http.service, addr: ':80', timeouts: {idle: 0}}",
         "4:63: timeouts.idle: expected a duration longer than 0, got 0"),
        ("- {name: a, kind: http.service, addr: ':80', ping: {interval: -3}}",
         "4:63: ping.interval: expected a duration between 0 and 31622400s, got -3"),
        ("- {name: a, kind: http.service, addr: ':80', limits: {message: 17MiB}}",
         "4:64: limits.message: expected a size from 1 to 16777216 bytes, got '17MiB'"),
        ("- {name: a, kind: http.service, addr: ':80', limits: {compression: maybe}}",
         "4:68: limits.compression: expected true or false, got 'maybe'"),
        ("- {name: a, kind: http.service, addr: ':80', tls: {key: key.pem}}", "4:51: missing field tls.certificate of http.service"),
        ("- {name: a, kind: http.service, addr: ':80', tls: {key: key.pem, certificate: no.pem}}",
         "4:79: tls.certificate: there is no file '/srv/app/no.pem'"),
        ("- {name: a, kind: http.service, addr: ':80', proxy: {trusted: [10.0.0.1/8]}}",
         "4:64: proxy.trusted: expected an IP address or a network such as 10.0.0.0/8 without host bits, got '10.0.0.1/8'"),
        ("- {name: a, kind: http.service, addr: ':80', hosts: ['h:80']}",
         "4:54: hosts: expected a host without a port, such as chat.example.com or [2001:db8::1], got 'h:80'"),
        # Routers
        ("- {name: r, kind: http.router}", "4:3: missing field meta.server of http.router"),
        (SERVICE + "- {name: r, kind: http.router, meta: {server: wbe}}",
         "5:47: meta.server: there is no http.service app:wbe; did you mean app:web?"),
        (SERVICE + HOST + "- {name: r, kind: http.router, meta: {server: host}}",
         "6:47: meta.server: app:host is of kind process.host, expected http.service"),
        (SERVICE + "- {name: r, kind: http.router, meta: {server: web}, middleware: [cors]}",
         "5:66: middleware: unknown middleware 'cors', there is none in this version"),
        (SERVICE + "- {name: r, kind: http.router, meta: {server: web}, options: {a: 1}}",
         "5:62: options: unknown option 'a', there is none in this version"),
        (SERVICE + "- {name: r, kind: http.router, meta: {server: web}, post_middleware: [relay]}",
         "5:71: post_middleware: unknown middleware 'relay', expected websocket_relay"),
        (SERVICE + "- {name: r, kind: http.router, meta: {server: web}, post_middleware: websocket_relay}",
         "5:70: post_middleware: expected a list, got 'websocket_relay'"),
        (SERVICE + "- {name: r, kind: http.router, meta: {server: web}, post_options: {wsrelay.allowed.origins: '*'}}",
         "5:93: post_options.wsrelay.allowed.origins: has no effect, expected post_middleware: [websocket_relay] beside it"),
        (SERVICE + "- {name: r, kind: http.router, meta: {server: web}, post_options: {wsrelay.origins: '*'}}",
         "5:68: unknown field 'post_options.wsrelay.origins' of http.router; did you mean wsrelay.allowed.origins?"),
        # Endpoints
        (ROUTER + FUNCTION + "- {name: e, kind: http.endpoint, meta: {router: router}, method: get, path: /, func: f}",
         "8:66: method: expected GET, HEAD, POST, PUT, PATCH, DELETE or OPTIONS, got 'get'; did you mean GET?"),
        (ROUTER + FUNCTION + "- {name: e, kind: http.endpoint, meta: {router: router}, method: GET, path: /a/{b, func: f}",
         "8:80: not valid YAML: expected ',' or '}', but got '{' (while parsing a flow mapping)"),
        (ROUTER + FUNCTION + "- {name: e, kind: http.endpoint, meta: {router: router}, method: GET, path: '/a{b}', func: f}",
         "8:77: path: expected segments of plain text, {name} or {rest...}, without ?, # and %, got '/a{b}'"),
        (ROUTER + FUNCTION + "- {name: e, kind: http.endpoint, meta: {router: router}, method: GET, path: '/{a...}/b', func: f}",
         "8:77: path: expected {a...} only as the last segment, got '/{a...}/b'"),
        (ROUTER + FUNCTION + "- {name: e, kind: http.endpoint, meta: {router: router}, method: GET, path: '/{a}/{a}', func: f}",
         "8:77: path: expected each parameter once, got {a} twice in '/{a}/{a}'"),
        (ROUTER + FUNCTION + "- {name: e, kind: http.endpoint, meta: {router: router}, method: GET, path: a, func: f}",
         "8:77: path: expected a path that starts with /, got 'a'"),
        (ROUTER + FUNCTION + "- {name: e, kind: http.endpoint, meta: {router: router}, method: GET, path: /a, func: g}",
         "8:87: func: there is no function.python app:g; did you mean app:f?"),
        (ROUTER + FUNCTION + "- {name: d, kind: http.endpoint, meta: {router: router}, method: GET, path: '/{a}', func: f}\n"
         "- {name: e, kind: http.endpoint, meta: {router: router}, method: GET, path: '/{b}', func: f}",
         "9:77: path: duplicate route GET /{b} on app:web, the same as /{a} of app:d at a.yaml:8:77"),
        # Static files
        (SERVICE + "- {name: s, kind: http.static, meta: {server: web}, path: /, directory: nowhere}",
         "5:73: directory: there is no directory '/srv/app/nowhere'"),
        (SERVICE + "- {name: s, kind: http.static, meta: {server: web}, path: '/{a}', directory: page}",
         "5:59: path: expected a path without parameters, got '/{a}'"),
        (SERVICE + "- {name: s, kind: http.static, meta: {server: web}, path: /, directory: page, index: a/b}",
         "5:86: index: expected the name of a file, without a folder, got 'a/b'"),
        (SERVICE + "- {name: s, kind: http.static, meta: {server: web}, path: /a, directory: page}\n"
         "- {name: t, kind: http.static, meta: {server: web}, path: /a/, directory: page}",
         "6:59: path: duplicate static path /a on app:web, first given at a.yaml:5:59"),
        # Sources and hosts
        (FUNCTION, "4:10: there is no process.host to run this function, expected one"),
        (HOST + "- {name: g, kind: process.host}\n" + FUNCTION, "6:10: missing field host of function.python, which of app:host, app:g?"),
        ("- {name: g, kind: process.host, functions: 0}\n" + FUNCTION,
         "5:10: app:g has functions: 0, expected at least 1 to run this function"),
        ("- {name: p, kind: process.python, source: chat.py, method: room}",
         "4:43: source: expected file://chat.py or python://package.module, got 'chat.py'"),
        ("- {name: p, kind: process.python, source: 'python://a..b', method: room}",
         "4:43: source: expected python:// and the dotted name of a module, got 'python://a..b'"),
        ("- {name: p, kind: process.python, source: 'file://no.py', method: room}",
         "4:43: source: there is no file '/srv/app/no.py' that can be read"),
        ("- {name: p, kind: process.python, source: 'file://chat.py', method: rooms}",
         "4:69: method: chat.py binds no rooms; did you mean room?"),
        ("- {name: p, kind: process.python, source: 'file://chat.py', method: zzz}",
         "4:69: method: chat.py binds no zzz; expected a function of that name at its top level"),
        ("- {name: p, kind: process.python, source: 'file://chat.py', method: a.b}",
         "4:69: method: expected the name of a function, got 'a.b'"),
    ],
)  # fmt: skip
def test_bad_entries(text: str, expected: str) -> None:
    assert check(entries(text)) == [f"a.yaml:{expected}"]


def test_a_source_that_is_no_python_is_a_problem_there() -> None:
    text = "- {name: p, kind: process.python, source: 'file://broken.py', method: f}\n"
    assert check(entries(text + text.replace("name: p", "name: q"))) == [
        "broken.py:2:7: not valid Python: invalid syntax"
    ]


@pytest.mark.parametrize(
    ("origins", "wrong"),
    [
        ("https://a.example.com/", "without a path"),
        ("https://a.*.com", "wildcard only"),
        ("https://a*.example.com", "wildcard only"),
        ("https://*", "wildcard only"),
        ("app.example.com", "an origin such as"),
        ("https://a:0", "port from 1"),
        ("https://u@a", "an origin such as"),
        ("https://a, *", "stand alone"),
        ("https://a,,https://b", "an origin such as"),
        ("", "at least one item"),
        ("null", "an origin such as"),
    ],
)
def test_bad_origins(origins: str, wrong: str) -> None:
    line = f"- {{name: r, kind: http.router, meta: {{server: web}}, post_middleware: [websocket_relay], post_options: {{wsrelay.allowed.origins: '{origins}'}}}}"
    result = check(entries(SERVICE + line))
    assert isinstance(result, list)
    assert len(result) == 1
    assert wrong in result[0]


def test_every_problem_of_every_file_at_once() -> None:
    assert check("a: [", entries("- {name: e, kind: http.router, meta: {server: web}, prefix: x}"), "b: {") == [
        "a.yaml:1:5: not valid YAML: expected the node content, but found '<stream end>' (while parsing a flow node)",
        "b.yaml:4:61: prefix: expected a path that starts with /, got 'x'",
        "c.yaml:1:5: not valid YAML: expected the node content, but found '<stream end>' (while parsing a flow node)",
    ]


def test_duplicates_across_files() -> None:
    other = entries(HOST)
    assert check(entries(HOST), other) == ["b.yaml:4:10: duplicate id app:host, first defined at a.yaml:4:10"]


def test_the_limits_of_a_host() -> None:
    result = check(
        entries(
            "- {name: a, kind: process.host, limits: {memory: 512MiB, cpu: 1m30s, liveness: 500ms, open_files: none}}"
        )
    )
    assert isinstance(result, Application)
    assert result.hosts["app:a"].limits == HostLimits(memory=512 << 20, cpu=90.0, liveness=0.5)


@pytest.mark.parametrize(
    ("first", "second", "free"),
    [
        (":80", ":80", False),
        ("LOCALHOST:80", "localhost:80", False),
        ("0.0.0.0:80", "127.0.0.1:80", False),
        ("[::]:80", "[::1]:80", False),
        ("[::1]:80", "[0:0::1]:80", False),
        ("unix:/a", "unix:/b/../a", False),
        (":0", ":0", True),
        (":80", ":81", True),
        ("127.0.0.1:80", "127.0.0.2:80", True),
        ("unix:/a", "unix:/b", True),
    ],
)
def test_addresses_used_twice(first: str, second: str, free: bool) -> None:
    text = "".join(f"- {{name: s{i}, kind: http.service, addr: '{addr}'}}\n" for i, addr in enumerate((first, second)))
    assert isinstance(check(entries(text)), Application) is free
    assert isinstance(check(entries("".join(reversed(text.splitlines(keepends=True))))), Application) is free
