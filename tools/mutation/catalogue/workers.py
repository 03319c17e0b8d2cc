"""What a worker's library decides and performs."""

from __future__ import annotations

from ..model import Mutation

_MAILBOX = "workers/core/mailbox.py"
_MAILBOX_TESTS = ("tests/workers/test_mailbox.py", "tests/workers/test_mailbox_machine.py")
_OUTGOING = "workers/core/outgoing.py"
_OUTGOING_TESTS = ("tests/workers/test_outgoing.py",)
_RUNTIME = "workers/shell/runtime.py"
_AFFINITY = "tests/system/test_affinity.py"
_PROCESS_TESTS = ("tests/workers/test_process.py",)

MUTATIONS = (
    Mutation(
        "an-exit-overtakes-the-last-words",
        "S14",
        _MAILBOX,
        " and (self.data_ended or self.frames >= mark.frame)",
        "",
        _MAILBOX_TESTS,
    ),
    Mutation(
        "a-message-after-leave",
        "S45",
        "workers/core/connections.py",
        "joined.pop(record.connection, None)",
        "joined.get(record.connection)",
        _MAILBOX_TESTS,
    ),
    Mutation(
        "no-leave-when-the-gateway-is-lost",
        "S41",
        "workers/core/connections.py",
        "        return leaves\n",
        "        return []\n",
        _MAILBOX_TESTS,
    ),
    Mutation(
        "a-target-in-a-call-that-raises-is-forgotten",
        "S44",
        "workers/core/exchange.py",
        "        self.named_target = target = str(",
        "        target = str(",
        ("tests/workers/test_exchange.py",),
    ),
    Mutation(
        "every-cancel-of-a-sender-waits",
        "S10",
        _MAILBOX,
        "            self._cancels.add(signal.sender)\n",
        "            pass\n",
        _MAILBOX_TESTS,
    ),
    Mutation(
        "mailbox-bound-off-in-the-library",
        "S10",
        _MAILBOX,
        "return self.unread > self.limit",
        "return False",
        (*_MAILBOX_TESTS, *_PROCESS_TESTS),
    ),
    Mutation(
        "a-removed-monitor-is-heard",
        "S21",
        _MAILBOX,
        "if any(removal.matches(notice) for removal in self._removals):",
        "if False:",
        _MAILBOX_TESTS,
    ),
    Mutation(
        "flush-leaves-what-is-queued",
        "S21",
        _MAILBOX,
        "        if flush:\n",
        "        if False:\n",
        _MAILBOX_TESTS,
    ),
    Mutation(
        "an-observed-death-is-forgotten",
        "S8",
        _MAILBOX,
        "        self.observed_dead[pid] = None\n",
        "",
        (*_MAILBOX_TESTS, *_PROCESS_TESTS),
    ),
    Mutation(
        "a-slow-handler-reads-on",
        "S10",
        _MAILBOX,
        "return not self._data_paused",
        "return True",
        (*_MAILBOX_TESTS, *_PROCESS_TESTS),
    ),
    Mutation(
        "a-reserved-topic-is-let-through",
        "S9",
        _OUTGOING,
        "    if wire.topic_is_reserved(topic):\n",
        "    if False:\n",
        _OUTGOING_TESTS,
    ),
    Mutation(
        "a-close-code-that-is-never-sent",
        "S50",
        _OUTGOING,
        "1007 <= code <= 1014",
        "1005 <= code <= 1015",
        _OUTGOING_TESTS,
    ),
    Mutation(
        "a-close-reason-cut-in-a-character",
        "S50",
        _OUTGOING,
        'decode(errors="ignore")',
        'decode(errors="replace")',
        _OUTGOING_TESTS,
    ),
    Mutation(
        "a-send-to-the-observed-dead",
        "S8",
        _OUTGOING,
        "    if pids and not live and not several:\n",
        "    if False:\n",
        _OUTGOING_TESTS,
    ),
    Mutation(
        "mail-of-a-replaced-channel-is-dropped",
        "S41",
        _RUNTIME,
        "            for earlier in self.data.reader.drain():\n",
        "            for earlier in self.data.reader.drain()[:0]:\n",
        ("tests/workers/test_process.py::test_a_new_gateway",),
    ),
    Mutation(
        "the-tail-of-a-frame-is-not-finished",
        "S11",
        "workers/shell/writer.py",
        "            except (BlockingIOError, InterruptedError):\n                return False\n            except OSError:\n"
        "                self.broken = True\n",
        "            except (BlockingIOError, InterruptedError):\n"
        "                outgoing[2].append(len(outgoing[0]))\n            except OSError:\n"
        "                self.broken = True\n",
        ("tests/workers/test_writer.py::test_a_tail_is_finished_by_the_next_call",),
    ),
    Mutation(
        "a-forked-child-keeps-the-channel",
        "S11",
        "workers/shell/channels.py",
        "        self.writer.forget_in_fork()\n        self.reader.close()\n",
        "        pass\n",
        ("tests/workers/test_process_concurrency.py::test_a_forked_child_has_no_channel",),
    ),
    Mutation(
        "frames-after-the-last-word",
        "S11",
        "workers/shell/writer.py",
        "self._sealed = last",
        "self._sealed = False",
        ("tests/workers/test_writer.py",),
    ),
    Mutation(
        "send-returns-before-the-bytes-are-out",
        "S7",
        "workers/shell/writer.py",
        "            self.wait_writable(remaining)\n            self.flush()\n        return True\n",
        "            return True\n        return True\n",
        ("tests/workers/test_writer.py", *_PROCESS_TESTS),
    ),
    Mutation(
        "an-exit-code-of-1-for-a-clean-end",
        "S18",
        "workers/shell/ending.py",
        "return Ending(make_reason(CANCELLED if cancelled else NORMAL, value=packed), 0)",
        "return Ending(make_reason(CANCELLED if cancelled else NORMAL, value=packed), 1)",
        ("tests/workers/test_endings.py",),
    ),
    Mutation(
        "an-honoured-cancel-is-normal",
        "S18",
        "workers/shell/ending.py",
        "make_reason(CANCELLED if cancelled else NORMAL, value=packed)",
        "make_reason(NORMAL, value=packed)",
        ("tests/workers/test_endings.py",),
    ),
    Mutation(
        "a-signal-that-comes-before-a-wait-waits-for-mail",
        "S11",
        "workers/shell/poller.py",
        "        self.hear_signals()\n",
        "        pass\n",
        ("tests/workers/test_signal_handlers.py::test_a_handler_that_is_due_does_not_wait_for_mail",),
    ),
    Mutation(
        "a-signal-to-a-forked-child-is-written-to-whatever-is-open",
        "S11",
        "workers/shell/poller.py",
        "        other = signal.set_wakeup_fd(-1)\n",
        "        other = -1\n",
        ("tests/workers/test_signal_handlers.py::test_a_forked_child_wakes_nobody",),
    ),
    Mutation(
        "after-an-event-loop-signals-wake-nobody",
        "S11",
        "workers/shell/runtime.py",
        "            self._poller.hear_signals()\n",
        "            pass\n",
        ("tests/workers/test_signal_handlers.py::test_after_an_event_loop_signals_wake_the_next_invocation",),
    ),
    Mutation(
        "a-signal-waits-for-what-wakes-an-event-loop",
        "S11",
        "workers/shell/runtime.py",
        "        loop.add_reader(self._poller.woken, self._poller.calm)\n",
        "        pass\n",
        ("tests/workers/test_signal_handlers.py::test_a_handler_that_is_due_does_not_wait_for_mail",),
    ),
    Mutation(
        "a-host-runs-anywhere",
        "S42",
        "workers/shell/confinement.py",
        "    if configuration.cpu_affinity is not None:\n",
        "    if False and configuration.cpu_affinity is not None:\n",
        (f"{_AFFINITY}::test_everybody_runs_where_it_is_said",),
    ),
)
