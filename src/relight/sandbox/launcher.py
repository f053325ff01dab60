"""The process that starts sandboxes: bare, with one thread, and never running a line of the user's.

The agent starts it once and hands it one end of a packet socket.  Having one thread and few pages, it may use a raw
`clone3` into all namespaces at once; anything with threads, or that code of users runs in, must use `os.fork`.

What each end leads to.  *The worker ends*: init tells how, and ends; all of the sandbox is gone with it.  *Init ends*
(killed): the kernel ends the rest, the launcher reports signal 9.  *The launcher ends*: the death signal ends every
init, and plain processes find their status socket closed.  *The agent ends*: the launcher finds its socket closed (or
SIGTERM comes, its own death signal), ends every sandbox, removes the groups, and leaves.
"""

from __future__ import annotations

import dataclasses
import os
import selectors
import shutil
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from relight.protocol.codec import pack
from relight.protocol.errors import ProtocolError, StartFailed
from relight.sandbox import init, syscalls
from relight.sandbox.cgroups import Group, Groups
from relight.sandbox.egress.gate import Gate
from relight.sandbox.egress.tally import read_tally
from relight.sandbox.facts import Facts, gather, survey, uid_block
from relight.sandbox.messages import (
    FROM_INIT,
    GO,
    PACKET_BYTES,
    TO_LAUNCHER,
    Emptied,
    Ended,
    Equip,
    Equipped,
    InitEnded,
    InitFailed,
    InitStarted,
    Kill,
    LauncherReady,
    NestedMade,
    NewNested,
    NewShell,
    Refused,
    Settle,
    ShellFailed,
    ShellMade,
    Start,
    Started,
    StartNested,
    StartShell,
)
from relight.sandbox.oom import LOOK_MS, Bell, OomWatch
from relight.sandbox.operations import Trees
from relight.sandbox.pid1 import StepFailed, execute
from relight.sandbox.plan import INNER_ID, Ground, Plan, own_takes, plan, take_devices
from relight.sandbox.spec import Counted, Isolation, Limits, SandboxExit, SandboxSpec, ShellSpec
from relight.sandbox.users import write_maps

_LEAVE_ROUNDS = 200  # of at most 50 ms: what has not ended by then is left to the next agent's sweep
_RETRY_MS = 50
_STRAGGLER_ROUND = 4  # what is in a group by then did not end with its sandbox's first process
_DESCRIPTORS = 16  # the most that come with one packet: what listens in a shell, its namespaces, its way out


@dataclass(slots=True, kw_only=True)
class _Sandbox:
    """One that is not over: its init, and what is known of how it ends.

    One that is nested in a `base` is no child of this process, and tells its pidfd itself: it is -1 until then.
    """

    id: str
    plan: Plan
    pid: int
    pidfd: int
    base: str = ""
    is_unwanted: bool = False
    network: str
    status: socket.socket
    group: Group
    limits: Limits
    scratch: str
    is_started: bool = False
    failure: str = ""
    ended: InitEnded | None = None


@dataclass(slots=True, kw_only=True)
class _Shell:
    """One that was ordered, or is there: then `pidfd` is that of its pid 1, which its template's keeper made."""

    id: str
    template: str
    group: Group
    limits: Limits
    pidfd: int = -1
    is_unwanted: bool = False


