"""Archives and the database that they come from, side by side: written, read back, compared, restored.

An archive's manifest says which period it is of, what its rows come to, and where the chains of events stood. The
database keeps the same of each period that it has dropped, and how the dropped events were linked (`gaps`): so each can
be checked by the other, and an archive by itself.

Owns: what ties an archive to its database. Must not know: when anything is archived (`retention`), what a row means.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import NamedTuple, TypeVar
from uuid import UUID

import msgspec

from interlock import archives
from interlock.archives import ArchiveDamaged, Facts, Key, KeyRing, Manifest, Section, Target, UnknownArchive
from interlock.archives.errors import KeyMissing
from interlock.clock import Now
from interlock.errors import ConflictError, DependencyError, InterlockError, RequestError
from interlock.ports import ArchivedPeriod, Extract, Fingerprint, Period, Periods, Rows, Tally, digest

_T = TypeVar("_T")
#: Rows between two looks at whether to go on, or to rest.
_BREATH = 256


class BrokenHistory(InterlockError):
    """Events do not hold: their period stays in the database, where `interlock audit verify` shows what is wrong."""


class Interrupted(DependencyError):
    """This process is about to end; nothing is lost, what was begun is begun anew."""


# -- what an archive says of itself -----------------------------------------------------------------------------------


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """How the events of one journal begin and end in an archive."""

    journal: str
    first: int
    last: int
    #: Hash of the event before the first, in hex.
    previous: str
    #: Hash of the last, in hex.
    hash: str
    #: In how many pieces they are; the events between them are of other periods.
    runs: int


class End(msgspec.Struct, frozen=True, kw_only=True):
    """Where the chain of a journal ended when the archive was written."""

    journal: str
    seq: int
    hash: str


class Anchors(msgspec.Struct, frozen=True, kw_only=True):
    """What ties an archive to its database."""

    region: int
    lower: UUID
    upper: UUID
    fingerprint: Fingerprint
    journals: tuple[Stretch, ...]
    heads: tuple[End, ...]

    @classmethod
    def of(cls, manifest: Manifest) -> "Anchors":
        """Those of an archive. Raises RequestError where it is none of ours."""
        try:
            return msgspec.convert(manifest.anchors, cls)
        except msgspec.ValidationError as exc:
            raise RequestError(f"{manifest.name} is no archive of transactions: {exc}") from exc


# -- what an archive is to the database -------------------------------------------------------------------------------


class State(StrEnum):
    """What an archive is to the database."""

    #: Its rows are there alone.
    DROPPED = "dropped"
    #: Its rows are back in the database.
    RESTORED = "restored"
    #: Its period is still in the database: whoever wrote it died, or something was written to the period since.
    WRITTEN = "written"
    #: A later one of the same period was dropped.
    SUPERSEDED = "superseded"
    #: The database has dropped its rows, and has another digest of it.
    REPLACED = "replaced"
    #: The database has dropped its rows, and the target has no archive of the name.
    MISSING = "missing"
    #: The database knows nothing of its period.
    FOREIGN = "foreign"


class Listed(NamedTuple):
    """An archive, by what the target and the database say."""

    name: str
    state: State
    #: None where the target does not have it.
    manifest: Manifest | None
    #: None where the database has not dropped its rows.
    record: ArchivedPeriod | None


class Listing(NamedTuple):
    """All archives, oldest first, and what else the target holds."""

    archives: tuple[Listed, ...]
    #: A sentence for each archive that cannot be listed.
    faults: tuple[str, ...]
    #: Files that belong to no archive.
    leftovers: tuple[str, ...]


# -- long work --------------------------------------------------------------------------------------------------------


class Pace:
    """Keeps work on many rows from taking the whole of a process, and lets go of it when the process is to end."""

    def __init__(self, share: float = 1.0) -> None:
        """share: of the time that is worked; the rest is left to others."""
        self._share = share
        self._stop = threading.Event()

    def interrupt(self) -> None:
        """Whoever works is to let go soon; called by another thread."""
        self._stop.set()

    def through(self, items: Iterable[_T]) -> Iterator[_T]:
        """The same items. Raises Interrupted."""
        since = time.monotonic()
        for number, item in enumerate(items):
            if number % _BREATH == 0:
                since = self.rest(since)
            yield item

    def rest(self, since: float) -> float:
        """Pause as is due for what was worked since; the present. Raises Interrupted."""
        worked = time.monotonic() - since
        if self._stop.wait(worked * (1 / self._share - 1)):
            raise Interrupted("this process is about to end; what it was archiving is archived anew")
        return time.monotonic()


# -- the two side by side ---------------------------------------------------------------------------------------------


class Archivist:
    """Knows a database's periods, and a target's archives."""

    def __init__(self, periods: Periods, target: Target, keys: KeyRing, now: Now, pace: Pace) -> None:
        self.periods = periods
        self.target = target
        self.keys = keys
        self._now = now
        self._pace = pace

    # -- writing --

    def write(self, name: str, period: Period, extract: Extract, key: Key | None) -> Manifest:
        """Write a period's archive. Raises what `archives.write` raises, Interrupted."""
        stretches = (
            Stretch(
                journal=run.journal,
                first=run.first,
                last=run.last,
                previous=run.previous.hex(),
                hash=run.hash.hex(),
                runs=runs,
            )
            for run, runs in extract.journals
        )
        anchors = Anchors(
            region=self.periods.region,
            lower=period.lower,
            upper=period.upper,
            fingerprint=extract.fingerprint,
            journals=tuple(stretches),
            heads=tuple(End(journal=head.journal, seq=head.seq, hash=head.hash.hex()) for head in extract.heads),
        )
        facts = Facts(
            period=archives.Period(name=period.name, begin=period.begins, end=period.ends),
            schema=self.periods.schema,
            written_at=self._now(),
            anchors=msgspec.to_builtins(anchors),
        )
        sections = (Section(rows.table, rows.columns, self._pace.through(rows.rows)) for rows in extract.tables)
        return archives.write(self.target, name, facts, sections, key)

    def manifest(self, name: str) -> Manifest:
        """Raises UnknownArchive, ArchiveDamaged, ConfigError (a key), DependencyError."""
        return archives.manifest_of(self.target, name, self.keys)

    def stands_for(self, manifest: Manifest, period: Period, fingerprint: Fingerprint) -> bool:
        """Whether an archive says that it has the rows of a period as they are now."""
        try:
            anchors = Anchors.of(manifest)
        except RequestError:
            return False
        said = (anchors.region, anchors.lower, anchors.upper, anchors.fingerprint)
        return said == (self.periods.region, period.lower, period.upper, fingerprint)

    def record(self, manifest: Manifest) -> ArchivedPeriod:
        """What the database is to keep of an archive."""
        anchors = Anchors.of(manifest)
        return ArchivedPeriod(
            name=manifest.name,
            lower=anchors.lower,
            upper=anchors.upper,
            digest=bytes.fromhex(manifest.stored.sha256),
            fingerprint=anchors.fingerprint,
            archived_at=self._now(),
        )

    # -- reading back --

    def vouch(self, manifest: Manifest) -> None:
        """Read an archive and count it again. Raises ArchiveDamaged, BrokenHistory, and what reading raises."""
        tally = self._tally(manifest.name)
        expected = Anchors.of(manifest).fingerprint
        if tally.fingerprint != expected:
            raise ArchiveDamaged(f"{manifest.name} has not the rows that it was made from: {_unlike(tally, expected)}")
        if tally.faults:
            raise BrokenHistory(f"{manifest.name}: {'; '.join(tally.faults)}; see `interlock audit verify`")

    def _tally(self, name: str) -> Tally:
        try:
            return self.periods.tally(self._rows(name))
        except ValueError as exc:
            raise ArchiveDamaged(f"{name} is no archive of transactions: {exc}") from exc
        except UnknownArchive as exc:  # it had a manifest just now
            raise ArchiveDamaged(f"{name} has lost its rows: {exc}") from exc

    def _rows(self, name: str) -> Iterator[Rows]:
        for section in archives.read(self.target, name, self.keys):
            yield Rows(section.table, section.columns, self._pace.through(section.rows))

    def faults(self, name: str) -> Iterator[str]:
        """Read an archive, and look at what the database knows of it; a sentence for each thing that is wrong.

        Raises DependencyError.
        """
        try:
            manifest = self.manifest(name)
            expected = Anchors.of(manifest).fingerprint
            tally = self._tally(name)
        except (KeyMissing, ArchiveDamaged, RequestError) as exc:
            # It cannot be read to its end: tell all that is wrong with it.
            yield from list(archives.verify(self.target, name, self.keys)) or [str(exc)]
            return
        if tally.fingerprint != expected:
            yield f"it has not the rows that it was made from: {_unlike(tally, expected)}"
        yield from tally.faults
        with self.periods.undisturbed():
            record = self.records().get(name)
            if record is not None:
                yield from list(self._unlike_database(manifest, tally, record))

    def _unlike_database(self, manifest: Manifest, tally: Tally, record: ArchivedPeriod) -> Iterator[str]:
        if record.digest.hex() != manifest.stored.sha256:
            yield (
                "it is not the one that the database has dropped rows for: "
                f"the SHA-256 of that is {record.digest.hex()}, and of this {manifest.stored.sha256}"
            )
        if record.fingerprint != tally.fingerprint:
            yield f"it has not the rows that the database has dropped: {_unlike(tally, record.fingerprint)}"
        if record.restored_at is None and digest(self.periods.gaps(record.name)) != tally.fingerprint.runs:
            yield "what the database keeps of the chain is not how its events are linked; see `interlock audit verify`"

    # -- side by side --

    def records(self) -> dict[str, ArchivedPeriod]:
        """What the database has dropped, or had, by the archive's name."""
        return {record.name: record for record in self.periods.archives()}

    def listing(self) -> Listing:
        """All archives of the target and of the database."""
        records = self.records()
        there = archives.listing(self.target, self.keys)
        present = {(period.lower, period.upper) for period in self.periods.present()}
        listed = [
            Listed(manifest.name, self._state(manifest, records, present), manifest, records.get(manifest.name))
            for manifest in there.manifests
        ]
        unread = {fault.partition(":")[0] for fault in there.faults}
        found = {manifest.name for manifest in there.manifests} | unread
        listed += [Listed(name, State.MISSING, None, record) for name, record in records.items() if name not in found]
        return Listing(tuple(sorted(listed, key=_place)), there.faults, there.leftovers)

    def _state(self, manifest: Manifest, records: dict[str, ArchivedPeriod], present: set[tuple[UUID, UUID]]) -> State:
        record = records.get(manifest.name)
        if record is not None:
            if record.digest.hex() != manifest.stored.sha256:
                return State.REPLACED
            return State.DROPPED if record.restored_at is None else State.RESTORED
        try:
            anchors = Anchors.of(manifest)
        except RequestError:
            return State.FOREIGN
        bounds = (anchors.lower, anchors.upper)
        if anchors.region != self.periods.region:
            return State.FOREIGN
        if any((other.lower, other.upper) == bounds for other in records.values()):
            return State.SUPERSEDED
        return State.WRITTEN if bounds in present else State.FOREIGN

    # -- coming back --

    def restore(self, name: str) -> ArchivedPeriod:
        """Put the rows of an archive back into the database; they stay until they are dropped again.

        Raises ConflictError where they are there, RequestError where they do not fit, and whatever reading raises.
        """
        with self.periods.alone():
            record = self._dropped(name)
            if record.restored_at is not None:
                raise ConflictError(f"{name} was restored at {record.restored_at.isoformat()}, and is in the database")
            manifest = self.manifest(name)
            anchors = Anchors.of(manifest)
            if anchors.region != self.periods.region:
                raise RequestError(
                    f"{name} is of region {anchors.region}, and the database of region {self.periods.region}"
                )
            if manifest.schema > self.periods.schema:
                raise RequestError(
                    f"{name} was written with schema {manifest.schema}, and the database has schema "
                    f"{self.periods.schema}: `interlock db migrate` with the Interlock of then, or a later one"
                )
            if record.digest.hex() != manifest.stored.sha256:
                raise ConflictError(
                    f"{name} in {self.target.where} is not the archive that the database has dropped rows for: "
                    f"the SHA-256 of that is {record.digest.hex()}, and of this {manifest.stored.sha256}"
                )
            self.periods.restore(record, self._rows(name), self._now())
            return record

    def _dropped(self, name: str) -> ArchivedPeriod:
        """What the database knows of an archive. Raises UnknownArchive where that is nothing."""
        record = self.records().get(name)
        if record is None:
            raise UnknownArchive(
                f"the database has dropped no rows for an archive {name}; see `interlock archive list`"
            )
        return record

    def restored(self, name: str) -> tuple[ArchivedPeriod, Period]:
        """An archive whose rows are back, and the period that they are. Raises UnknownArchive, ConflictError."""
        record = self._dropped(name)
        for period in self.periods.present():
            if record.restored_at is not None and (period.lower, period.upper) == (record.lower, record.upper):
                return record, period
        raise ConflictError(f"{name} is not restored: the database does not have its rows")


def _place(listed: Listed) -> tuple[bytes, str]:
    """Oldest first."""
    lower = b"" if listed.record is None else listed.record.lower.bytes
    if listed.manifest is not None:
        lower = int(listed.manifest.period.begin.timestamp() * 1000).to_bytes(6) + bytes(10)
    return lower, listed.name


def _unlike(tally: Tally, expected: Fingerprint) -> str:
    """Where two fingerprints differ."""
    found, said = (_flat(fingerprint) for fingerprint in (tally.fingerprint, expected))
    return ", ".join(f"{name} {found[name]} and not {said[name]}" for name in said if found[name] != said[name])


def _flat(fingerprint: Fingerprint) -> dict[str, object]:
    plain = msgspec.to_builtins(fingerprint)
    return {**plain.pop("marks"), **plain}
