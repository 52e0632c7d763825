"""Archives in an S3-compatible store, through boto3; the only module that knows it.

Credentials, region and proxies are found by boto3 as by AWS's own tools (environment, profile, instance role), and are
never ours. A file is uploaded in parts as it comes, and is there only once the last part is, with its lock.

The caller needs s3:PutObject, GetObject, ListBucket, AbortMultipartUpload, ListBucketMultipartUploads; with a lock also
PutObjectRetention, GetObjectRetention, GetBucketObjectLockConfiguration. Nothing is ever deleted.
"""

import base64
import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from interlock import __version__
from interlock.archives.errors import ArchiveExists, UnknownArchive
from interlock.archives.format import Source
from interlock.archives.targets import LockMode, ObjectLock, Sink
from interlock.errors import ConfigError, DependencyError, InterlockError

try:
    import boto3
    from botocore.config import Config
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        CredentialRetrievalError,
        IncompleteReadError,
        NoCredentialsError,
        ParamValidationError,
        PartialCredentialsError,
        ProfileNotFound,
        ReadTimeoutError,
        ResponseStreamingError,
    )
except ImportError as exc:
    raise ConfigError("archives in s3:// need the package boto3: install interlock[s3]") from exc

#: Parts are of one size, as some stores demand; a store takes at most so many, which makes 320 GB.
_PART_BYTES = 32 << 20
_PARTS_MAX = 10_000
#: Read ahead at a time. What breaks off is asked for again from there.
_WINDOW_BYTES = 16 << 20
_TRIES = 4
#: How often boto3 sends a request until it is answered.
_ATTEMPTS = 5
_CUT_OFF = (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)
_MISCONFIGURED = (
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
)
#: Codes that the operator must act on; so must he where the status is 401 or 403.
_MISCONFIGURED_CODES = frozenset(
    (
        "NoSuchBucket",
        "InvalidBucketName",
        "AuthorizationHeaderMalformed",
        "PermanentRedirect",
        "IllegalLocationConstraintException",
    )
)
#: Denied now, and not for a wrong setting: credentials that are about to be renewed.
_PASSING_CODES = frozenset(("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired"))