class Launcher:
    """All sandboxes of one agent.  `state` is a folder of its own; its path, `key`, names the groups."""

    def __init__(self, agent: socket.socket, state: Path, facts: Facts, key: str) -> None:
        self._agent = agent
        self._state = state
        self._facts = facts
        self._groups = Groups(facts.groups, key)
        self._uids = uid_block(facts.uid_extents, key)
        self._used_uids: set[int] = set()
        self._sandboxes: dict[str, _Sandbox] = {}
        self._shells: dict[str, _Shell] = {}
        self._emptying: list[tuple[str, Group]] = []  # what has ended, and is not empty yet
        self._rounds = 0  # since something was added to that
        self._selector = selectors.PollSelector()
        self._oom = OomWatch(self._selector)
        self._gate = Gate(self._connector_uid(), is_proxy=facts.is_proxied)
        self._watched: socket.socket | None = None

    def run(self) -> None:
        """Serve until the agent is gone, then end every sandbox."""
        self._sweep()
        self._selector.register(self._agent, selectors.EVENT_READ)
        _send(self._agent, LauncherReady(facts=self._facts))
        while self._turn(None):
            pass
        self._selector.unregister(self._agent)
        for name in (*self._shells, *self._sandboxes):
            self._kill(name)
        for _ in range(_LEAVE_ROUNDS):
            if not (self._sandboxes or self._shells or self._emptying):
                break
            self._turn(_RETRY_MS)
        self._gate.leave()
        self._groups.remove()

    def _turn(self, timeout_ms: int | None) -> bool:
        """Handle what has come; false when the agent is gone."""
        self._empty()
        if self._emptying:
            timeout_ms = min(1 << min(self._rounds, 10), _RETRY_MS)
        if self._oom.is_looking:
            timeout_ms = min(LOOK_MS, _RETRY_MS if timeout_ms is None else timeout_ms)
        for key, _ in self._selector.select(None if timeout_ms is None else timeout_ms / 1000):
            if key.fileobj is self._agent:
                if not self._hear_agent():
                    return False
            elif isinstance(key.data, _Sandbox):
                self._hear_init(key.data, has_ended=key.fd == key.data.pidfd)
            elif isinstance(key.data, _Shell):
                self._finish_shell(key.data)
            elif isinstance(key.data, Gate):
                self._gate.renew()
                self._watch_gate()
            elif isinstance(key.data, Bell):
                self._oom.hear(key.data)
        for name in self._oom.find():
            self._kill(name)
        return True

    def _empty(self) -> None:
        """Remove the groups of what has ended, as the kernel lets go of its processes, and say so."""
        left = []
        self._rounds += 1
        for name, group in self._emptying:
            if not group.try_remove():
                left.append((name, group))
                if self._rounds == _STRAGGLER_ROUND:
                    group.kill()  # a template's child that had joined, and was not in the shell yet
            elif name:
                _send(self._agent, Emptied(id=name))
        self._emptying = left

    def _sweep(self) -> None:
        """End what a dead predecessor left, and leave word for a successor."""
        record = self._state / "groups"
        also = tuple(record.read_text().splitlines()) if record.exists() else ()
        layout = self._groups.prepare()
        self._groups.sweep(also)
        record.write_text("\n".join(self._groups.parents))
        shutil.rmtree(self._state / "scratch", ignore_errors=True)
        self._facts = dataclasses.replace(self._facts, groups=layout)

    # -- the agent speaks

    def _hear_agent(self) -> bool:
        try:
            data, descriptors, _, _ = socket.recv_fds(self._agent, PACKET_BYTES, 3)
        except ConnectionResetError:
            return False
        if not data:
            return False
        try:
            message = TO_LAUNCHER.unpack(data)
            if isinstance(message, Start):
                self._start(message, descriptors)
            elif isinstance(message, StartNested):
                self._start_nested(message)
            elif isinstance(message, StartShell):
                self._start_shell(message.spec)
            elif isinstance(message, Settle):
                self._settle(message.id)
            elif isinstance(message, Equip):
                self._equip(message, descriptors)
            elif isinstance(message, Kill):
                self._kill(message.id)
        except ProtocolError:
            return False  # the agent is ours: one that talks nonsense is broken, and gets what a dead one gets
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        return True

    def _start(self, start: Start, descriptors: Sequence[int]) -> None:
        spec = start.spec
        with self._refusing("sandbox", spec.id):
            if len(descriptors) != 3 or self._is_used(spec.id):
                raise StartFailed(f"cannot start sandbox {spec.id}: the id is in use, or descriptors are missing")
            uid = self._next_uid()
            ground = Ground(
                facts=self._facts,
                sources=survey(spec, is_privileged=self._facts.is_privileged),
                outer_uid=uid,
                scratch=str(self._state / "scratch" / spec.id),
            )
            self._launch(start, plan(spec, ground), ground.scratch, descriptors)

    @contextmanager
    def _refusing(self, what: str, name: str) -> Iterator[None]:
        """Tell the agent why something cannot be started."""
        try:
            yield
        except StartFailed as failure:
            _send(self._agent, Refused(id=name, reason=str(failure)))
        except (OSError, StepFailed) as error:
            _send(self._agent, Refused(id=name, reason=f"cannot start {what} {name}: {error}"))

    def _next_uid(self) -> int:
        if not self._facts.is_privileged:
            return self._facts.uid
        for uid in self._uids:
            if uid not in self._used_uids:
                return uid
        raise StartFailed(f"cannot start a sandbox: all {len(self._uids)} users of this agent are in use; stop some")

    def _connector_uid(self) -> int:
        """The last of this agent's users is the connector's."""
        if not self._facts.is_privileged:
            return -1
        uid = self._uids[-1]
        self._used_uids.add(uid)
        return uid

    def _open_egress(self, name: str, network: str, sockets: Sequence[int]) -> None:
        if sockets:
            self._gate.open(name, network, sockets)
            self._watch_gate()

    def _watch_gate(self) -> None:
        if self._watched is self._gate.watched:
            return
        if self._watched is not None:
            self._selector.unregister(self._watched)
        self._watched = self._gate.watched
        if self._watched is not None:
            self._selector.register(self._watched, selectors.EVENT_READ, self._gate)

    def _launch(self, start: Start, made: Plan, scratch: str, descriptors: Sequence[int]) -> None:
        trees: Trees = {}
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)  # not MSG_DONTWAIT: `recv_fds` forgets its flags up to Python 3.11
        group = Group(())
        try:
            execute(made.outside, trees)
            is_to_kill = made.isolation is Isolation.PROCESS  # a process namespace ends with its first process
            group = self._groups.create(start.spec.id, start.spec.limits, is_to_kill=is_to_kill)
            handles = init.Handles(status=theirs, channel=descriptors[0], stdout=descriptors[1], stderr=descriptors[2])
            pid, pidfd = _clone(made)
            if pid == 0:
                init.run(made, handles, trees)
            sandbox = _Sandbox(
                id=start.spec.id,
                plan=made,
                pid=pid,
                pidfd=pidfd,
                network=start.spec.network,
                status=ours,
                group=group,
                limits=start.spec.limits,
                scratch=scratch,
            )
            self._adopt(sandbox)
        except (OSError, StepFailed):
            ours.close()
            self._discard(group)
            raise
        finally:
            theirs.close()
            for tree in trees.values():
                os.close(tree)

    def _start_nested(self, start: StartNested) -> None:
        """Have the base's first process make one, whose own then tells of it (`_tell_nested`)."""
        spec, base = start.spec, self._sandboxes.get(start.base)
        with self._refusing("sandbox", spec.id):
            nest = base.plan.nest if base is not None and base.is_started else None
            if base is None or nest is None or self._is_used(spec.id):
                raise StartFailed(f"cannot start sandbox {spec.id}: {start.base} is no base, or the id is in use")
            sources = survey(spec, is_privileged=self._facts.is_privileged)
            ground = Ground(facts=self._facts, sources=sources, outer_uid=base.plan.outer_uid, scratch="")
            trees: Trees = {}
            try:
                execute(own_takes(spec, ground, nest.spec), trees)
                sandbox = self._order_nested(spec, base, trees)
            finally:
                for tree in trees.values():
                    os.close(tree)
            self._sandboxes[sandbox.id] = sandbox
            self._oom.add(sandbox.id, sandbox.group)
            self._selector.register(sandbox.status, selectors.EVENT_READ, sandbox)
            self._let_go(sandbox)

    def _order_nested(self, spec: SandboxSpec, base: _Sandbox, trees: Trees) -> _Sandbox:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        ours.setblocking(False)
        group = Group(())
        try:
            group = self._groups.create(spec.id, spec.limits, is_to_kill=False)
            order = NewNested(spec=dataclasses.replace(spec, env=()), targets=tuple(trees))
            socket.send_fds(base.status, [pack(order)], [theirs.fileno(), *trees.values()])
        except OSError:
            ours.close()
            self._discard(group)
            raise
        finally:
            theirs.close()
        return _Sandbox(
            id=spec.id,
            plan=dataclasses.replace(base.plan, nest=None, is_template=spec.is_template),
            pid=0,
            pidfd=-1,
            base=base.id,
            network=spec.network,
            status=ours,
            group=group,
            limits=spec.limits,
            scratch="",
        )

    def _tell_nested(self, sandbox: _Sandbox, descriptors: Sequence[int]) -> None:
        """It is there, and empty but for its first process."""
        sandbox.pidfd, *spaces = descriptors
        sandbox.is_started = True
        self._selector.register(sandbox.pidfd, selectors.EVENT_READ, sandbox)
        doors: tuple[int, ...] = ()
        try:
            doors = sandbox.group.open_doors()
            started = Started(
                id=sandbox.id, pid=0, isolation=Isolation.NAMESPACES, namespaces=len(spaces), has_door=False
            )
            self._tell(started, sandbox.pidfd, *spaces, *doors)
        except OSError:
            sandbox.is_unwanted = True
        finally:
            for one in (*spaces, *doors):
                os.close(one)
        if sandbox.is_unwanted:
            _end_process(sandbox.pidfd)

    def _start_shell(self, spec: ShellSpec) -> None:
        """Have the template's keeper make one, which then tells of it (`_hear_shell`)."""
        template = self._sandboxes.get(spec.template)
        with self._refusing("shell", spec.id):
            if template is None or not (template.plan.is_template and template.is_started) or self._is_used(spec.id):
                raise StartFailed(f"cannot start shell {spec.id}: {spec.template} is no template, or the id is in use")
            group = self._groups.create(spec.id, spec.limits, is_to_kill=False)
            disk = spec.limits.ephemeral_disk_mib
            try:
                order = NewShell(
                    id=spec.id,
                    network=template.network,
                    ephemeral_disk_mib=disk,
                    is_proxied=self._facts.is_proxied,
                )
                template.status.send(pack(order))
            except OSError:
                self._discard(group)
                raise
            self._shells[spec.id] = _Shell(id=spec.id, template=template.id, group=group, limits=spec.limits)
            self._oom.add(spec.id, group)

    def _equip(self, order: Equip, descriptors: Sequence[int]) -> None:
        """Show devices in a shell, and say so.  Its mounts are entered by a child: this process stays where it is."""
        trees: Trees = {}
        reason = ""
        try:
            execute(take_devices(order.devices), trees)
            child = os.fork()
            if child == 0:
                os._exit(_place_within(descriptors[0], trees))
            _, status = os.waitpid(child, 0)
            failed = os.waitstatus_to_exitcode(status)
            reason = (
                f"they cannot be mounted: {os.strerror(failed) if failed > 0 else 'it was killed'}" if failed else ""
            )
        except (OSError, StepFailed, StartFailed, IndexError) as error:
            reason = str(error)
        finally:
            for tree in trees.values():
                os.close(tree)
        if reason:
            reason = f"cannot show {', '.join(order.devices)} in {order.id}: {reason}"
        _send(self._agent, Equipped(id=order.id, reason=reason))

    def _is_used(self, name: str) -> bool:
        return name in self._sandboxes or name in self._shells

    def _adopt(self, sandbox: _Sandbox) -> None:
        """Give a fresh init its users and its group, and let it go on."""
        self._sandboxes[sandbox.id] = sandbox
        self._used_uids.add(sandbox.plan.outer_uid)
        self._oom.add(sandbox.id, sandbox.group)
        self._selector.register(sandbox.status, selectors.EVENT_READ, sandbox)
        self._selector.register(sandbox.pidfd, selectors.EVENT_READ, sandbox)
        self._let_go(sandbox)

    def _let_go(self, sandbox: _Sandbox) -> None:
        try:
            if sandbox.plan.isolation is Isolation.NAMESPACES and not sandbox.base:
                uids, gids = (INNER_ID, sandbox.plan.outer_uid), (INNER_ID, sandbox.plan.outer_gid)
                write_maps(sandbox.pid, uids, gids, deny_setgroups=not self._facts.is_privileged)
            doors = sandbox.group.open_doors()
            try:
                socket.send_fds(sandbox.status, [GO], doors)
            finally:
                for door in doors:
                    os.close(door)
        except OSError as error:
            where = f" ({error.filename})" if error.filename else ""
            sandbox.failure = f"cannot give it its users and groups: {error.strerror}{where}"
            self._kill(sandbox.id)

    def _settle(self, name: str) -> None:
        """Hold it to its share of the CPU; nothing, when it has ended."""
        one = self._shells.get(name) or self._sandboxes.get(name)
        if one is not None:
            with suppress(OSError):  # its groups are gone: it is about to end
                self._groups.limit_cpu(name, one.limits)

    def _kill(self, name: str) -> None:
        """End a sandbox or a shell; nothing, when it has ended."""
        shell, sandbox = self._shells.get(name), self._sandboxes.get(name)
        if shell is not None:
            shell.is_unwanted = True
            _end_process(shell.pidfd)
        elif sandbox is None:
            return
        elif sandbox.plan.isolation is Isolation.NAMESPACES:
            sandbox.is_unwanted = True
            if sandbox.pidfd < 0:  # it is yet to tell who it is, and ends by itself
                sandbox.status.shutdown(socket.SHUT_WR)
            _end_process(sandbox.pidfd)
        elif sandbox.group.folders:
            sandbox.group.kill()
            if not sandbox.is_started:  # its init may not have joined yet
                _end_process(sandbox.pidfd)
        else:
            sandbox.status.shutdown(socket.SHUT_WR)  # its init sees the end of us, and ends its descendants

    # -- an init speaks, or ends

    def _hear_init(self, sandbox: _Sandbox, *, has_ended: bool) -> None:
        if sandbox.id not in self._sandboxes:
            return  # both of its descriptors were ready, and the first told all
        self._read_status(sandbox)
        if has_ended:
            self._finish(sandbox)

    def _read_status(self, sandbox: _Sandbox) -> None:
        while True:
            try:
                data, descriptors, _, _ = socket.recv_fds(sandbox.status, PACKET_BYTES, _DESCRIPTORS)
            except BlockingIOError:
                return
            except ConnectionResetError:
                continue  # it left with something unread; what it said before is still to be had
            if not data:
                with suppress(KeyError):
                    self._selector.unregister(sandbox.status)  # it stays ready for ever; the pidfd tells the rest
                if sandbox.pidfd < 0:
                    self._finish(sandbox)  # it ended before it told who it is
                return
            message = FROM_INIT.unpack(data)
            if isinstance(message, (ShellMade, ShellFailed)):
                self._hear_shell(message, descriptors)
            elif isinstance(message, NestedMade):
                count = len(descriptors) - message.egress
                self._open_egress(sandbox.id, sandbox.network, descriptors[count:])
                self._tell_nested(sandbox, descriptors[:count])
            elif isinstance(message, InitStarted):
                worker, *egress = descriptors
                self._open_egress(sandbox.id, sandbox.network, egress)
                self._tell_started(sandbox, worker)
            elif isinstance(message, InitFailed):
                sandbox.failure = message.reason
            elif isinstance(message, InitEnded):
                sandbox.ended = message

    def _tell_started(self, sandbox: _Sandbox, worker: int) -> None:
        sandbox.is_started = True
        try:
            started = Started(id=sandbox.id, pid=_pid_of(worker), isolation=sandbox.plan.isolation)
            self._tell(started, worker)
            with suppress(OSError):
                sandbox.status.send(GO)
        finally:
            os.close(worker)

    def _tell(self, started: Started, *descriptors: int) -> None:
        tally = self._gate.tally(started.id)
        _send(self._agent, dataclasses.replace(started, has_tally=bool(tally)), *descriptors, *tally)

    # -- a keeper speaks, or a shell ends

    def _hear_shell(self, message: ShellMade | ShellFailed, descriptors: Sequence[int]) -> None:
        shell = self._shells[message.id]
        if isinstance(message, ShellFailed):
            self._drop_shell(shell, message.reason)
            return
        count = len(descriptors) - message.egress
        self._open_egress(shell.id, self._sandboxes[shell.template].network, descriptors[count:])
        shell.pidfd, *others = descriptors[:count]
        self._selector.register(shell.pidfd, selectors.EVENT_READ, shell)
        doors: tuple[int, ...] = ()
        try:
            doors = shell.group.open_doors()
            started = Started(id=shell.id, pid=0, isolation=Isolation.NAMESPACES, namespaces=len(others) - 1)
            self._tell(started, shell.pidfd, *others, *doors)
        except OSError:
            shell.is_unwanted = True  # its group is gone, or there are no descriptors left: of no use to anybody
        finally:
            for one in (*others, *doors):
                os.close(one)
        if shell.is_unwanted:
            _end_process(shell.pidfd)

    def _finish_shell(self, shell: _Shell) -> None:
        """Its pid 1 has ended, and everybody in it before."""
        self._selector.unregister(shell.pidfd)
        os.close(shell.pidfd)
        del self._shells[shell.id]
        how = _exit_of(shell.group, InitEnded(signal=signal.SIGKILL), self._gate.tally(shell.id))
        self._gate.close(shell.id)
        is_empty = self._discard(shell.group, shell.id)
        _send(self._agent, Ended(id=shell.id, exit=how, is_empty=is_empty))

    def _drop_shell(self, shell: _Shell, why: str) -> None:
        """It will never be there."""
        del self._shells[shell.id]
        self._discard(shell.group, shell.id)
        _send(self._agent, Refused(id=shell.id, reason=f"cannot start shell {shell.id}: {why}"))

    def _finish(self, sandbox: _Sandbox) -> None:
        """Init has ended, and in namespaces everybody with it: take in what is left, and say so."""
        if not sandbox.base:
            os.waitpid(sandbox.pid, 0)
        if sandbox.plan.isolation is Isolation.PROCESS:
            sandbox.group.kill()
            # An init that was killed itself left its orphans to this process, which adopts them for this purpose.
            init.kill_descendants(spared={self._gate.pid, *(other.pid for other in self._sandboxes.values())})
            shutil.rmtree(sandbox.scratch, ignore_errors=True)
        ended = sandbox.ended or InitEnded(signal=signal.SIGKILL)
        how = _exit_of(sandbox.group, ended, self._gate.tally(sandbox.id))
        with suppress(KeyError):
            self._selector.unregister(sandbox.status)
        if sandbox.pidfd >= 0:
            self._selector.unregister(sandbox.pidfd)
            os.close(sandbox.pidfd)
        sandbox.status.close()
        if not sandbox.base:
            self._used_uids.discard(sandbox.plan.outer_uid)
        del self._sandboxes[sandbox.id]
        self._gate.close(sandbox.id)
        for shell in [one for one in self._shells.values() if one.template == sandbox.id and one.pidfd < 0]:
            self._drop_shell(shell, "its template ended before it was made")
        is_empty = self._discard(sandbox.group, sandbox.id)
        if sandbox.is_started:
            _send(self._agent, Ended(id=sandbox.id, exit=how, is_empty=is_empty))
        else:
            reason = sandbox.failure or ("it ran out of memory" if how.out_of_memory else "it was killed")
            _send(self._agent, Refused(id=sandbox.id, reason=f"cannot start sandbox {sandbox.id}: {reason}"))

    def _discard(self, group: Group, name: str = "") -> bool:
        """Remove a group; false while it is not empty, as the kernel lets go of a dead process a moment after it was waited for.

        The agent is told of it by its name then.
        """
        self._oom.remove(name)
        if group.try_remove():
            return True
        self._emptying.append((name, group))
        self._rounds = 0
        return False


