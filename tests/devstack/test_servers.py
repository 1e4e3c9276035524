"""The embedded servers: real ones, each on a folder and a port of its own."""

import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import psutil
import pytest
import redis
from minio import Minio
from minio.error import MinioException

from devstack import spawn
from devstack.errors import DevstackError
from devstack.ports import HOST, free_port, is_free, prefer
from devstack.servers import EmbeddedServer, PostgresServer, RedisServer, S3Server
from devstack.servers.redis import ONCE

Factory = Callable[[Path], EmbeddedServer]
FACTORIES: dict[str, Factory] = {
    "postgres": lambda folder: PostgresServer(folder, fast=True),
    "redis": lambda folder: RedisServer(folder, password=True),
    "s3": lambda folder: S3Server(folder, bucket="things"),
}
each_server = pytest.mark.parametrize("make", FACTORIES.values(), ids=FACTORIES)


def objects_of(server: S3Server) -> Minio:
    return Minio(
        f"{HOST}:{server.port}",
        access_key=server.access_key,
        secret_key=server.secret_key,
        secure=False,
        region="us-east-1",
    )


@each_server
def test_stop_leaves_no_process(make: Factory, tmp_path: Path) -> None:
    """A server answers when start returns; after stop neither it nor a child of it lives."""
    with make(tmp_path) as server:
        assert server.answers()
        family = [server.pid, *(child.pid for child in spawn.descendants(server.pid))]
    assert not server.running
    assert [pid for pid in family if psutil.pid_exists(pid)] == []
    assert is_free(server.port)


@each_server
def test_restart_keeps_the_address(make: Factory, tmp_path: Path) -> None:
    """Killed and started again, a server has the same URL, so that clients find it."""
    with make(tmp_path) as server:
        before = server.url
        server.kill()
        assert not server.running
        server.start()
        assert server.url == before
        assert server.answers()


@each_server
def test_start_and_stop_may_be_repeated(make: Factory, tmp_path: Path) -> None:
    """Starting a running server and stopping a stopped one change nothing."""
    server = make(tmp_path).start()
    pid = server.pid
    assert server.start().pid == pid
    server.stop()
    server.stop()


@each_server
def test_busy_port_is_named(make: Factory, tmp_path: Path) -> None:
    """A server told to use somebody else's port fails with a sentence instead of using theirs."""
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        server = make(tmp_path)
        server._port = other.getsockname()[1]
        server._may_move = False
        with pytest.raises(DevstackError, match=r"ended.*while starting"):
            server.start()
    assert not server.running