class S3:
    """A prefix in a bucket, which must be Interlock's alone; what lies deeper is others'."""

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        now: Callable[[], datetime],
        lock: ObjectLock | None = None,
        endpoint: str | None = None,
        part_bytes: int = _PART_BYTES,
    ) -> None:
        """now: what a lock is reckoned from. endpoint: of a store that is not AWS, unless AWS_ENDPOINT_URL_S3 has it.

        part_bytes: what is held in memory of a file that is written; 5 MiB at least.
        """
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._now = now
        self._lock = lock
        self._endpoint = endpoint
        self._part_bytes = part_bytes
        self._is_lockable = False

    @property
    def where(self) -> str:
        """The location."""
        return f"s3://{self._bucket}/{self._prefix}".rstrip("/")

    @contextmanager
    def write(self, file: str) -> Iterator[Sink]:
        """Uploaded in parts; one that does not end well is taken back."""
        if self.exists(file):
            raise ArchiveExists(f"{self.where} has a file {file} already")
        upload = _Upload(self, self._prefix + file, self._retention(), self._part_bytes)
        try:
            yield upload
            upload.finish()
        except BaseException:
            upload.abort()
            raise

    @contextmanager
    def read(self, file: str) -> Iterator[Source]:
        """Window by window."""
        yield _Download(self, self._prefix + file)

    def exists(self, file: str) -> bool:
        """Whether it is listed."""
        key = self._prefix + file
        # Asking for the object itself would not tell a missing bucket from a missing object.
        found = self.call("list_objects_v2", Prefix=key, MaxKeys=1).get("Contents", ())
        return any(item["Key"] == key for item in found)

    def files(self) -> Iterator[str]:
        """The objects directly under the prefix."""
        for page in self._pages("list_objects_v2", Prefix=self._prefix, Delimiter="/"):
            for item in page.get("Contents", ()):
                yield item["Key"].removeprefix(self._prefix)

    def sweep(self, before: datetime) -> int:
        """Abort uploads that began before this: their parts cost money, and no listing shows them."""
        swept = 0
        for page in self._pages("list_multipart_uploads", Prefix=self._prefix):
            for upload in page.get("Uploads", ()):
                is_ours = "/" not in upload["Key"].removeprefix(self._prefix)
                if is_ours and upload["Initiated"] < before:
                    swept += self._is_aborted(upload["Key"], upload["UploadId"])
        return swept

    # -- for uploads and downloads --

    def call(self, operation: str, **arguments: Any) -> Any:
        """One call on the bucket. Raises UnknownArchive, ArchiveExists, ConfigError, DependencyError."""
        with self.telling():
            return getattr(self._client, operation)(Bucket=self._bucket, **arguments)

    def confirm(self, key: str, size: int, retention: Mapping[str, Any]) -> None:
        """Raise where what was uploaded is not kept as was asked for: a store may pass over what it does not know."""
        head = self.call("head_object", Key=key)
        if head["ContentLength"] != size:
            raise DependencyError(f"{self.where} took {size:,} bytes as {key} and keeps {head['ContentLength']:,}")
        if not retention or _is_locked(head, retention):
            return
        # Some take no lock with an upload in parts, but do so afterwards.
        asked = {"Mode": retention["ObjectLockMode"], "RetainUntilDate": retention["ObjectLockRetainUntilDate"]}
        self.call("put_object_retention", Key=key, Retention=asked, ChecksumAlgorithm="SHA256")
        if not _is_locked(self.call("head_object", Key=key), retention):
            raise ConfigError(f"{self.where} keeps {key} without the object lock that is asked for; take another store")

    # -- our own --

    def _is_aborted(self, key: str, upload: str) -> bool:
        try:
            self.call("abort_multipart_upload", Key=key, UploadId=upload)
        except InterlockError as exc:
            if _code(exc) != "NoSuchUpload":
                raise
            return False  # another process was faster
        return True

    @cached_property
    def _client(self) -> Any:
        # Made at the first call: boto3 looks for credentials here, which may ask the network.
        config = Config(
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            connect_timeout=10,
            read_timeout=60,
            tcp_keepalive=True,
            user_agent_extra=f"interlock/{__version__}",
        )
        try:
            return boto3.session.Session().client("s3", endpoint_url=self._endpoint, config=config)
        except ValueError as exc:
            raise ConfigError(f"the archives' endpoint is none: {exc}") from exc

    def _pages(self, operation: str, **arguments: Any) -> Iterator[Any]:
        with self.telling():
            yield from self._client.get_paginator(operation).paginate(Bucket=self._bucket, **arguments)

    def _retention(self) -> Mapping[str, Any]:
        """What an upload must say for its lock. Raises ConfigError where the bucket offers none."""
        if self._lock is None:
            return {}
        if not self._is_lockable:
            self._refuse_unlockable()
        until = (self._now() + timedelta(days=self._lock.days)).replace(microsecond=0)
        return {"ObjectLockMode": self._lock.mode.value, "ObjectLockRetainUntilDate": until}

    def _refuse_unlockable(self) -> None:
        wanted = f"{self.where} offers no object lock, which is asked for: take a bucket that was made with it"
        try:
            answer = self.call("get_object_lock_configuration")
        except InterlockError as exc:
            if _code(exc) in {"ObjectLockConfigurationNotFoundError", "NotImplemented", "MethodNotAllowed"}:
                raise ConfigError(wanted) from exc
            raise
        if answer.get("ObjectLockConfiguration", {}).get("ObjectLockEnabled") != "Enabled":
            raise ConfigError(wanted)
        self._is_lockable = True

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Errors within become ours."""
        try:
            yield
        except ClientError as exc:
            raise self._told(exc) from exc
        except _MISCONFIGURED as exc:
            raise ConfigError(f"{self.where} cannot be used: {exc}") from exc
        except BotoCoreError as exc:
            raise DependencyError(f"{self.where} cannot be reached: {exc}") from exc

    def _told(self, exc: ClientError) -> InterlockError:
        error, status = exc.response["Error"], exc.response["ResponseMetadata"]["HTTPStatusCode"]
        code = error["Code"]
        what = f"{exc.operation_name} was answered {code}: {error.get('Message', '')}".rstrip(": ")
        if code == "NoSuchKey":
            return UnknownArchive(f"{self.where} has no file {error.get('Key', '')}".rstrip())
        if code == "PreconditionFailed" and exc.operation_name == "PutObject":
            return ArchiveExists(f"{self.where} has such a file already: {what}")
        if code in _MISCONFIGURED_CODES or (status in {401, 403} and code not in _PASSING_CODES):
            return ConfigError(f"{self.where} cannot be used: {what}")
        return DependencyError(f"{self.where} cannot be used now: {what}")


def _is_locked(head: Mapping[str, Any], retention: Mapping[str, Any]) -> bool:
    """Whether an object is kept as long and as firmly as was asked for, or more so."""
    until = head.get("ObjectLockRetainUntilDate")
    if until is None or until < retention["ObjectLockRetainUntilDate"]:
        return False
    return head.get("ObjectLockMode") in {retention["ObjectLockMode"], LockMode.COMPLIANCE.value}


def _code(exc: InterlockError) -> str:
    """What the store said, where it said anything."""
    cause = exc.__cause__
    return str(cause.response["Error"]["Code"]) if isinstance(cause, ClientError) else ""


class _Upload:
    """An object on its way: in one request where it is small, else in parts."""

    def __init__(self, store: S3, key: str, retention: Mapping[str, Any], part_bytes: int) -> None:
        self._store = store
        self._key = key
        self._retention = retention
        self._part_bytes = part_bytes
        self._held = bytearray()
        self._size = 0
        self._id: str | None = None
        self._parts: list[dict[str, Any]] = []

    def write(self, data: bytes) -> None:
        """Upload every part that is full."""
        self._held += data
        self._size += len(data)
        while len(self._held) >= self._part_bytes:
            self._upload(bytes(self._held[: self._part_bytes]))
            del self._held[: self._part_bytes]

    def finish(self) -> None:
        """Make the object appear, and see that it is kept as it must be."""
        if self._id is None:
            self._put(bytes(self._held))
        else:
            if self._held:
                self._upload(bytes(self._held))
            self._store.call(
                "complete_multipart_upload", Key=self._key, UploadId=self._id, MultipartUpload={"Parts": self._parts}
            )
            self._id = None
        self._store.confirm(self._key, self._size, self._retention)

    def abort(self) -> None:
        """Give the parts back. What fails here is left to `sweep`; whatever led here is what must be told."""
        if self._id is not None:
            with contextlib.suppress(InterlockError):
                self._store.call("abort_multipart_upload", Key=self._key, UploadId=self._id)

    def _put(self, data: bytes) -> None:
        arguments = {"Key": self._key, "Body": data, **_checksum(data), **self._retention}
        try:
            self._store.call("put_object", **arguments, IfNoneMatch="*")
        except DependencyError as exc:
            if _code(exc) != "NotImplemented":
                raise
            # A store without conditional writes. Only a manifest can meet another of its name, and that in the instant
            # since we looked; it would vouch for the same rows, in an object of its own.
            self._store.call("put_object", **arguments)

    def _upload(self, data: bytes) -> None:
        if self._id is None:
            begun = self._store.call(
                "create_multipart_upload", Key=self._key, ChecksumAlgorithm="SHA256", **self._retention
            )
            self._id = begun["UploadId"]
        number = len(self._parts) + 1
        if number > _PARTS_MAX:
            raise DependencyError(
                f"{self._key} is too large for a store of {_PARTS_MAX:,} parts of {self._part_bytes:,} bytes: "
                "archive shorter periods"
            )
        checksum = _checksum(data)
        part = self._store.call(
            "upload_part", Key=self._key, UploadId=self._id, PartNumber=number, Body=data, **checksum
        )
        self._parts.append({"PartNumber": number, "ETag": part["ETag"], "ChecksumSHA256": checksum["ChecksumSHA256"]})


def _checksum(data: bytes) -> dict[str, str]:
    """What makes the store refuse other bytes than these. Given as a header, which every store takes or passes over."""
    return {
        "ChecksumAlgorithm": "SHA256",
        "ChecksumSHA256": base64.b64encode(hashlib.sha256(data).digest()).decode(),
    }


class _Download:
    """An object, window by window; all of them are of the version that the first one was of."""

    def __init__(self, store: S3, key: str) -> None:
        """Raises UnknownArchive where there is none."""
        self._store = store
        self._key = key
        self._at = 0
        self._held = memoryview(b"")
        self._size = 0
        self._version: dict[str, str] = {}
        self._fetch()

    def read(self, size: int) -> bytes:
        """At most `size` bytes."""
        if not self._held and self._at < self._size:
            self._fetch()
        taken, self._held = self._held[:size], self._held[size:]
        return bytes(taken)

    def _fetch(self) -> None:
        """boto3 tries again what was not answered; an answer that breaks off is ours to ask for again."""
        for _ in range(_TRIES - 1):
            with contextlib.suppress(*_CUT_OFF):
                self._take()
                return
        with self._store.telling():
            self._take()

    def _take(self) -> None:
        wanted = f"bytes={self._at}-{self._at + _WINDOW_BYTES - 1}"
        try:
            answer = self._store.call("get_object", Key=self._key, Range=wanted, **self._version)
        except InterlockError as exc:
            if _code(exc) == "InvalidRange":  # an empty object has no range at all
                self._size = self._at
                return
            raise
        data = bytes(answer["Body"].read())
        self._version = {"IfMatch": answer["ETag"]}
        # "bytes 0-16777215/123456789"
        self._size = int(answer["ContentRange"].rpartition("/")[2])
        self._held = memoryview(data)
        self._at += len(data)
