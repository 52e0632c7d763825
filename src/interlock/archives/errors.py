"""What can be wrong with archives, besides a target that is out of reach (DependencyError) or ill set (ConfigError)."""

from interlock.errors import ConfigError, ConflictError, InterlockError, RequestError


class ArchiveDamaged(InterlockError):
    """What is stored is not what was written. Its rows must not be used, nor what it was made from be dropped."""


class ArchiveExists(ConflictError):
    """There is a finished archive of this name, and a finished one is never written again: verify that one."""


class UnknownArchive(RequestError):
    """The target has no such archive or file."""


class KeyMissing(ConfigError):
    """An archive is encrypted with a key that was not given."""
