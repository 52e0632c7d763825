"""Good messages to begin with: the samples of the tests, of the profiles and of the demo, requests, and real ones."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Final

from interlock.demo.messages import Author
from interlock.iso20022.profiles.loading import folder_of_ours
from tests.enquiries import Ids, request
from tests.messages import Transfer, pacs008

_ROOT: Final = Path(__file__).parents[1]
#: Messages of others, where they are at hand; they are never needed.
_ORACLE: Final = _ROOT.parent / "shared" / "iso20022" / "samples"
#: Larger ones make every case slow and show nothing that smaller ones do not.
_BYTES_MAX: Final = 30_000
_REQUESTS: Final = (
    "pacs.028.001.03", "camt.056.001.08", "camt.055.001.08", "camt.026.001.07", "camt.027.001.07", "camt.087.001.06",
    "camt.110.001.01",
)  # fmt: skip


@cache
def messages(*, oracle: bool = True) -> tuple[bytes, ...]:
    """All of them, in the same order each time. oracle: with the messages of others, if there are any."""
    found = dict.fromkeys([*_ours(), *(_others() if oracle else ())])
    return tuple(content for content in found if len(content) <= _BYTES_MAX)


@cache
def profiles() -> tuple[bytes, ...]:
    """The files of the profiles that come with Interlock."""
    return tuple(path.read_bytes() for path in sorted(folder_of_ours().glob("*.toml")))


def _ours() -> Iterator[bytes]:
    for folder, form in ((_ROOT / "tests" / "samples", "*.xml"), (folder_of_ours(), "*/examples/*.xml")):
        for path in sorted(folder.glob(form)):
            yield path.read_bytes()
    author = Author(datetime(2026, 6, 1, 9, 30, tzinfo=UTC))
    yield author.pacs008(header=True).content
    yield author.pacs008(author.transfer(), author.transfer(), style="crossborder").content
    yield author.pacs009(header=True).content
    yield author.pain001([author.transfer(), author.transfer()], [author.transfer()]).content
    yield author.pacs002().content
    names = (
        {
            "end_to_end_id": f"E-{number}",
            "transaction_id": f"T-{number}",
            "uetr": f"{number:08}-0000-4000-8000-0123456789ab",
        }
        for number in range(5)
    )
    yield pacs008(*(Transfer(**one) for one in names), message_id="M-1")
    for definition in _REQUESTS:
        yield request(definition, Ids())


def _others() -> Iterator[bytes]:
    for path in sorted(_ORACLE.glob("*.xml")):
        yield path.read_bytes()
