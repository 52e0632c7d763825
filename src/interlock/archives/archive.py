"""Archives written, read, checked and listed: `format`, `sealing`, `manifest` and a target, joined."""

import re
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import IO, NamedTuple, cast

import zstandard

from interlock import __version__
from interlock.archives import manifest as manifests
from interlock.archives.errors import ArchiveDamaged, ArchiveExists, KeyMissing, UnknownArchive
from interlock.archives.format import BLOCK_BYTES, Reader, Section, Source, Table, Writer
from interlock.archives.manifest import Facts, Manifest, Measure
from interlock.archives.sealing import Key, KeyRing, Sealer, Unsealed
from interlock.archives.targets import Target
from interlock.errors import RequestError

#: Compression that keeps pace with one core's reading of rows.
_LEVEL = 3
#: More than `_LEVEL` needs; what wants more memory to be read is not ours.
_WINDOW_BYTES_MAX = 1 << 23
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_OBJECT = re.compile(r"(?P<name>.+)\.[0-9a-f]{8}\.(zst|sealed)")


class Listing(NamedTuple):
    """What a target has."""

    #: Finished archives, by name.
    manifests: tuple[Manifest, ...]
    #: A sentence for each archive that cannot be listed.
    faults: tuple[str, ...]
    #: Files with rows that no manifest names: of an attempt that was cut short before its manifest, or of an archive
    #: that has lost it. Nobody but the operator can tell, so Interlock never deletes them.
    leftovers: tuple[str, ...]


def write(target: Target, name: str, facts: Facts, sections: Iterable[Section], key: Key | None = None) -> Manifest:
    """Write an archive; once this returns it is there for good, and before that it is not there at all.

    Raises RequestError (the name), ArchiveExists, ConfigError or DependencyError (the target; if the archive is there
    all the same, the next attempt is told ArchiveExists), TypeError or ValueError for rows and facts that an archive
    cannot hold, and whatever the sections raise themselves.
    """
    if not _NAME.fullmatch(name):
        raise RequestError(
            f"{name!r} is no name for an archive: letters, digits, points, hyphens and underscores, 200 at most"
        )
    manifests.check(facts)
    if target.exists(_file(name)):
        raise ArchiveExists(f"{target.where} has a finished archive {name}; verify that one")
    # Not `name` alone: of two processes of which one was thought dead, each must keep its hands off the other's rows.
    file = f"{name}.{secrets.token_hex(4)}.{'zst' if key is None else 'sealed'}"
    content, stored, writer = _Meter(), _Meter(), Writer()
    with target.write(file) as out:

        def store(data: bytes) -> None:
            stored.add(data)
            out.write(data)

        sealer = None if key is None else Sealer(key, name, store)
        sink = store if sealer is None else sealer.write
        compressor = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj()
        for block in writer.blocks(name, sections):
            content.add(block)
            sink(compressor.compress(block))
        sink(compressor.flush())
        if sealer is not None:
            sealer.finish()
    manifest = Manifest(
        name=name,
        object=file,
        period=facts.period,
        schema=facts.schema,
        written_at=facts.written_at,
        written_by=f"interlock {__version__}",
        tables=tuple(writer.tables),
        content=content.measure(),
        stored=stored.measure(),
        key=None if key is None else key.id,
        anchors=facts.anchors,
    )
    _commit(target, name, manifests.encode(manifest, key))
    return manifest


def _commit(target: Target, name: str, data: bytes) -> None:
    """Write the manifest. If that fails the rows stay: nobody can say whether the manifest is there after all."""
    try:
        with target.write(_file(name)) as out:
            out.write(data)
    except ArchiveExists:
        # A request that was sent again after its answer was lost finds what it wrote itself.
        if _manifest_bytes(target, name) != data:
            raise


