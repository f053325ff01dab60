#!/usr/bin/env python3
"""Makes the filters of system calls that sandboxes are under, and the table that says why.

    python tools/filters.py [--check]

Writes `src/relight/sandbox/filters.py` and the table in `docs/walls.md`; with `--check` it writes nothing, and ends with 1
when either is not what it would write.  `POLICY` is what there is to change.

The numbers of system calls, on each architecture, are libseccomp's.  The programs are not: what is forbidden becomes
ranges of numbers, and these a tree of the fewest comparisons (decision 23 has the figures).  Numbers that no kernel had
when this was written answer ENOSYS, which programs take for an older kernel.
"""

from __future__ import annotations

import argparse
import errno
import functools
import struct
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pyseccomp

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "src" / "relight" / "sandbox" / "filters.py"
DOCUMENT = ROOT / "docs" / "walls.md"
BEGIN, END = "<!-- begin: made by tools/filters.py -->\n", "<!-- end -->\n"

MACHINES = {"x86_64": (pyseccomp.Arch.X86_64, 0xC000003E), "aarch64": (pyseccomp.Arch.AARCH64, 0xC00000B7)}
"""libseccomp's name and the kernel's for each machine, by the name that `uname -m` has for it."""

NEWER = {"cachestat": 451}
"""Numbers that libseccomp 2.5 does not have; from 424 on they are the same everywhere."""

LAST = 466
"""The last system call that is let through by its number: removexattrat, of Linux 6.13."""

# -- what an answer is

ALLOW = 0x7FFF0000
KILL = 0x80000000
NOT_PERMITTED = 0x00050000 | errno.EPERM
NOT_THERE = 0x00050000 | errno.ENOSYS
NO_SUCH_FAMILY = 0x00050000 | errno.EAFNOSUPPORT
WORDS = {
    KILL: "ends the process (SIGSYS)",
    NOT_PERMITTED: "EPERM",
    NOT_THERE: "ENOSYS",
    NO_SUCH_FAMILY: "EAFNOSUPPORT",
}


@dataclass(frozen=True)
class Check:
    """An answer that depends on an argument's lower half: that of the first test that holds, or `otherwise`.

    A test is an operation (`==`, or `&`: a bit in common), a value, and an answer, which may be another check.
    """

    argument: int
    tests: tuple[tuple[str, int, Answer], ...]
    otherwise: Answer


Answer = int | Check

NAMESPACES = 0x7E020000  # CLONE_NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET
NEW_CGROUP, NEW_TIME = 0x02000000, 0x80
UNIX, INET, NETLINK, INET6 = 1, 2, 16, 10


def _only(argument: int, *values: int, otherwise: Answer) -> Check:
    return Check(argument, tuple(("==", value, ALLOW) for value in values), otherwise)


def _none_of(argument: int, *values: int) -> Check:
    return Check(argument, tuple(("==", value, NOT_PERMITTED) for value in values), ALLOW)


def _no_bit(argument: int, mask: int) -> Check:
    return Check(argument, (("&", mask, NOT_PERMITTED),), ALLOW)


FAMILIES = Check(
    0,
    (
        *(("==", family, ALLOW) for family in (UNIX, INET, INET6)),
        ("==", NETLINK, _only(2, 0, otherwise=NO_SUCH_FAMILY)),
    ),
    NO_SUCH_FAMILY,
)


@dataclass(frozen=True)
class Group:
    """System calls that are treated alike, and why."""

    title: str
    calls: tuple[str, ...]
    answer: Answer
    why: str
    when: str = ""
    """For people: on what an answer depends."""


@dataclass(frozen=True)
class Filter:
    """One program."""

    name: str
    says: str
    groups: tuple[Group, ...] = field(repr=False)
    asks_machine: bool = True


