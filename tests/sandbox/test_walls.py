"""What a sandbox in namespaces can see and do: what it was given, and no more.  Attacks run inside, as user code would."""

import os
import socket
from pathlib import Path

import pytest

from relight.protocol.errors import StartFailed
from relight.sandbox.spec import Mount

pytestmark = pytest.mark.root

HAS_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt").exists()


async def test_ps_shows_its_own_tree_only(bench):
    output, _ = await bench.shell("sleep 5 & ps -e -o pid=,comm=; kill $!")

    lines = [line.split() for line in output.splitlines()]
    assert [pid for pid, _ in lines] == ["1", "2", "3", "4"]
    assert (lines[1][1], lines[3][1]) == ("sh", "ps")


async def test_the_user_is_nobody_outside_and_each_sandbox_another(bench):
    first = await bench.start("/bin/sleep", "600")
    second = await bench.start("/bin/sleep", "600")

    uids = [os.stat(f"/proc/{running.sandbox.pid}").st_uid for running in (first, second)]

    assert 0 not in uids
    assert len({*uids}) == 2
    assert all(uid >= 1_900_000_000 for uid in uids)
    assert (await bench.shell("id -u; id -g; id -G"))[0].split() == ["1000", "1000", "1000"]


@pytest.mark.parametrize(
    "path", ["/root", "/etc/shadow", "/var/lib", "/sys", str(Path(__file__).parent), "/boot", "/dev/kmsg"]
)
async def test_the_host_is_not_there(bench, path):
    output, ended = await bench.shell(f"ls -a {path} 2>&1")

    assert ended.code != 0
    assert "No such file" in output


async def test_secrets_of_the_host_are_not_found_anywhere(bench, tmp_path):
    secret = tmp_path / "data" / "token"
    secret.parent.mkdir()
    secret.write_text("s3cret")

    output, _ = await bench.shell(
        f"cat {secret}; cat /proc/1/root{secret}; cat /proc/1/cwd{secret}; ls /proc/1/root/; ls /proc/1/fd; cat /proc/1/environ"
    )

    assert "s3cret" not in output
    assert output.count("Permission denied") + output.count("No such file") == 6, output


async def test_one_sandbox_does_not_see_the_files_of_another(bench):
    writer = await bench.start("/bin/sh", "-c", "echo mine > /tmp/mine; echo mine > ~/mine; echo done; sleep 600")
    assert await writer.line() == "done"

    output, _ = await bench.shell("ls -A /tmp /home/worker /dev/shm; find / -xdev -name mine 2>/dev/null")

    assert "mine" not in output


async def test_the_system_and_the_root_are_read_only_and_tmp_and_home_are_not(bench):
    program = "for d in / /usr /usr/bin /etc /lib; do touch $d/x 2>/dev/null && echo wrote $d; done; "
    program += "for d in /tmp /var/tmp $HOME /dev/shm; do touch $d/x && echo wrote $d; done"

    output, _ = await bench.shell(program)

    assert output.splitlines() == [f"wrote {folder}" for folder in ("/tmp", "/var/tmp", "/home/worker", "/dev/shm")]