def read(target: Target, name: str, keys: KeyRing | None = None) -> Iterator[Section]:
    """The sections of an archive, in order, each to be walked before the next.

    Rows are given out as they come, and the digests are known at the end: use them within a transaction that commits
    only once the iterator has ended. Raises ArchiveDamaged, UnknownArchive, ConfigError (a key), DependencyError.
    """
    ring = KeyRing() if keys is None else keys
    return _sections(target, manifest_of(target, name, ring), ring)


def _sections(target: Target, manifest: Manifest, keys: KeyRing) -> Iterator[Section]:
    with target.read(manifest.object) as source:
        reading = _Reading(manifest, source)
        try:
            yield from reading.sections(keys)
        except ArchiveDamaged as exc:
            raise ArchiveDamaged(f"the archive {manifest.name} in {target.where}: {exc}") from exc
        for fault in reading.differences():
            raise ArchiveDamaged(f"the archive {manifest.name} in {target.where}: {fault}")


def verify(target: Target, name: str, keys: KeyRing | None = None) -> Iterator[str]:
    """Read a whole archive, in bounded memory; a sentence for each thing that is wrong with it.

    Without its key an encrypted archive is told as such, and checked for being stored as it was written.
    Raises DependencyError where the target cannot be read: that says nothing of the archive.
    """
    ring = KeyRing() if keys is None else keys
    try:
        manifest, missing = _opened(target, name, ring)
    except (ArchiveDamaged, RequestError) as exc:
        yield str(exc)
        return
    if missing is not None:
        yield str(missing)
    try:
        with target.read(manifest.object) as source:
            reading = _Reading(manifest, source)
            if missing is None:
                yield from reading.faults(ring)
            yield from reading.differences()
    except UnknownArchive as exc:
        yield f"its rows are missing: {exc}"


def manifest_of(target: Target, name: str, keys: KeyRing | None = None) -> Manifest:
    """What an archive's manifest says, once it is known to be genuine.

    Raises ArchiveDamaged, UnknownArchive, ConfigError (a key), DependencyError.
    """
    try:
        manifest, missing = _opened(target, name, KeyRing() if keys is None else keys)
    except ArchiveDamaged as exc:
        raise ArchiveDamaged(f"the archive {name} in {target.where}: {exc}") from exc
    if missing is not None:
        raise missing
    return manifest


def listing(target: Target, keys: KeyRing | None = None) -> Listing:
    """All archives of a target by their manifests, those too whose keys are not given: these are not authenticated."""
    ring = KeyRing() if keys is None else keys
    found: list[Manifest] = []
    faults: list[str] = []
    files = sorted(target.files())
    for file in files:
        name, _, kind = file.rpartition(".")
        if kind != "json":
            continue
        try:
            found.append(_opened(target, name, ring)[0])
        except (ArchiveDamaged, RequestError) as exc:
            faults.append(f"{name}: {exc}")
    named = {manifest.object for manifest in found}
    leftovers = tuple(file for file in files if _OBJECT.fullmatch(file) and file not in named)
    return Listing(tuple(found), tuple(faults), leftovers)


def _opened(target: Target, name: str, keys: KeyRing) -> tuple[Manifest, KeyMissing | None]:
    """A manifest; and, where its key is not given and so nobody can tell whether it is genuine, that.

    Raises ArchiveDamaged where it is known not to be.
    """
    data = _manifest_bytes(target, name)
    manifest = manifests.decode(data, name)
    named = _OBJECT.fullmatch(manifest.object)
    if named is None or named["name"] != name:
        raise ArchiveDamaged(f"its manifest was altered: no archive {name} has its rows in {manifest.object!r}")
    if manifest.key is None:
        if keys.required:
            raise ArchiveDamaged("it is not encrypted, which is required: it may have been put in another's place")
        return manifest, None
    try:
        key = keys.get(manifest.key)
    except KeyMissing as exc:
        return manifest, exc
    manifests.authenticate(data, key)
    return manifest, None


def _file(name: str) -> str:
    return f"{name}.json"


