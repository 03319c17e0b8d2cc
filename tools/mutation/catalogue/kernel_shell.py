"""What the supervisor and the wire perform: real processes are needed to see these."""

from __future__ import annotations

from ..model import Mutation

_SUPERVISOR = "kernel/shell/supervisor.py"
_BURIALS = "kernel/shell/burials.py"
_WORKER_CHANNELS = "kernel/shell/worker_channels.py"
_GATEWAY_DEATH = "tests/system/test_gateway_death.py"
_SUPERVISOR_DEATH = "tests/system/test_supervisor_death.py"

MUTATIONS = (
    Mutation(
        "a-log-that-nobody-reads-holds-everybody-up",
        "S10",
        "kernel/wire/log_writer.py",
        "        root.handlers[0] = _running\n",
        "        pass\n",
        ("tests/system/test_unread_log.py::test_a_log_that_nobody_reads_holds_up_only_who_prints",),
    ),
    Mutation(
        "the-log-is-kept-without-a-bound",
        "S10",
        "kernel/wire/log_writer.py",
        "        if not self._full:\n",
        "        if True:\n",
        ("tests/kernel/wire/test_log_writer.py::test_who_logs_does_not_wait_and_is_told_what_was_dropped",),
    ),
    Mutation(
        "swap-drain-and-notice",
        "S14",
        _BURIALS,
        "        runtime.take_from_worker(handle, handle.channel.drain())\n",
        "        runtime.perform(runtime.table.worker_exited(handle.number, status, runtime.loop.time()))\n"
        "        runtime.take_from_worker(handle, handle.channel.drain())\n",
        ("tests/faults/test_failpoints.py::test_last_words_come_before_the_notice",),
    ),
    Mutation(
        "an-orphan-is-not-swept",
        "S16",
        "kernel/shell/children.py",
        "                found.append(self.take(relative.os_pid))\n",
        "                continue\n",
        ("tests/system/test_processes.py", "tests/system/test_process_edges.py"),
    ),
    Mutation(
        "what-the-runtime-did-not-start-is-swept-too",
        "S2",
        "kernel/shell/guardian.py",
        "for child in own_children(strangers) if child.session != session]",
        "for child in own_children(strangers) if session]",
        ("tests/system/test_process_edges.py::test_what_the_runtime_did_not_start_it_does_not_kill",),
    ),
    Mutation(
        "a-fence-is-missing",
        "S13",
        _WORKER_CHANNELS,
        "            self._runtime.perform(self._table.worker_lost(number, detail))\n",
        "            pass\n",
        ("tests/system/test_broken_channels.py::test_a_worker_whose_channel_breaks_is_fenced",),
    ),
    Mutation(
        "mailbox-bound-off-in-the-supervisor",
        "S10",
        "kernel/shell/worker.py",
        "return self._backlog.mail > self.mailbox",
        "return False",
        ("tests/system/test_limits.py",),
    ),
    Mutation(
        "a-dead-gateway-s-last-words-are-dropped",
        "S41",
        "kernel/shell/gateway.py",
        "        for record in attachment.channel.drain():\n            self._take(record)\n",
        "",
        ("tests/kernel/shell/test_gateway.py",),
    ),
    Mutation(
        "a-new-gateway-without-the-workers-channels",
        "S41",
        _SUPERVISOR,
        "                self._births.open_data(handle, self.table.worker_pid(handle.number))\n",
        "                pass\n",
        (f"{_GATEWAY_DEATH}::test_workers_survive_the_gateway",),
    ),
    Mutation(
        "a-gateway-that-hangs-is-left-alone",
        "S41",
        "kernel/shell/gateway.py",
        '        self._kill(f"the gateway has not answered for {limit:g} s")\n',
        "        pass\n",
        (f"{_GATEWAY_DEATH}::test_a_gateway_that_hangs_is_restarted",),
    ),
    Mutation(
        "the-guardian-leaves-descendants",
        "S40",
        "kernel/shell/guardian.py",
        "    left = _kill_descendants(strangers)\n",
        "    left = 0\n",
        (f"{_SUPERVISOR_DEATH}::test_nothing_outlives_the_supervisor",),
    ),
    Mutation(
        "a-hung-supervisor-is-not-continued",
        "S40",
        "kernel/shell/guardian.py",
        "libc.prctl(_PR_SET_PDEATHSIG, signal.SIGCONT,",
        "libc.prctl(_PR_SET_PDEATHSIG, 0,",
        (f"{_SUPERVISOR_DEATH}::test_a_stopped_supervisor_is_woken_by_the_guardian_s_death",),
    ),
    Mutation(
        "the-tail-of-a-torn-frame-is-dropped",
        "S11",
        "kernel/wire/channel.py",
        "                self._offset += self._written[0]\n",
        "                self._offset = len(frame)\n",
        ("tests/kernel/wire/test_channel.py::test_pending_counts_what_is_not_written",),
    ),
    Mutation(
        "a-drain-ends-after-one-read",
        "S14",
        "kernel/wire/channel.py",
        "            records += self.receive()\n",
        "            records += self.receive()\n            break\n",
        ("tests/kernel/wire/test_channel.py", "tests/system/test_process_edges.py"),
    ),
    Mutation(
        "terminate-waits-for-the-fork",
        "S30",
        _WORKER_CHANNELS,
        "                host.give_up(effect.worker)\n",
        "                pass\n",
        ("tests/system/test_process_edges.py",),
    ),
    Mutation(
        "mail-on-a-reserved-topic-is-handed-on",
        "S9",
        "kernel/wire/mail.py",
        '        if topic_is_reserved(name):\n            return ""\n',
        "",
        ("tests/kernel/wire/test_mail.py",),
    ),
    Mutation(
        "mail-is-handed-on-in-another-order",
        "S6",
        "kernel/wire/mail.py",
        "                rests.append(data[position + to_topic : stop])\n",
        "                rests.insert(0, data[position + to_topic : stop])\n",
        ("tests/kernel/wire/test_mail.py",),
    ),
    Mutation(
        "mail-is-handed-on-after-the-hand-over",
        "S35",
        "kernel/core/routes.py",
        "        if worker is None or worker.pid is None or worker.upgrade is not None:\n",
        "        if worker is None or worker.pid is None:\n",
        ("tests/kernel/core/test_table.py",),
    ),
    Mutation(
        "what-cannot-be-looked-at-takes-no-room",
        "S18",
        "kernel/shell/disk.py",
        "        self.used += _HIDDEN\n",
        "        self.used += 0\n",
        ("tests/kernel/shell/test_temporary.py",),
    ),
    Mutation(
        "memory-in-files-is-not-looked-for",
        "S18",
        "kernel/shell/usage.py",
        "        if resident <= limit < resident + self._shared:\n",
        "        if resident > limit + self._shared:\n",
        ("tests/system/test_limits.py::test_memory_in_files_counts",),
    ),
    Mutation(
        "what-is-mapped-counts-twice",
        "S18",
        "kernel/shell/memory.py",
        " - sum(map(read_mapped_shared_memory, members)))",
        " - 0)",
        ("tests/system/test_limits.py::test_memory_in_a_file_that_is_mapped_counts_once",),
    ),
)
