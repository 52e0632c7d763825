r"""Encryption of archives: keys, the sealed stream, and the code that keeps a manifest honest.

A key is 32 random bytes in a file. It is never used itself: each archive has keys of its own, derived by HKDF-SHA-256
from the key and a random salt, so that nonces can be counted and are never used twice, however many archives there are.

A sealed stream is a header and chunks of `CHUNK_BYTES`, each encrypted by AES-256-GCM:

    header   "interlock sealed 1\n", key id (8 bytes), salt (32), length of the name (2, big-endian), name
    chunk    ciphertext, tag (16 bytes)
    nonce    number of the chunk from 0 (11 bytes, big-endian), 1 if it is the last one, else 0
    associated data    the header

So a chunk that was altered, moved, left out, doubled, or taken from another archive does not open, a stream that was
cut off has no last chunk, and the header cannot be changed either.
Source: the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015), as age and Tink use it.

The manifest stays readable, so that archives can be listed without a key: it tells names of tables, counts, sizes and
digests, and no row. A code over its bytes by HMAC-SHA-256, under a key derived likewise, keeps it from being altered.
"""

import hmac
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from interlock.archives.errors import ArchiveDamaged, KeyMissing
from interlock.archives.format import Source
from interlock.errors import ConfigError

CHUNK_BYTES = 1 << 20
_KEY_BYTES = 32
_TAG_BYTES = 16
_MAGIC = b"interlock sealed 1\n"
_ID_BYTES = 8
_SALT_BYTES = 32
_FIXED_BYTES = len(_MAGIC) + _ID_BYTES + _SALT_BYTES + 2


@dataclass(frozen=True, slots=True)
class Key:
    """A key for archives. Its id is public, and tells nothing of the key."""

    secret: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse what is no key."""
        if len(self.secret) != _KEY_BYTES:
            raise ConfigError(f"an archive key has {_KEY_BYTES} bytes, not {len(self.secret)}")

    @classmethod
    def load(cls, path: Path) -> "Key":
        """The key in a file. Raises ConfigError."""
        try:
            with path.open("rb") as file:
                secret = file.read(_KEY_BYTES + 1)
        except OSError as exc:
            raise ConfigError(f"the archive key {path} cannot be read: {exc.strerror}") from exc
        if len(secret) != _KEY_BYTES:
            raise ConfigError(
                f"the archive key {path} must hold {_KEY_BYTES} random bytes and nothing else, "
                f"such as `openssl rand -out FILE {_KEY_BYTES}` writes"
            )
        return cls(secret)

    @property
    def id(self) -> str:
        """The first 8 bytes of the key's SHA-256, in hex."""
        return sha256(self.secret).digest()[:_ID_BYTES].hex()

    def code(self, manifest: bytes) -> str:
        """What shows that this key's holder wrote a manifest."""
        return hmac.new(self.derived(b"interlock archive manifest 1"), manifest, sha256).hexdigest()

    def derived(self, purpose: bytes, salt: bytes | None = None) -> bytes:
        """A key for one purpose and salt alone."""
        return HKDF(hashes.SHA256(), _KEY_BYTES, salt, purpose).derive(self.secret)


class KeyRing:
    """The keys that archives can be read with: today's and those of former times."""

    def __init__(self, keys: Iterable[Key] = (), *, required: bool = False) -> None:
        """required: refuse what is not encrypted.

        Anybody who can write to the target can put a plain archive in the place of an encrypted one, with whatever rows
        he likes. Set it once no plain archive is left.
        """
        self._keys = {key.id: key for key in keys}
        self.required = required

    def get(self, key_id: str) -> Key:
        """The key of this id. Raises KeyMissing."""
        try:
            return self._keys[key_id]
        except KeyError:
            given = ", ".join(self._keys) or "none"
            raise KeyMissing(
                f"the archive is encrypted with the key {key_id}, which is not among the keys given ({given})"
            ) from None