def _manifest_bytes(target: Target, name: str) -> bytes:
    if not _NAME.fullmatch(name):
        raise UnknownArchive(f"{target.where} has no archive {name!r}: that is no name of one")
    try:
        with target.read(_file(name)) as source:
            return b"".join(_parts(source, manifests.BYTES_MAX))
    except UnknownArchive as exc:
        raise UnknownArchive(f"{target.where} has no archive {name}: there is no manifest {_file(name)}") from exc


def _parts(source: Source, bytes_max: int | None = None) -> Iterator[bytes]:
    """All that is left, or as much as is asked for at most, and a part more."""
    passed = 0
    while (bytes_max is None or passed <= bytes_max) and (part := source.read(BLOCK_BYTES)):
        passed += len(part)
        yield part


class _Meter:
    """Counts and hashes what passes."""

    def __init__(self) -> None:
        self._bytes = 0
        self._sha256 = sha256()

    def add(self, data: bytes | bytearray) -> None:
        self._bytes += len(data)
        self._sha256.update(data)

    def measure(self) -> Measure:
        return Measure(bytes=self._bytes, sha256=self._sha256.hexdigest())


@dataclass(frozen=True, slots=True)
class _Metered:
    """A source that is measured as it is read."""

    source: Source
    meter: _Meter

    def read(self, size: int) -> bytes:
        data = self.source.read(size)
        self.meter.add(data)
        return data


class _Decompressed:
    """What a compressed source holds, never more of it than is asked for, however far it would expand."""

    def __init__(self, source: Source) -> None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES_MAX)
        # All that it does with its source is to read from it.
        self._reader = decompressor.stream_reader(cast("IO[bytes]", source), read_size=BLOCK_BYTES, closefd=False)

    def read(self, size: int) -> bytes:
        try:
            return self._reader.read(size)
        except zstandard.ZstdError as exc:
            raise ArchiveDamaged(f"it cannot be decompressed: {exc}") from exc


class _Reading:
    """One pass over an archive's rows, and what it came to beside its manifest."""

    def __init__(self, manifest: Manifest, source: Source) -> None:
        self._manifest = manifest
        self._stored = _Meter()
        self._content = _Meter()
        self._source = _Metered(source, self._stored)
        #: What was read; None until the content has been walked to its end.
        self._tables: tuple[Table, ...] | None = None

    def sections(self, keys: KeyRing) -> Iterator[Section]:
        """Raises ArchiveDamaged at the first thing that cannot be read."""
        name, key = self._manifest.name, self._manifest.key
        source = self._source if key is None else Unsealed(self._source, keys.get(key), name)
        reader = Reader(name, _Metered(_Decompressed(source), self._content))
        yield from reader.sections()
        self._tables = tuple(reader.tables)

    def faults(self, keys: KeyRing) -> Iterator[str]:
        """Walk all rows; what cannot be read, in a sentence."""
        try:
            for _ in self.sections(keys):
                pass
        except ArchiveDamaged as exc:
            yield str(exc)

    def differences(self) -> Iterator[str]:
        """Read what is left; a sentence for each thing that is not as the manifest says."""
        for _ in _parts(self._source):
            pass
        yield from _unlike("stored bytes", self._stored.measure(), self._manifest.stored)
        if self._tables is None:
            return
        yield from _unlike("content", self._content.measure(), self._manifest.content)
        if self._tables != self._manifest.tables:
            yield f"its tables are {_told(self._tables)}, and its manifest says {_told(self._manifest.tables)}"


def _unlike(what: str, found: Measure, said: Measure) -> Iterator[str]:
    if found.bytes != said.bytes:
        yield f"its {what}: {found.bytes:,} bytes, and its manifest says {said.bytes:,}"
    elif found.sha256 != said.sha256:
        yield f"its {what} were altered: the SHA-256 is {found.sha256}, and its manifest says {said.sha256}"


def _told(tables: Iterable[Table]) -> str:
    return ", ".join(f"{table.name} ({table.rows} rows of {len(table.columns)} columns)" for table in tables) or "none"
