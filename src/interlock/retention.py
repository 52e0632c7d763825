"""Retention: periods that no route wants kept any longer leave the database for archives, one by one, oldest first.

    free ──▶ extract ──▶ write ──▶ read back ──▶ drop
    keys     snapshot    archive   and count     if nothing was written since

Each step may be repeated, and what dies between two of them is begun anew: what `free` does nobody notices, an archive
that is there and has the present rows is taken instead of another one, and only `drop`, which is one transaction, takes
anything away. Where something was written to a period meanwhile it is archived again, under the next name.

A period is one for all its routes: it is kept as long as the one of them that is kept longest.

Owns: when a period has expired, what its archive is called, and the order of the steps. Must not know: how a store
keeps its rows, and how an archive does.
"""

import re
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

import structlog

from interlock import archives
from interlock.archives import ArchiveDamaged, Key, KeyRing, Manifest, ObjectLock, Target, UnknownArchive
from interlock.archivist import Archivist, BrokenHistory, Pace
from interlock.clock import Now
from interlock.config import Config
from interlock.errors import ConfigError, ConflictError, DependencyError, InterlockError
from interlock.ports import ArchivedPeriod, Fingerprint, Marks, Period, Periods
from interlock.routes import Routes

_log = structlog.get_logger()

#: How often a period is archived anew because something was written to it meanwhile.
_TRIES = 3
#: Names that archives of one period can have: so many are written at most, whatever is wrong with a target.
_NAMES_MAX = 9
#: A region's name that can be part of an archive's.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
#: What crashes have left of files in the target is taken away after this long.
_LEFT = timedelta(days=1)
#: A period whose archive or history was found to be bad is left to the operator for so long.
_LEFT_ALONE = timedelta(days=1)
#: Rows that have no partition get one when they are this old: younger ones may still get theirs in the ordinary way.
_STRAY = timedelta(days=2)
_EMPTY = Marks(transactions=0, open=0, versions=0, updated_at=0, deliveries=())


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """What the operator has configured."""

    routes: Routes
    #: Name or number of the region, which archives are called by.
    region: str
    #: Archives are encrypted with it; None: they are not.
    key: Key | None
    #: Archives are read with them.
    keys: KeyRing
    #: How long duplicates of archived transactions are refused; None: for ever.
    keys_retention: timedelta | None = None

    @classmethod
    def of(cls, config: Config) -> "Policy":
        """Raises ConfigError (a key)."""
        key = None if config.archive_key is None else Key.load(config.archive_key)
        old = [Key.load(path) for path in config.archive_old_keys]
        days = config.keys_retention_days
        return cls(
            routes=config.choice_of_routes(),
            region=config.region if _PLAIN.fullmatch(config.region) else str(config.region_number),
            key=key,
            keys=KeyRing([*([] if key is None else [key]), *old]),
            keys_retention=None if days is None else timedelta(days=days),
        )


def target_of(config: Config, now: Now) -> Target:
    """Where archives lie. Raises ConfigError where that is not set, or cannot be."""
    if config.archive is None:
        raise ConfigError("archive is not set: a folder that all processes share, or s3://bucket/prefix")
    days = config.archive_lock_days
    return archives.open_target(config.archive, now=now, lock=None if days is None else ObjectLock(days=days))


class Done(NamedTuple):
    """A period that has left the database."""

    period: Period
    #: None: it was empty, and nothing is kept of it.
    manifest: Manifest | None
    seconds: float


class Failed(NamedTuple):
    """A period that stays for now."""

    period: Period
    error: InterlockError