class Sealer:
    """Encrypts a stream for the archive `name`; `write` what comes, then `finish`."""

    def __init__(self, key: Key, name: str, store: Callable[[bytes], None]) -> None:
        """store: takes what is sealed."""
        salt = os.urandom(_SALT_BYTES)
        encoded = name.encode()
        self._header = _MAGIC + bytes.fromhex(key.id) + salt + len(encoded).to_bytes(2) + encoded
        self._cipher = _cipher(key, salt)
        self._store = store
        self._number = 0
        self._held = bytearray()
        store(self._header)

    def write(self, data: bytes) -> None:
        """Seal every full chunk that cannot be the last one."""
        self._held += data
        while len(self._held) > CHUNK_BYTES:
            self._seal(bytes(self._held[:CHUNK_BYTES]), last=False)
            del self._held[:CHUNK_BYTES]

    def finish(self) -> None:
        """Seal what is left as the last chunk."""
        self._seal(bytes(self._held), last=True)

    def _seal(self, chunk: bytes, *, last: bool) -> None:
        self._store(self._cipher.encrypt(_nonce(self._number, last=last), chunk, self._header))
        self._number += 1


class Unsealed:
    """The stream that a `Sealer` took, chunk by chunk: nothing is given out before it was authenticated.

    Raises ArchiveDamaged.
    """

    def __init__(self, source: Source, key: Key, name: str) -> None:
        """name: of the archive that this must be."""
        self._source = source
        fixed = self._read(_FIXED_BYTES)
        if len(fixed) < _FIXED_BYTES or not fixed.startswith(_MAGIC):
            raise ArchiveDamaged("it does not begin as an encrypted archive, which its manifest says it is")
        key_id, salt = fixed[len(_MAGIC) : -_SALT_BYTES - 2].hex(), fixed[-_SALT_BYTES - 2 : -2]
        if key_id != key.id:
            raise ArchiveDamaged(f"it was encrypted with the key {key_id}, and its manifest says {key.id}")
        encoded = self._read(int.from_bytes(fixed[-2:]))
        if encoded != name.encode():
            raise ArchiveDamaged(f"it was encrypted as the archive {encoded.decode(errors='replace')!r}")
        self._header = fixed + encoded
        self._cipher = _cipher(key, salt)
        self._number = 0
        self._ahead = self._read(CHUNK_BYTES + _TAG_BYTES)
        self._ended = False
        self._open = memoryview(b"")

    def read(self, size: int) -> bytes:
        """At most `size` bytes."""
        while not self._open and not self._ended:
            self._open = memoryview(self._next())
        taken, self._open = self._open[:size], self._open[size:]
        return bytes(taken)

    def _next(self) -> bytes:
        chunk, self._ahead = self._ahead, self._read(CHUNK_BYTES + _TAG_BYTES)
        self._ended = not self._ahead
        try:
            opened = self._cipher.decrypt(_nonce(self._number, last=self._ended), chunk, self._header)
        except InvalidTag:
            raise ArchiveDamaged(self._why(chunk)) from None
        self._number += 1
        return opened

    def _why(self, chunk: bytes) -> str:
        """What is wrong with a chunk that does not open as it should."""
        try:
            self._cipher.decrypt(_nonce(self._number, last=not self._ended), chunk, self._header)
        except InvalidTag:
            return f"its chunk {self._number} does not open: it was altered, cut, or is not of this place"
        if self._ended:
            return f"it is cut off after chunk {self._number}, which is not the last one"
        return f"something follows chunk {self._number}, which is the last one"

    def _read(self, size: int) -> bytes:
        """Exactly `size` bytes unless the source ends before."""
        parts: list[bytes] = []
        while size and (part := self._source.read(size)):
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def _cipher(key: Key, salt: bytes) -> AESGCM:
    return AESGCM(key.derived(b"interlock archive chunks 1", salt))


def _nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11) + bytes((last,))
