"""What is known of an archive without opening it: the JSON file beside it.

    {"manifest": {...}, "seal": "sha256:DIGEST"}                       plain: nobody altered it by accident
    {"manifest": {...}, "seal": "hmac-sha256:KEY ID:CODE"}             encrypted: nobody altered it without the key

The seal covers the bytes of `manifest` as they stand in the file, and the file must be exactly as it was written: not a
space may differ. As the manifest has the digest of what is stored, it vouches for the whole archive.
"""

import hmac
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Annotated, Any

import msgspec

from interlock.archives.errors import ArchiveDamaged
from interlock.archives.format import Table
from interlock.archives.sealing import Key
from interlock.errors import RequestError

VERSION = 1
#: Far more than any manifest has; what is longer is none.
BYTES_MAX = 1 << 24

_Aware = Annotated[datetime, msgspec.Meta(tz=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """What span of time the rows are of."""

    name: str
    begin: _Aware
    #: The first moment that is not in it any more.
    end: _Aware


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What whoever writes an archive says of it."""

    period: Period
    #: Number of the newest migration that the rows' database had.
    schema: int
    written_at: _Aware
    #: Where the chains of events ended, or whatever else must be kept with the rows; any JSON value.
    anchors: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """How much it is, and which bytes."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an archive is, where its rows lie, and what they must come to."""

    format: int = VERSION
    name: str
    #: The file that has the rows.
    object: str
    period: Period
    schema: int
    written_at: _Aware
    #: By which Interlock.
    written_by: str
    tables: tuple[Table, ...]
    #: What the rows are before compression: the same rows always have the same digest.
    content: Measure
    #: What the target keeps.
    stored: Measure
    #: Id of the key that it is encrypted with; None: it is not.
    key: str | None
    anchors: Any

    @property
    def rows(self) -> int:
        """Of all tables."""
        return sum(table.rows for table in self.tables)


class _File(msgspec.Struct, forbid_unknown_fields=True):
    manifest: msgspec.Raw
    seal: str


class _Format(msgspec.Struct):
    format: int


_decode_file = msgspec.json.Decoder(_File).decode
_decode_format = msgspec.json.Decoder(_Format).decode
_decode = msgspec.json.Decoder(Manifest).decode
_encode = msgspec.json.Encoder().encode


def check(facts: Facts) -> None:
    """Raise TypeError or ValueError where facts cannot be written: better now than after the last row."""
    moments = (facts.period.begin, facts.period.end, facts.written_at)
    if any(moment.tzinfo is None for moment in moments):
        raise ValueError("the times of an archive must be aware")
    if facts.period.begin >= facts.period.end:
        raise ValueError(f"the period {facts.period.name} ends before it begins")
    _encode(facts)


def encode(manifest: Manifest, key: Key | None) -> bytes:
    """The file, sealed by the key that the archive is encrypted with."""
    raw = msgspec.json.format(_encode(manifest), indent=2)
    return _file(raw, _seal(raw, key))


def decode(data: bytes, name: str) -> Manifest:
    """The manifest of the archive `name`. One with a key is not authenticated by this: see `authenticate`.

    Raises ArchiveDamaged, and RequestError for one of a later format.
    """
    file = _parsed(data)
    raw = bytes(file.manifest)
    kind, *rest = file.seal.split(":")
    if kind == "sha256" and not hmac.compare_digest(file.seal, _seal(raw, None)):
        raise ArchiveDamaged("its manifest was altered: it has another digest than it says")
    try:
        version = _decode_format(raw).format
        if version > VERSION:
            raise RequestError(
                f"it was written in format {version}, and this Interlock reads format {VERSION}: use a later one"
            )
        manifest = _decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ArchiveDamaged(f"its manifest was altered: {exc}") from exc
    sealed_by = rest[0] if kind == "hmac-sha256" and len(rest) == 2 else None
    if manifest.format != VERSION or manifest.key != sealed_by or kind not in {"sha256", "hmac-sha256"}:
        raise ArchiveDamaged("its manifest was altered: it is not sealed as it says")
    if manifest.name != name:
        raise ArchiveDamaged(f"its manifest is that of the archive {manifest.name}")
    return manifest


def authenticate(data: bytes, key: Key) -> None:
    """Raise ArchiveDamaged where a manifest was not written by a holder of this key, or was altered since."""
    file = _parsed(data)
    if not hmac.compare_digest(file.seal, _seal(bytes(file.manifest), key)):
        raise ArchiveDamaged("its manifest was altered: the key that it names did not seal it")


def _parsed(data: bytes) -> _File:
    try:
        file = _decode_file(data)
        if data == _file(bytes(file.manifest), file.seal) and file.seal.isascii():
            return file
    except (msgspec.DecodeError, UnicodeError) as exc:
        raise ArchiveDamaged(f"its manifest cannot be read: {exc}") from exc
    raise ArchiveDamaged("its manifest was altered: it is not as it was written")


def _file(raw: bytes, seal: str) -> bytes:
    return b'{"manifest": %b,\n"seal": "%b"}\n' % (raw, seal.encode())


def _seal(raw: bytes, key: Key | None) -> str:
    return f"sha256:{sha256(raw).hexdigest()}" if key is None else f"hmac-sha256:{key.id}:{key.code(raw)}"