POLICY = (
    Filter(
        name="SANDBOX",
        says="Nothing in a sandbox needs these, not even what only forks: it is under this filter from its first line on.",
        groups=(
            Group(
                "another kernel, or more of it",
                ("kexec_load", "kexec_file_load", "init_module", "finit_module", "delete_module", "reboot"),
                KILL,
                "No program calls them by mistake, and none goes on sensibly afterwards.",
            ),
            Group(
                "programs that run in the kernel",
                ("bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register"),
                NOT_PERMITTED,
                "Most holes of the last years were in these. A fault that waits for its reader (userfaultfd) makes races in the kernel "
                "easy to win, and io_uring does what other calls do without their being filtered. libuv, tokio and "
                "Java use others where they are refused.",
            ),
            Group(
                "keys",
                ("add_key", "request_key", "keyctl"),
                NOT_PERMITTED,
                "Keyrings belong to a user id, not to a namespace: two sandboxes of one user would share one.",
            ),
            Group(
                "other processes' memory",
                ("ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "kcmp"),
                NOT_PERMITTED,
                "Debuggers of C and samplers (gdb, strace, py-spy) do not work inside; `pdb` and `faulthandler` do. "
                "pidfd_getfd is let through, as torch hands GPU memory to its own processes by it, within one sandbox.",
            ),
            Group(
                "mounts",
                (
                    *("mount", "umount2", "pivot_root", "chroot", "open_tree", "move_mount", "mount_setattr"),
                    *("fsopen", "fsconfig", "fsmount", "fspick", "swapon", "swapoff"),
                    *("acct", "quotactl", "quotactl_fd"),
                ),
                NOT_PERMITTED,
                "A sandbox's mounts are made before its code runs. A template, which holds CAP_SYS_ADMIN in a user namespace of its own, "
                "would reach the file systems' code by them.",
            ),
            Group(
                "new namespaces",
                ("clone",),
                _no_bit(0, NAMESPACES),
                "In a new user namespace everybody is root, and reaches code that is written for root. Threads and processes pass.",
                when="a flag for a namespace",
            ),
            Group(
                "new namespaces, of a process that lives",
                ("unshare",),
                _no_bit(0, NAMESPACES & ~NEW_CGROUP | NEW_TIME),
                "A fork that enters its shell shows itself its own control group as the root.",
                when="a flag for a namespace, but that of control groups",
            ),
            Group(
                "clone3",
                ("clone3",),
                NOT_THERE,
                "Its flags are in memory, where no filter can look. The C library then uses clone.",
            ),
            Group(
                "files by number",
                ("open_by_handle_at", "name_to_handle_at", "lookup_dcookie"),
                NOT_PERMITTED,
                "A file's handle goes past every folder that is closed, and past the root.",
            ),
            Group(
                "the machine's clock, name and log",
                (
                    *("settimeofday", "clock_settime", "adjtimex", "clock_adjtime"),
                    *("sethostname", "setdomainname", "syslog", "vhangup"),
                ),
                NOT_PERMITTED,
                "They are the machine's, and the kernel's log has the addresses that attacks need.",
            ),
            Group(
                "ports and descriptor tables of the processor",
                ("iopl", "ioperm", "modify_ldt"),
                NOT_PERMITTED,
                "Hardware, and code of 16 bits: seldom used, so holes in them stay.",
            ),
            Group(
                "who watches files, and what is cached",
                ("fanotify_init", "fanotify_mark", "cachestat", "memfd_secret"),
                NOT_PERMITTED,
                "To see what others read is a way to hear from them. inotify, on files that are seen, passes. "
                "Secret memory keeps the machine from sleeping and cannot be moved.",
            ),
            Group(
                "pages that move",
                ("move_pages", "migrate_pages", "vmsplice"),
                NOT_PERMITTED,
                "Which node a page is on tells of neighbours; vmsplice lends pages to a pipe while they change. "
                "Where one's own memory goes (mbind, set_mempolicy) passes: libraries for numbers ask for it.",
            ),
            Group(
                "what nothing uses any more",
                ("uselib", "ustat", "sysfs", "_sysctl", "nfsservctl", "remap_file_pages"),
                NOT_PERMITTED,
                "Old code that nobody looks at.",
            ),
            Group(
                "how a program is executed",
                ("personality",),
                _only(0, 0, 0x0040000, 0xFFFFFFFF, otherwise=NOT_PERMITTED),
                "Others make memory executable that was not meant to be. Plain, without random addresses (sanitizers), and asking pass.",
                when="a personality but Linux's own",
            ),
            Group(
                "typing for somebody else",
                ("ioctl",),
                _none_of(1, 0x5412, 0x541C),
                "TIOCSTI and TIOCLINUX put words into a terminal that others read from.",
                when="TIOCSTI or TIOCLINUX",
            ),
            Group(
                "families of sockets",
                ("socket", "socketpair"),
                FAMILIES,
                "Unix, IPv4, IPv6 and the netlink of routes, which lists interfaces, are what programs speak. Each other family is a module of "
                "the kernel that would be loaded for the asking; packet sockets see the wire, vsock goes to the hypervisor.",
                when="another family",
            ),
        ),
    ),
    Filter(
        name="WORKER",
        says="What only a process that forks workers needs, and no worker: added by each as it has entered its shell.",
        groups=(
            Group("other namespaces", ("setns",), NOT_PERMITTED, "It is where it is to be."),
            Group("new namespaces", ("unshare",), _no_bit(0, NAMESPACES | NEW_TIME), "As above.", when="a namespace"),
        ),
        asks_machine=False,  # another machine's calls have ended the process already
    ),
)

# -- programs

LOAD, EQUAL, AT_LEAST, COMMON_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
NUMBER, MACHINE = 0, 4  # where struct seccomp_data has them; arguments of 8 bytes follow from 16 on
INSTRUCTION = struct.Struct("<HBBI")


def numbers(filter_: Filter, machine: str) -> dict[int, Answer]:
    """The answer to each system call that is not simply allowed."""
    found: dict[int, Answer] = {}
    for name, answer in ((name, group.answer) for group in filter_.groups for name in group.calls):
        number = NEWER.get(name) or pyseccomp.resolve_syscall(MACHINES[machine][0], name)
        assert number not in found, f"{name} stands in the policy twice"
        if number >= 0:  # others are not there on this machine
            found[number] = answer
    return found


@dataclass(frozen=True)
class Branch:
    """Compare the number, and go on at one of two places: other branches, or answers."""

    operation: int
    number: int
    yes: Branch | Answer
    no: Branch | Answer


def tree(answers: dict[int, Answer], above: Answer) -> Branch | Answer:
    """The fewest comparisons that tell what the answer is; `above`: to numbers beyond `LAST`."""
    runs: list[tuple[int, Answer]] = []
    for number in range(LAST + 1):
        answer = answers.get(number, ALLOW)
        if not runs or runs[-1][1] != answer:
            runs.append((number, answer))
    if above != runs[-1][1]:
        runs.append((LAST + 1, above))

    @functools.cache
    def best(first: int, last: int) -> tuple[int, int, Branch | Answer]:
        """(comparisons, depth, tree) for the runs from `first` up to `last`."""
        number, answer = runs[first]
        if first == last:
            return 0, 0, answer
        is_one_off = last == first + 2 and answer == runs[last][1] and runs[last][0] - runs[first + 1][0] == 1
        if is_one_off:
            number, other = runs[first + 1]
            return 1, 1, Branch(EQUAL, number, other, answer)
        found = []
        for split in range(first + 1, last + 1):
            below, beyond = best(first, split - 1), best(split, last)
            size, depth = 1 + below[0] + beyond[0], 1 + max(below[1], beyond[1])
            found.append((size, depth, Branch(AT_LEAST, runs[split][0], beyond[2], below[2])))
        return min(found, key=lambda one: one[:2])

    return best(0, len(runs) - 1)[2]


class Assembler:
    """Lays instructions down in order; a jump leads forward, to a branch that follows or to an answer at the end."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, Answer | None, Answer | None]] = []
        self._jumps: dict[int, tuple[Branch | Answer, Branch | Answer]] = {}
        self._places: dict[Branch | Answer, int] = {}

    def load(self, offset: int) -> None:
        self._code.append((LOAD, offset, None, None))

    def unless(self, value: int, answer: Answer) -> None:
        """Go on where what was loaded is this value."""
        self._jumps[len(self._code)] = (-1, answer)
        self._code.append((EQUAL, value, None, None))

    def branch(self, branch: Branch | Answer) -> None:
        """A tree, depth first."""
        if not isinstance(branch, Branch):
            return
        self._places[branch] = len(self._code)
        self._jumps[len(self._code)] = (branch.yes, branch.no)
        self._code.append((branch.operation, branch.number, None, None))
        self.branch(branch.no)
        self.branch(branch.yes)

    def answers(self) -> None:
        """Every answer that something leads to, checks first."""
        while missing := [one for one in self._wanted() if isinstance(one, Check)]:
            self._check(missing[0])
        for answer in self._wanted():
            self._places[answer] = len(self._code)
            self._code.append((RETURN, int(answer), None, None))  # type: ignore[arg-type]

    def _wanted(self) -> list[Branch | Answer]:
        ends = [end for pair in self._jumps.values() for end in pair if end != -1]
        return [end for end in dict.fromkeys(ends) if end not in self._places]

    def _check(self, check: Check) -> None:
        self._places[check] = len(self._code)
        self.load(16 + 8 * check.argument)
        for at, (operation, value, answer) in enumerate(check.tests):
            is_last = at == len(check.tests) - 1
            self._jumps[len(self._code)] = (answer, check.otherwise if is_last else -1)
            self._code.append((EQUAL if operation == "==" else COMMON_BIT, value, None, None))

    def program(self) -> list[tuple[int, int, int, int]]:
        """(code, jump if so, jump if not, value), as the kernel has them."""
        made = []
        for at, (code, value, _, _) in enumerate(self._code):
            yes, no = self._jumps.get(at, (-1, -1))
            made.append((code, self._distance(at, yes), self._distance(at, no), value))
        return made

    def _distance(self, at: int, end: Branch | Answer) -> int:
        distance = 0 if end == -1 else self._places[end] - at - 1
        assert 0 <= distance < 256, "a jump is a byte, forward"
        return distance


def assemble(filter_: Filter, machine: str) -> list[tuple[int, int, int, int]]:
    """The program of a filter on a machine."""
    made = Assembler()
    if filter_.asks_machine:
        made.load(MACHINE)
        made.unless(MACHINES[machine][1], KILL)
    made.load(NUMBER)
    made.branch(tree(numbers(filter_, machine), NOT_THERE if filter_.asks_machine else ALLOW))
    made.answers()
    return made.program()


# -- what is written


def module() -> str:
    """The text of the module."""
    lines = [
        '"""What the kernel refuses to sandboxes, as programs for it (classic BPF), by the machine\'s name.',
        "",
        "Made by `python tools/filters.py` from the policy there; `docs/walls.md` says what is refused, and why.",
        '"""',
        "",
        "from __future__ import annotations",
    ]
    for filter_ in POLICY:
        lines += ["", f"{filter_.name} = {{"]
        for machine in MACHINES:
            program = assemble(filter_, machine)
            text = b"".join(INSTRUCTION.pack(*one) for one in program).hex()
            lines += [f'    "{machine}": bytes.fromhex(  # {len(program)} instructions']
            lines += [f'        "{text[at : at + 96]}"' for at in range(0, len(text), 96)]
            lines += ["    ),"]
        lines += ["}", f'"""{filter_.says}"""']
    return "\n".join(lines) + "\n"