async def test_no_capability_is_left_and_none_can_be_got(bench):
    attempts = ("unshare -U true", "mount -t tmpfs none /tmp", "umount /usr", "mount -o remount,rw /", "hostname evil")
    tries = "; ".join(f"{attempt} 2>/dev/null && echo got" for attempt in attempts)

    output, _ = await bench.shell(f"grep -E '^(Cap|NoNewPrivs)' /proc/self/status; {tries}")

    assert [line.split() for line in output.splitlines()] == [
        *([f"Cap{name}:", "0000000000000000"] for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")),
        ["NoNewPrivs:", "1"],
    ]


async def test_the_first_process_cannot_be_looked_into_or_killed(bench):
    program = (  # a signal to it is refused by landlock where there is one, and else means nothing to it
        "import os, ctypes, contextlib\n"
        "for n in (9, 15, 1, 11):\n"
        "    with contextlib.suppress(PermissionError): os.kill(1, n)\n"
        "print(ctypes.CDLL(None).ptrace(16, 1, 0, 0))\n"
        "try: open('/proc/1/mem', 'r+b')\n"
        "except PermissionError: print('closed')\n"
        "import signal; signal.sigtimedwait([], 0.2); print('alive')"
    )
    output, ended = await bench.python("import signal; signal.signal(15, signal.SIG_IGN)\n" + program)

    assert output.split() == ["-1", "closed", "alive"]
    assert ended.code == 0


async def test_nothing_but_the_given_descriptors_is_open(bench):
    running = await bench.start(
        "/usr/bin/python3", "-c", "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"
    )

    assert await running.line() == "[0, 1, 2, 3, 4]"  # 4 is the listing's own


async def test_the_channel_is_descriptor_three(any_bench):
    program = "import socket; s = socket.socket(fileno=3); s.sendall(s.recv(9).upper())"
    running = await any_bench.start("/usr/bin/python3", "-c", program)
    running.channel.sendall(b"hello")

    await running.sandbox.wait()

    assert running.channel.recv(9) == b"HELLO"


async def test_without_a_network_there_is_a_loopback_of_its_own(bench):
    with socket.create_server(("127.0.0.1", 0)) as host:
        port = host.getsockname()[1]
        program = (
            "import socket\n"
            "print(socket.if_nameindex())\n"
            f"print(socket.socket().connect_ex(('127.0.0.1', {port})) != 0)\n"
            f"s = socket.create_server(('127.0.0.1', {port}))\n"
            f"socket.create_connection(('localhost', {port})).close()\n"
            "print(socket.socket().connect_ex(('192.0.2.1', 80)) != 0)"
        )
        output, ended = await bench.python(program)

    assert ended.code == 0
    assert output.splitlines() == ["[(1, 'lo')]", "True", "True"]


async def test_the_host_network_is_shared_when_asked_for(bench):
    with socket.create_server(("127.0.0.1", 0)) as host:
        port = host.getsockname()[1]
        program = f"import socket; print(socket.socket().connect_ex(('127.0.0.1', {port})))"
        output, _ = await bench.python(program, network="host")

    assert output.strip() == "0"


async def test_mounts_are_read_only_at_their_place_unless_writable(bench, tmp_path):
    for name in ("code", "data"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    mounts = (
        Mount(source=str(tmp_path / "code"), target="/srv/app"),
        Mount(source=str(tmp_path / "data"), target="/srv/data", writable=True),
        Mount(source=str(tmp_path / "code" / "file"), target="/srv/one"),
    )

    output, _ = await bench.shell(
        "cat file /srv/one; touch x 2>/dev/null || echo no; echo new > /srv/data/new; cat /srv/data/new",
        mounts=mounts,
        working_folder="/srv/app",
    )

    assert output == "codecode" + "no\nnew\n"
    assert (tmp_path / "data" / "new").stat().st_uid == os.getuid()


async def test_a_folder_only_root_can_read_can_be_shown(bench, tmp_path):
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "file").write_text("seen")
    (private / "file").chmod(0o600)

    mount = Mount(source=str(private), target=str(private))
    output, _ = await bench.shell(f"cat {private}/file; touch {private}/x 2>/dev/null || echo no", mounts=(mount,))

    assert output == "seenno\n"
    assert private.stat().st_uid == os.getuid()


async def test_a_folder_of_another_user_that_root_may_show_is_shown(bench, tmp_path):
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    (private / "file").write_text("theirs")
    for path in (private / "file", private):
        os.chown(path, 1234, 1234)

    output, _ = await bench.shell("cat /x/file", mounts=(Mount(source=str(private), target="/x"),))

    assert output == "theirs"


async def test_a_link_in_a_mounted_folder_leads_no_mount_to_the_host(bench, tmp_path):
    code, victim = tmp_path / "code", tmp_path / "victim"
    for folder in (code, victim):
        folder.mkdir()
    (code / "out").symlink_to(victim)
    mounts = (Mount(source=str(code), target="/app"), Mount(source=str(code), target="/app/out/deep"))

    with pytest.raises(StartFailed):
        await bench.start("/bin/true", mounts=mounts)

    assert list(victim.iterdir()) == []


@pytest.mark.parametrize("target", ["/", "/proc", "/etc", "/dev", "relative", "/a/../etc"])
async def test_some_places_cannot_be_mounted_on(bench, tmp_path, target):
    with pytest.raises(StartFailed, match="nothing can be mounted at"):
        await bench.start("/bin/true", mounts=(Mount(source=str(tmp_path), target=target),))


async def test_a_source_that_is_not_there_is_named(bench):
    with pytest.raises(StartFailed, match="/no/such/source, to be mounted, is not there"):
        await bench.start("/bin/true", mounts=(Mount(source="/no/such/source", target="/x"),))


async def test_names_and_certificates_work_inside(bench):
    program = (
        "import os, pwd, socket, ssl, tempfile, multiprocessing\n"
        "print(pwd.getpwuid(os.getuid()).pw_name, socket.gethostname(), os.path.expanduser('~'), tempfile.gettempdir())\n"
        "print(bool(ssl.create_default_context().get_ca_certs()), os.openpty() and 'pty', multiprocessing.Lock() and 'shm')"
    )
    output, _ = await bench.run("/usr/bin/python3", "-c", program, hostname="here")

    assert output.splitlines() == ["worker here /home/worker /tmp", f"{HAS_CERTIFICATES} pty shm"]
