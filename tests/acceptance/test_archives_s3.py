"""Archives in an S3-compatible store: a server in this process, spoken to over HTTP."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from interlock import archives
from interlock.archives import ArchiveDamaged, Key, KeyRing, LockMode, ObjectLock, Section, Target, open_target, s3
from interlock.archives.s3 import S3
from interlock.errors import ConfigError, DependencyError
from tests.unit.test_archives import FACTS, KEY, NAME, RING, SEALED, SECTIONS, TargetContract, faults, read, taken

#: The least that a part may have.
PART = 5 << 20


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Where the store listens."""
    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    host, port = store.get_host_and_port()
    yield f"http://{host}:{port}"
    store.stop()


@pytest.fixture(autouse=True)
def _surroundings(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an operator sets, and nothing of whoever runs the tests."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-a-secret")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server)


@pytest.fixture
def client() -> Any:
    """The store as its operator sees it."""
    return boto3.client("s3")


@pytest.fixture
def bucket(client: Any, request: pytest.FixtureRequest) -> str:
    """A fresh bucket without object lock."""
    return made(client, request, locks=False)


@pytest.fixture
def lockable(client: Any, request: pytest.FixtureRequest) -> str:
    """A fresh bucket with object lock."""
    return made(client, request, locks=True)


def made(client: Any, request: pytest.FixtureRequest, *, locks: bool) -> str:
    name = f"archives-{abs(hash((request.node.nodeid, locks))):x}"
    place = {"LocationConstraint": "eu-central-1"}
    client.create_bucket(Bucket=name, CreateBucketConfiguration=place, ObjectLockEnabledForBucket=locks)
    return name


def large_sections() -> list[Section]:
    """More than two parts of rows that cannot be compressed."""
    return [Section("t", ("number", "body"), [(number, os.urandom(500_000)) for number in range(25)])]


def uploads(client: Any, bucket: str) -> list[str]:
    """Keys of what is half uploaded."""
    return [upload["Key"] for upload in client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])]


class TestS3(TargetContract):
    @pytest.fixture
    def target(self, bucket: str) -> Target:
        """As an operator names it."""
        return open_target(f"s3://{bucket}/some/prefix/", now=now)


class TestS3WithoutPrefix(TargetContract):
    @pytest.fixture
    def target(self, bucket: str) -> Target:
        """The whole bucket."""
        return open_target(f"s3://{bucket}", now=now)


class TestS3InParts(TargetContract):
    @pytest.fixture
    def target(self, bucket: str, monkeypatch: pytest.MonkeyPatch) -> Target:
        """Everything goes in parts, and comes in windows, that are smaller than what the contract writes."""
        monkeypatch.setattr(s3, "_WINDOW_BYTES", 700_000)
        return S3(bucket, "prefix", now=now, part_bytes=PART)


