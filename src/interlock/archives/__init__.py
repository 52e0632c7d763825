"""Archives: one period of rows as one object that can be checked for ever, in a folder or an S3-compatible store.

    rows ─▶ frames ─▶ zstd ─▶ sealed chunks, if there is a key ─▶ target
            content                                      stored

`format` turns sections of rows into content and back, `sealing` encrypts, `manifest` says what was written, `targets`
and `s3` keep files, and `archive` joins them. Everything streams: memory does not grow with the period.

    manifest = archives.write(target, "2026-11-22", facts, sections, key)
    assert not list(archives.verify(target, "2026-11-22", keys))
    for section in archives.read(target, "2026-11-22", keys): ...

An archive is two files. `NAME.TOKEN.zst` (`.sealed` where encrypted) has the rows; the token is drawn anew for each
attempt, so that no attempt ever touches what another one wrote. `NAME.json`, the manifest, is written last and once:
with it the archive is there, without it there is none, whatever else a crash has left.

Must not know: what the rows mean, which database they are of, and when a period has expired.
"""

from interlock.archives.archive import Listing, listing, manifest_of, read, verify, write
from interlock.archives.errors import ArchiveDamaged, ArchiveExists, UnknownArchive
from interlock.archives.format import Row, Section, Table, Value
from interlock.archives.manifest import Facts, Manifest, Measure, Period
from interlock.archives.sealing import Key, KeyRing
from interlock.archives.targets import Folder, LockMode, ObjectLock, Target, open_target

__all__ = [
    "ArchiveDamaged",
    "ArchiveExists",
    "Facts",
    "Folder",
    "Key",
    "KeyRing",
    "Listing",
    "LockMode",
    "Manifest",
    "Measure",
    "ObjectLock",
    "Period",
    "Row",
    "Section",
    "Table",
    "Target",
    "UnknownArchive",
    "Value",
    "listing",
    "manifest_of",
    "open_target",
    "read",
    "verify",
    "write",
]