@each_server
def test_lost_port_race_is_retried(
    make: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When somebody takes the free port first, another is found."""
    with socket.socket() as other:
        other.bind((HOST, 0))
        other.listen()
        taken = other.getsockname()[1]
        found = iter([taken])
        monkeypatch.setattr("devstack.ports.free_port", lambda: next(found, None) or free_port())
        with make(tmp_path) as server:
            assert server.port != taken
            assert server.answers()


@each_server
def test_two_servers_on_one_folder(
    make: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second server on a folder in use is refused, since it would destroy the data."""
    monkeypatch.setattr(EmbeddedServer, "stop_seconds", 0.2)
    with make(tmp_path) as server:
        with pytest.raises(DevstackError, match=f"already runs .* {server.pid}"):
            make(tmp_path).start()
        assert server.answers()


@each_server
def test_server_dies_with_its_parent(make: Factory, tmp_path: Path) -> None:
    """When whoever started a server is killed, the server ends by itself."""
    kind = type(make(tmp_path)).__name__
    script = (
        "import sys, time; from pathlib import Path; import devstack.servers as servers;"
        f"server = servers.{kind}(Path(sys.argv[1])).start(); print(server.pid, flush=True);"
        "time.sleep(600)"
    )
    root = Path(__file__).parents[2]
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=root, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    assert spawn.wait_gone(pid, seconds=30)
    with make(tmp_path) as server:  # and its folder is fit for the next one
        assert server.answers()


def test_postgres_keeps_committed_rows(tmp_path: Path) -> None:
    """What was committed before a SIGKILL is there after the restart."""
    with PostgresServer(tmp_path, fast=True) as server:
        url = server.create_database("mine")
        assert url == server.create_database("mine")
        server.psql("CREATE TABLE t AS SELECT generate_series(1, 200) AS n", database="mine")
        server.kill()
        server.start()
        assert server.psql("SELECT count(*) FROM t", database="mine") == "200"
        assert server.psql("SHOW max_connections") == "200"


def test_postgres_asks_for_its_password(tmp_path: Path) -> None:
    """Another user of the machine does not get in, and errors say what PostgreSQL said."""
    with PostgresServer(tmp_path, fast=True) as server:
        wrong = re.sub(r":[^:@]+@", ":wrong@", server.psql_url)
        psql = server._binaries / "psql"
        done = subprocess.run(
            [psql, wrong, "-c", "SELECT 1"], capture_output=True, text=True, check=False
        )
        assert "password authentication failed" in done.stderr
        with pytest.raises(DevstackError, match='relation "nothing" does not exist'):
            server.psql("SELECT * FROM nothing")


def test_postgres_copies_and_drops_databases(tmp_path: Path) -> None:
    """A migrated database can be a template, and dropping cuts off its users."""
    with PostgresServer(tmp_path, fast=True) as server:
        server.psql("CREATE TABLE t (n int)", database="pipeline3d")
        server.create_database("copy", template="pipeline3d")
        assert server.psql("SELECT count(*) FROM t", database="copy") == "0"
        server.drop_database("copy")
        server.drop_database("copy")
        assert server.psql("SELECT 1 FROM pg_database WHERE datname = 'copy'") == ""


def test_redis_keeps_the_queue(tmp_path: Path) -> None:
    """Of 200 queued tasks 200 survive a SIGKILL."""
    with RedisServer(tmp_path, password=True) as server:
        with redis.Redis.from_url(server.url) as client:
            for number in range(200):
                client.rpush("queue", number)
        server.kill()
        server.start()
        with redis.Redis.from_url(server.url) as client:
            assert client.llen("queue") == 200
            assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_redis_asks_for_its_password(tmp_path: Path) -> None:
    """Without the password nothing is answered."""
    with (
        RedisServer(tmp_path, password=True) as server,
        redis.Redis(host=HOST, port=server.port, retry=ONCE) as client,
        pytest.raises(redis.AuthenticationError),
    ):
        client.ping()


def test_s3_keeps_objects(tmp_path: Path) -> None:
    """Objects survive a SIGKILL, and only the right key reads them."""
    with S3Server(tmp_path, bucket="things") as server:
        objects_of(server).put_object("things", "a/b.bin", BytesIO(b"x" * 1000), 1000)
        server.kill()
        server.start()
        assert objects_of(server).stat_object("things", "a/b.bin").size == 1000
        server.secret_key = "not this one"
        with pytest.raises(MinioException):
            objects_of(server).stat_object("things", "a/b.bin")


def test_failed_start_shows_the_log(tmp_path: Path) -> None:
    """A server that cannot start says why, in its own words."""
    server = RedisServer(tmp_path)
    tmp_path.joinpath("appendonly.aof").write_bytes(b"this is no append-only file\r\n" * 10)
    with pytest.raises(DevstackError, match="append only file"):
        server.start()
    assert not server.running


def test_missing_program_is_named(tmp_path: Path) -> None:
    """A program that is not there is named in the error."""
    server = RedisServer(tmp_path)
    server._executable = tmp_path / "no-such-server"
    with pytest.raises(DevstackError, match="no-such-server cannot be started"):
        server.start()


def test_prefer_moves_from_a_busy_port() -> None:
    """A port in use is told apart from a free one, and another is found."""
    wanted = free_port()
    assert prefer(wanted) == wanted
    with socket.socket() as other:
        other.bind((HOST, wanted))
        other.listen()
        assert not is_free(wanted)
        assert prefer(wanted) != wanted


def test_end_insists(tmp_path: Path) -> None:
    """A process that ignores SIGTERM, and its child, are killed after their time."""
    script = tmp_path / "stubborn.sh"
    script.write_text("trap '' TERM; sleep 600 & echo ready; while :; do sleep 1; done\n")
    log = tmp_path / "log"
    with log.open("wb") as output:
        process = spawn.spawn(["sh", script], output=output)
    while "ready" not in log.read_text():
        assert process.poll() is None
    children = [child.pid for child in spawn.descendants(process.pid)]
    assert children
    spawn.end(process, polite=signal.SIGTERM, seconds=0.2)
    assert process.returncode == -signal.SIGKILL
    assert all(spawn.wait_gone(pid, seconds=10) for pid in children)