class Retention:
    """The job. Used by one thread; `interrupt` by any."""

    def __init__(self, periods: Periods, target: Target, policy: Policy, now: Now, *, share: float = 1.0) -> None:
        """share: of its thread's time that it takes; the rest is left to what else the process does."""
        self._periods = periods
        self._target = target
        self._policy = policy
        self._now = now
        self._pace = Pace(share)
        self.archivist = Archivist(periods, target, policy.keys, now, self._pace)
        #: Periods that a route keeps, and until when; None: for ever. What has ended never changes its route.
        self._kept: dict[str, datetime | None] = {}
        #: Periods that it would be in vain to try again soon, and until when.
        self._left_alone: dict[str, datetime] = {}

    def interrupt(self) -> None:
        """Let go soon: this process is about to end."""
        self._pace.interrupt()

    def work(self) -> None:
        """Do what is due, and log what becomes of it; nothing where another process is at it."""
        with closing(self._periods):
            try:
                for outcome in self.run():
                    _tell(outcome)
            except ConflictError as exc:
                _log.info("not archived now", why=str(exc))
            except ConfigError as exc:
                _log.error("not archived", error=str(exc))

    def run(self) -> Iterator[Done | Failed]:
        """Archive and drop every period that has expired, each as it is asked for; what became of it.

        Raises ConflictError (another process is at it), DependencyError, ConfigError.
        """
        now = self._now()
        with self._periods.alone():
            swept = self._target.sweep(now - _LEFT)
            if swept:
                _log.info("swept", files=swept, where=self._target.where)
            self._periods.prepare(now - _STRAY)
        for period in self.expired():
            if self._left_alone.get(period.name, now) > now:
                continue
            # Each by itself, so that whoever waits to look on waits for one at most.
            with self._periods.alone():
                if (period.lower, period.upper) in self._restored():
                    continue
                outcome = self._tried(period)
            yield outcome
        if self._policy.keys_retention is not None:
            with self._periods.alone():
                forgotten = self._periods.forget_keys(now - self._policy.keys_retention, now)
            if forgotten:
                _log.info("forgotten", keys=forgotten)

    # -- when --

    def expired(self) -> Iterator[Period]:
        """Periods that no route wants kept, oldest first; those that were restored stay until they are dropped."""
        now = self._now()
        routes = self._policy.routes
        limits = [routes.retention(route.name) for route in (*routes.listed, routes.default)]
        soonest = min((limit for limit in limits if limit is not None), default=None)
        if soonest is None:
            return
        back = self._restored()
        for period in self._periods.present():
            if period.ends + soonest > now or (period.lower, period.upper) in back:
                continue
            if not self._is_kept(period, now):
                yield period

    def _restored(self) -> set[tuple[UUID, UUID]]:
        """Bounds of periods that were brought back."""
        return {(record.lower, record.upper) for record in self._periods.archives() if record.restored_at is not None}

    def _is_kept(self, period: Period, now: datetime) -> bool:
        """Whether a route that has a transaction in the period wants it kept."""
        until = self._kept.get(period.name, period.ends)
        if until is None or now < until:
            return True
        routes = self._policy.routes
        names = {route.name for route in (*routes.listed, routes.default)}
        over = {name for name in names if self._is_over(period, name, now)}
        if routes.default.name in over:
            # So are those of routes that are no longer configured.
            keeper = self._periods.follows(period, names - over, among=True)
        else:
            keeper = self._periods.follows(period, over, among=False)
        if keeper is None:
            return False
        limit = routes.retention(keeper)
        self._kept[period.name] = None if limit is None else period.ends + limit
        return True

    def _is_over(self, period: Period, route: str, now: datetime) -> bool:
        limit = self._policy.routes.retention(route)
        return limit is not None and period.ends + limit <= now

    # -- how --

    def _tried(self, period: Period) -> Done | Failed:
        try:
            return self._archive(period)
        except (DependencyError, ConfigError):
            raise
        except InterlockError as exc:
            if isinstance(exc, (ArchiveDamaged, BrokenHistory)):
                self._left_alone[period.name] = self._now() + _LEFT_ALONE
            return Failed(period, exc)

    def _archive(self, period: Period) -> Done:
        """Raises ArchiveDamaged, BrokenHistory, ConflictError, and what the steps raise."""
        started = time.monotonic()
        for _ in range(_TRIES):
            without_end = self._periods.open(period)
            if without_end:
                raise ConflictError(f"{without_end} transactions of {period.name} are without an end; it stays")
            self._periods.free(period)
            manifest = self._vouched(period)
            record = None if manifest is None else self.archivist.record(manifest)
            if self._periods.drop(period, record):
                return Done(period, manifest, time.monotonic() - started)
            _log.info("changed while it was archived", period=period.name)
        raise ConflictError(f"{period.name} changes all the time; it stays until the next run")

    def _vouched(self, period: Period) -> Manifest | None:
        """An archive that has the rows of a period as they are now, and was read back; None: there are no rows.

        Raises ArchiveDamaged, BrokenHistory, ConflictError.
        """
        base = f"interlock-{self._policy.region}-{period.begins:%Y%m%d}-{period.ends:%Y%m%d}"
        # An archive that has rows which are nowhere else keeps its name, also where the target has lost it.
        taken = {name for name, record in self.archivist.records().items() if record.restored_at is None}
        for number in range(1, _NAMES_MAX + 1):
            name = base if number == 1 else f"{base}-{number}"
            if name in taken:
                continue
            written = False
            try:
                found = self._found(name)
                with self._periods.extract(period) as extract:
                    if _is_empty(extract.fingerprint):
                        return None
                    if found is not None and not self._will_do(found, period, extract.fingerprint):
                        continue
                    written = found is None
                    manifest = found or self.archivist.write(name, period, extract, self._policy.key)
                self.archivist.vouch(manifest)
            except ArchiveDamaged as exc:
                if written:
                    raise
                _log.error("damaged", archive=name, where=self._target.where, error=str(exc))
                continue
            return manifest
        raise ConflictError(
            f"{self._target.where} has {_NAMES_MAX} archives {base}, and none of them has the rows as they are; "
            "`interlock archive verify` says what is wrong with them: move them elsewhere"
        )

    def _found(self, name: str) -> Manifest | None:
        """An archive that an earlier attempt wrote. Raises ArchiveDamaged where its manifest cannot be trusted."""
        try:
            return self.archivist.manifest(name)
        except UnknownArchive:
            return None

    def _will_do(self, found: Manifest, period: Period, fingerprint: Fingerprint) -> bool:
        """Whether an archive is what would be written now."""
        key = None if self._policy.key is None else self._policy.key.id
        return found.key == key and self.archivist.stands_for(found, period, fingerprint)

    # -- again --

    def drop(self, name: str, *, anew: bool = False) -> Done:
        """Take the rows of a restored archive away again.

        anew: archive them again where something was written to them since, or where the archive is not as it was.
        Raises UnknownArchive, ConflictError (they are not restored, or have changed), ArchiveDamaged.
        """
        with self._periods.alone():
            record, period = self.archivist.restored(name)
            try:
                return self._dropped(record, period)
            except (ArchiveDamaged, UnknownArchive, ConflictError):
                if not anew:
                    raise
            return self._archive(period)

    def _dropped(self, record: ArchivedPeriod, period: Period) -> Done:
        """A restored period, gone again; its archive is seen to be whole."""
        started = time.monotonic()
        manifest = self.archivist.manifest(record.name)
        if self.archivist.record(manifest).digest != record.digest:
            raise ConflictError(
                f"the rows of {record.name} stay: what {self._target.where} has of that name is not the archive that "
                "they came from; with --anew they are archived again, and dropped"
            )
        self.archivist.vouch(manifest)
        if not self._periods.drop(period, record):
            raise ConflictError(
                f"the rows of {record.name} stay: something was written to them since they were restored; "
                "with --anew they are archived again, and dropped"
            )
        return Done(period, manifest, time.monotonic() - started)


def _is_empty(fingerprint: Fingerprint) -> bool:
    return fingerprint.marks == _EMPTY and not (fingerprint.events or fingerprint.bodies or fingerprint.payments)


def _tell(outcome: Done | Failed) -> None:
    period = outcome.period.name
    if isinstance(outcome, Failed):
        _log.error("not archived", period=period, error=str(outcome.error))
    elif outcome.manifest is None:
        _log.info("dropped an empty period", period=period)
    else:
        kept, seconds = outcome.manifest, round(outcome.seconds, 1)
        _log.info(
            "archived", period=period, archive=kept.name, rows=kept.rows, bytes=kept.stored.bytes, seconds=seconds
        )