@SEALED
def test_a_large_archive_goes_in_parts(
    client: Any, bucket: str, key: Key | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes back in windows, and the store has it as one object beside its manifest."""
    monkeypatch.setattr(s3, "_WINDOW_BYTES", 1_000_003)
    target = S3(bucket, "a/b", now=now, part_bytes=PART)
    sections = large_sections()
    manifest = archives.write(target, NAME, FACTS, sections, key)
    assert faults(target) == []
    assert read(target) == taken(sections)
    objects = {item["Key"]: item["Size"] for item in client.list_objects_v2(Bucket=bucket)["Contents"]}
    assert objects.keys() == {f"a/b/{manifest.object}", f"a/b/{NAME}.json"}
    assert objects[f"a/b/{manifest.object}"] == manifest.stored.bytes
    head = client.head_object(Bucket=bucket, Key=f"a/b/{manifest.object}")
    assert head["ETag"].endswith('-3"')
    assert uploads(client, bucket) == []


def test_what_lies_deeper_is_not_listed(client: Any, bucket: str) -> None:
    """A prefix is a folder: others may have theirs below."""
    archives.write(S3(bucket, "ours/theirs", now=now), NAME, FACTS, SECTIONS)
    archives.write(S3(bucket, "ours", now=now), "other", FACTS, SECTIONS)
    listing = archives.listing(S3(bucket, "ours", now=now))
    assert [manifest.name for manifest in listing.manifests] == ["other"]
    assert listing.leftovers == ()


def test_an_archive_that_was_touched_in_the_store_is_noticed(client: Any, bucket: str) -> None:
    """As anywhere else."""
    target = S3(bucket, now=now)
    manifest = archives.write(target, NAME, FACTS, SECTIONS, KEY)
    data = client.get_object(Bucket=bucket, Key=manifest.object)["Body"].read()
    client.put_object(Bucket=bucket, Key=manifest.object, Body=data[:-1] + b"?")
    assert "its stored bytes were altered" in faults(target)[-1]
    client.put_object(Bucket=bucket, Key=manifest.object, Body=b"")
    assert faults(target)
    with pytest.raises(ArchiveDamaged):
        read(target)
    client.delete_object(Bucket=bucket, Key=manifest.object)
    assert "its rows are missing" in faults(target)[0]


# -- locks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", list(LockMode))
@pytest.mark.parametrize("in_parts", [False, True], ids=["small", "in-parts"])
def test_locked_archives_cannot_be_deleted(client: Any, lockable: str, mode: LockMode, *, in_parts: bool) -> None:
    """Both files carry the lock, for as long as was asked, and the store keeps to it."""
    target = S3(lockable, "locked", now=now, lock=ObjectLock(days=30, mode=mode), part_bytes=PART)
    earliest = now() + timedelta(days=30, seconds=-1)
    archives.write(target, NAME, FACTS, large_sections() if in_parts else SECTIONS)
    assert faults(target) == []
    versions = client.list_object_versions(Bucket=lockable)["Versions"]
    assert len(versions) == 2
    for version in versions:
        head = client.head_object(Bucket=lockable, Key=version["Key"])
        assert head["ObjectLockMode"] == mode
        assert earliest <= head["ObjectLockRetainUntilDate"] <= now() + timedelta(days=30, seconds=1)
        with pytest.raises(ClientError, match="AccessDenied"):
            client.delete_object(Bucket=lockable, Key=version["Key"], VersionId=version["VersionId"])
    assert faults(target) == []


def test_a_bucket_without_locks_is_refused_before_the_first_row(bucket: str, client: Any) -> None:
    """With what it takes; nothing is uploaded."""
    asked = []

    def rows() -> Iterator[tuple[int]]:
        asked.append("a row")
        yield (1,)

    target = open_target(f"s3://{bucket}/p", now=now, lock=ObjectLock(days=1))
    with pytest.raises(ConfigError, match="offers no object lock, which is asked for"):
        archives.write(target, NAME, FACTS, [Section("t", ("a",), rows())])
    assert asked == []
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


def test_a_store_that_passes_over_the_lock_is_found_out(
    lockable: str, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes the object, and the lock is not there: no archive is finished."""
    target = S3(lockable, now=now, lock=ObjectLock(days=1))
    monkeypatch.setattr(target, "call", without_locks(target.call))
    with pytest.raises(ConfigError, match="without the object lock that is asked for"):
        archives.write(target, NAME, FACTS, SECTIONS)
    assert archives.listing(target).manifests == ()


def without_locks(call: Callable[..., Any]) -> Callable[..., Any]:
    """Requests, less what they say of locks."""

    def calls(operation: str, **arguments: Any) -> Any:
        if operation == "put_object_retention":
            return {}
        kept = {name: value for name, value in arguments.items() if not name.startswith("ObjectLock")}
        return call(operation, **kept)

    return calls


# -- what goes wrong --------------------------------------------------------------------------------------------------


def test_an_archive_that_is_cut_short_gives_its_parts_back(client: Any, bucket: str) -> None:
    """An error after the first part: neither an object nor an upload is left."""
    target = S3(bucket, now=now, part_bytes=PART)
    seen = []

    def rows() -> Iterator[tuple[bytes]]:
        for _ in range(30):
            yield (os.urandom(500_000),)
        seen.extend(uploads(client, bucket))
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        archives.write(target, NAME, FACTS, [Section("t", ("a",), rows())])
    assert len(seen) == 1
    assert uploads(client, bucket) == []
    assert list(target.files()) == []


def test_what_a_crash_left_is_swept(client: Any, bucket: str) -> None:
    """Uploads under the prefix that began before are aborted, others are not."""
    for key in ("ours/x.zst", "ours/theirs/x.zst", "theirs/x.zst"):
        client.create_multipart_upload(Bucket=bucket, Key=key)
    target = S3(bucket, "ours", now=now)
    assert target.sweep(datetime(2000, 1, 1, tzinfo=UTC)) == 0
    assert target.sweep(now() + timedelta(days=1)) == 1
    assert sorted(uploads(client, bucket)) == ["ours/theirs/x.zst", "theirs/x.zst"]


def test_more_parts_than_a_store_takes_are_refused(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what to do."""
    monkeypatch.setattr(s3, "_PARTS_MAX", 2)
    with pytest.raises(DependencyError, match="archive shorter periods"):
        archives.write(S3(bucket, now=now, part_bytes=PART), NAME, FACTS, large_sections())


def test_a_bucket_that_is_not_there_is_a_wrong_setting() -> None:
    """Whatever is asked of it."""
    target = open_target("s3://no-such-bucket/p", now=now)
    for ask in (
        lambda: archives.write(target, NAME, FACTS, SECTIONS),
        lambda: archives.listing(target),
        lambda: faults(target),
        lambda: target.sweep(now()),
        lambda: read(target),
    ):
        with pytest.raises(ConfigError, match="NoSuchBucket"):
            ask()
    with pytest.raises(ConfigError, match="Invalid bucket name"):
        archives.listing(open_target("s3://no,bucket", now=now))


def test_missing_credentials_are_a_wrong_setting(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are looked for where AWS's tools look."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(ConfigError, match="Unable to locate credentials"):
        archives.listing(open_target(f"s3://{bucket}", now=now))


def test_an_endpoint_that_is_none_is_a_wrong_setting(bucket: str) -> None:
    """Told as such, not as an error of ours."""
    with pytest.raises(ConfigError, match="endpoint"):
        archives.listing(open_target(f"s3://{bucket}", now=now, endpoint="no url"))


def test_a_store_that_is_out_of_reach_may_do_better_later(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody listens."""
    monkeypatch.setattr(s3, "_ATTEMPTS", 1)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    target = open_target(f"s3://{bucket}", now=now, endpoint=f"http://127.0.0.1:{port}")
    with pytest.raises(DependencyError, match="cannot be reached"):
        archives.listing(target)
    with pytest.raises(DependencyError, match="cannot be reached"):
        faults(target)


class Cutting:
    """A way to the store that breaks off answers that are longer than `after` bytes, `times` times."""

    def __init__(self, server: str, after: int, times: int) -> None:
        host, _, port = server.removeprefix("http://").partition(":")
        self._server = (host, int(port))
        self._after = after
        self.left = times
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def stop(self) -> None:
        """Nobody is let through any more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for thread in self._threads:
            thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.create_connection(self._server)
            for one, other, back in ((near, far, False), (far, near, True)):
                thread = threading.Thread(target=self._pass, args=(one, other, back))
                self._threads.append(thread)
                thread.start()

    def _pass(self, one: socket.socket, other: socket.socket, back: bool) -> None:  # noqa: FBT001
        passed = 0
        with one:
            while data := _received(one):
                passed += len(data)
                if back and self.left and passed > self._after:
                    self.left -= 1
                    break
                other.sendall(data)
            for end in (one, other):
                _hang_up(end)


def _received(end: socket.socket) -> bytes:
    try:
        return end.recv(65_536)
    except OSError:
        return b""


def _hang_up(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        return


@pytest.mark.parametrize(("times", "arrives"), [(3, True), (1000, False)])
def test_a_download_that_breaks_off_goes_on_from_there(server: str, bucket: str, *, times: int, arrives: bool) -> None:
    """A few times; a store whose every answer breaks off cannot be reached."""
    sections = large_sections()
    archives.write(S3(bucket, now=now), NAME, FACTS, sections, KEY)
    way = Cutting(server, after=2_000_000, times=times)
    try:
        target = S3(bucket, now=now, endpoint=way.url)
        if arrives:
            assert faults(target) == []
            assert way.left == 0
        else:
            with pytest.raises(DependencyError, match="cannot be reached"):
                faults(target)
    finally:
        way.stop()


def test_a_ring_without_the_key_is_told_before_the_rows_are_fetched(bucket: str) -> None:
    """The manifest is enough to know."""
    target = S3(bucket, now=now)
    archives.write(target, NAME, FACTS, SECTIONS, KEY)
    with pytest.raises(ConfigError, match=KEY.id):
        archives.read(target, NAME, KeyRing())
    assert read(target, keys=RING) == taken(SECTIONS)
