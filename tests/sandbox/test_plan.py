"""The plan: pure, printable, and right for root, for anyone else, and for a machine without namespaces."""

import dataclasses

import pytest

from relight.protocol.codec import from_plain, pack, to_plain, unpack
from relight.protocol.errors import StartFailed
from relight.sandbox.cgroups import GroupLayout
from relight.sandbox.facts import Facts, SourceFact, SystemPath
from relight.sandbox.messages import Start
from relight.sandbox.plan import Ground, Plan, describe, plan
from relight.sandbox.spec import Isolation, Limits, Mount, SandboxSpec, path_inside

FACTS = Facts(
    kernel="6.1.0",
    uid=0,
    gid=0,
    is_privileged=True,
    uid_extents=((0, 4294967295),),
    groups=GroupLayout(),
    system=(SystemPath(path="/usr"), SystemPath(path="/bin", leads_to="usr/bin")),
    etc=("ld.so.cache",),
    devices=("null",),
)
SPEC = SandboxSpec(
    id="worker-1",
    argv=("/usr/bin/python3", "-c", "pass"),
    env=(("A", "1"), ("HOME", "/elsewhere")),
    working_folder="/app",
    mounts=(Mount(source="/data/code", target="/app"), Mount(source="/data/out", target="/app/out", writable=True)),
)


def made(spec: SandboxSpec = SPEC, facts: Facts = FACTS, **source: object) -> Plan:
    sources = tuple(
        SourceFact(**{"path": mount.source, "is_there": True, "uid": 7, "gid": 8, **source}) for mount in spec.mounts
    )
    return plan(spec, Ground(facts=facts, sources=sources, outer_uid=1_900_000_001, scratch="/state/scratch/worker-1"))


def lines(made: Plan) -> list[str]:
    return describe(made).splitlines()


def test_the_same_words_make_the_same_plan_and_nothing_happens():
    assert made() == made()
    assert describe(made()) == describe(made())


def test_a_plan_reads_as_what_is_done_in_order():
    said = lines(made())

    assert said[0] == "isolation: namespaces, outer uid 1900000001"
    assert said[-1] == "run: /usr/bin/python3 -c pass"
    steps = [
        "outside: take /usr for /usr, read-only",
        "outside: take /data/code for /app, read-only",
        "outside: take /data/out for /app/out, read-write, owner 7 shown as 1900000001",
        "inside: become uid 1000, gid 1000, no other groups",
        "inside: die with the parent",
        "inside: make /tmp the root and detach the host's",
        "inside: place /usr",
        "inside: link /bin to usr/bin",
        "inside: place /app",
        "inside: place /app/out",
        "inside: make the root read-only",
        "inside: set no_new_privs and drop all capabilities",
        "worker: start a session",
        "worker: limit RLIMIT_CORE to 0",
        "worker: change to /app",
    ]
    assert [said.index(step) for step in steps] == sorted(said.index(step) for step in steps)


def test_privileges_are_the_last_thing_to_go_inside():
    assert made().inside[-1].describe() == "set no_new_privs and drop all capabilities"


def test_mounts_are_placed_outermost_first_whatever_their_order():
    spec = dataclasses.replace(SPEC, mounts=SPEC.mounts[::-1])

    said = lines(made(spec))

    assert said.index("inside: place /app") < said.index("inside: place /app/out")


def test_devices_are_shown_where_they_are_and_a_template_has_places_for_them_that_nobody_can_open():
    worker = lines(made(dataclasses.replace(SPEC, devices=("/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap66"))))
    template = made(dataclasses.replace(SPEC, is_template=True, device_places=("/dev/nvidia0",)))

    assert "outside: take /dev/nvidia0 for /dev/nvidia0, read-write" in worker
    assert worker.index("inside: place /dev/nvidia0") < worker.index("inside: make the root read-only")
    assert "inside: place /dev/nvidia-caps/nvidia-cap66" in worker
    assert "inside: make a place for /dev/nvidia0" in lines(template)
    assert not any("take /dev/nvidia" in line for line in lines(template))