def main(descriptor: int, state: str, key: str) -> None:
    """Be the launcher: `descriptor` is its end of the agent's socket."""
    syscalls.set_parent_death_signal(signal.SIGTERM)
    syscalls.set_child_subreaper()
    _leave_real_time()
    agent = socket.socket(fileno=descriptor)
    agent.set_inheritable(False)
    # A signal ends the conversation as a dead agent would, and the loop does the rest.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.shutdown(socket.SHUT_RD))
    Path(state).mkdir(mode=0o700, parents=True, exist_ok=True)
    Launcher(agent, Path(state), gather(), key).run()


def _leave_real_time() -> None:
    """Give up a real-time policy: sandboxes would inherit it, could starve the machine, and join no group for the CPU.

    The kernel (with RT_GROUP_SCHED) refuses a process of such a policy in a group that has no share of real time: EINVAL.
    """
    if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK in (os.SCHED_FIFO, os.SCHED_RR):
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _clone(made: Plan) -> tuple[int, int]:
    if made.isolation is Isolation.NAMESPACES:
        return syscalls.clone3(made.namespaces)
    pid = os.fork()
    return (pid, os.pidfd_open(pid)) if pid else (0, -1)


def _pid_of(pidfd: int) -> int:
    """The number, here, of a process whose pidfd was made in another process namespace."""
    with open(f"/proc/self/fdinfo/{pidfd}", encoding="utf-8") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("Pid:"))


def _place_within(mounts: int, trees: Trees) -> int:
    """In a child that ends with it: enter a namespace of mounts, and attach what was taken; the error's number, or 0."""
    try:
        syscalls.setns(mounts)
        for target, tree in trees.items():
            syscalls.move_mount(tree, target)
    except OSError as error:
        return error.errno or 1
    return 0


def _end_process(pidfd: int) -> None:
    """Kill it, if it is known and there."""
    if pidfd >= 0:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _exit_of(group: Group, ended: InitEnded, tally: tuple[int, ...]) -> SandboxExit:
    out_of_memory = ended.code != 0 and group.oom_kills() > 0
    return SandboxExit(
        code=ended.code,
        signal=ended.signal,
        out_of_memory=out_of_memory,
        is_evicted=out_of_memory and not group.was_at_limit(),
        counted=Counted(cpu_us=group.cpu_us(), egress_bytes=read_tally(*tally or (-1,))),
        peak_memory_bytes=group.peak_memory_bytes() or ended.peak_memory_bytes,
    )


def _send(agent: socket.socket, message: object, *descriptors: int) -> None:
    with suppress(OSError):  # a dead agent hears nothing; the next read tells that it is dead
        socket.send_fds(agent, [pack(message)], list(descriptors))