def table() -> str:
    """The part of the document."""
    return BEGIN + "".join(line + "\n" for filter_ in POLICY for line in _rows(filter_)) + END


def _rows(filter_: Filter) -> Iterator[str]:
    yield from (
        "",
        f"**{filter_.name}.** {filter_.says}",
        "",
        "| what | system calls | answer | why |",
        "|---|---|---|---|",
    )
    for group in filter_.groups:
        answer = (
            WORDS[group.answer] if isinstance(group.answer, int) else f"{WORDS[_refusal(group.answer)]} to {group.when}"
        )
        yield f"| {group.title} | {', '.join(f'`{call}`' for call in group.calls)} | {answer} | {group.why} |"
    yield ""


def _refusal(check: Check) -> int:
    answers = (check.otherwise, *(answer for _, _, answer in check.tests))
    return next(answer for answer in answers if isinstance(answer, int) and answer != ALLOW)


def main() -> int:
    """Write both, or look whether they are so."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; end with 1 where something differs")
    is_check = parser.parse_args().check
    document = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = document.partition(BEGIN)
    wanted = {MODULE: module(), DOCUMENT: before + table() + rest.partition(END)[2]}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)} {'is not what the policy makes' if is_check else 'written'}")
        if not is_check:
            path.write_text(wanted[path], encoding="utf-8")
    return int(is_check and bool(stale))


if __name__ == "__main__":
    sys.exit(main())