@pytest.mark.parametrize(
    "path", ["/dev/sda", "/dev/mem", "/dev/nvidia0/../sda", "dev/nvidia0", "/dev/nvidia-caps/../sda"]
)
@pytest.mark.parametrize("name", ["devices", "device_places"])
def test_no_device_is_shown_but_those_of_gpus(name: str, path: str):
    with pytest.raises(StartFailed, match="it is not the path of a device for sandboxes"):
        made(dataclasses.replace(SPEC, **{name: (path,)}))


def test_what_the_worker_cannot_read_is_shown_as_its_own():
    assert "outside: take /data/code for /app, read-only, owner 7 shown as 1900000001" in lines(made(is_readable=False))


def test_anyone_but_root_takes_mounts_inside_and_keeps_their_uid():
    facts = dataclasses.replace(FACTS, is_privileged=False, uid=1001, gid=1002)

    unprivileged = made(facts=facts)

    assert unprivileged.outside == ()
    assert unprivileged.outer_gid == 1002
    said = lines(unprivileged)
    assert said[1] == "inside: take /usr for /usr, read-only"
    assert "inside: become uid 1000, gid 1000" in said
    assert not any("shown as" in line for line in said)


def test_a_loopback_is_raised_without_network_and_none_with_the_hosts():
    on_host = made(dataclasses.replace(SPEC, network="host"))

    assert "inside: bring the loopback interface up" in lines(made())
    assert "inside: bring the loopback interface up" not in lines(on_host)
    assert "outside: take /etc/resolv.conf for /etc/resolv.conf, read-only" in lines(on_host)
    assert bin(made().namespaces).count("1") == bin(on_host.namespaces).count("1") + 1


def test_the_users_environment_wins_over_the_defaults():
    env = dict(made().env)

    assert (env["A"], env["HOME"], env["TMPDIR"], env["USER"]) == ("1", "/elsewhere", "/tmp", "worker")


def test_denied_namespaces_make_a_plain_process_with_a_folder_of_its_own():
    facts = dataclasses.replace(FACTS, denial="cannot unshare: Operation not permitted")
    spec = dataclasses.replace(SPEC, env=())

    plain = made(spec, facts)

    assert (plain.isolation, plain.namespaces, plain.outside) == (Isolation.PROCESS, 0, ())
    assert (dict(plain.env)["HOME"], dict(plain.env)["TMPDIR"]) == ("/state/scratch/worker-1",) * 2
    assert "inside: adopt orphaned descendants" in lines(plain)


def test_namespaces_that_are_demanded_and_denied_are_an_error():
    facts = dataclasses.replace(FACTS, denial="cannot unshare: Operation not permitted")

    with pytest.raises(StartFailed, match="asks for namespaces, but this machine denies them"):
        made(dataclasses.replace(SPEC, isolation=Isolation.NAMESPACES), facts)


def test_a_source_this_user_cannot_read_is_named():
    facts = dataclasses.replace(FACTS, is_privileged=False, uid=1001)

    with pytest.raises(StartFailed, match="/data/code, to be mounted, cannot be read by uid 1001"):
        made(facts=facts, is_readable=False)


def test_the_limits_are_in_the_plan():
    spec = dataclasses.replace(SPEC, limits=Limits(open_files=100, ephemeral_disk_mib=7))

    said = "\n".join(lines(made(spec)))

    assert "limit RLIMIT_NOFILE to 100" in said
    assert "size=7m" in said


def test_a_spec_travels_as_json_and_comes_back_equal():
    spec = dataclasses.replace(SPEC, isolation=Isolation.PROCESS, limits=Limits(cpu=1.5, memory_mib=64))

    assert from_plain(to_plain(spec), SandboxSpec) == spec
    assert unpack(pack(Start(spec=spec)), Start).spec == spec


@pytest.mark.parametrize(
    ("path", "found"),
    [("/app", "/data/code"), ("/app/a.py", "/data/code/a.py"), ("/app/out/x", "/data/out/x"), ("/apple", "/apple")],
)
def test_a_plain_process_finds_a_mount_at_its_source(path, found):
    assert path_inside(path, SPEC.mounts, Isolation.PROCESS) == found
    assert path_inside(path, SPEC.mounts, Isolation.NAMESPACES) == path
