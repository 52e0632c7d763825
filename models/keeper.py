"""A home's keeper, as a program that may be stopped, or sleep for any time, between any two of its steps.

What it does next is `rules.next_step`'s; this is how Drop, Admit, Fence and Resume are done: points 2, 3 and 5 of
`docs/decisions/0012-regions.md`.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from interlock.regions import rules
from interlock.regions.rules import Admit, Drop, Entry, Fence, Peer, Post, Resume


class Keeper(NamedTuple):
    """How far a keeper is, and what it has read: of two, each has its own."""

    at: str = "idle"
    post: Post = Post()
    entry: Entry = Entry()
    peer: int = 0
    #: Where in the home's log its change of the post was committed.
    position: int = -1


class Scene(NamedTuple):
    """What a keeper finds this moment."""

    post: Post
    entry: Entry
    #: How far each peer has the home's log on disk.
    flushed: Mapping[int, int]
    #: Peers that have all tables, and the record of the home's last takeover.
    ready: Collection[int]
    wanted: Collection[int]
    #: The home has the record of completion of its last takeover.
    informed: bool
    #: Where the next change is committed.
    end: int


class Did(NamedTuple):
    """A step of a keeper: itself, the post and the entry afterwards."""

    text: str
    keeper: Keeper
    post: Post
    entry: Entry


#: What can be planted here.
BUGS = {
    "removal_same_version": "removing a peer that is no member makes no new version",
    "drop_post_first": "a guard leaves the post before it is removed at the witness",
    "drop_blind": "a guard leaves the post whatever the epoch is now",
    "admit_same_epoch": "taking in a peer that is a guard already makes no new epoch",
    "admit_blind": "a peer is added at the witness whatever the version is now",
    "admit_late_version": "the version is read again just before the peer is added",
    "admit_unflushed": "a peer is added at the witness before it has flushed the change of the post",
    "admit_witness_first": "a peer is added at the witness before it is in the post",
}
RETURN_BUGS = {
    "fence_blind": "the generation is taken into the post whatever the epoch is now",
    "return_blind": "the entry is cleared whatever its version is now, and whoever took over since",
}


def keeper_steps(keeper: Keeper, scene: Scene, bug: str, *, at_once: bool = False) -> Iterator[Did]:
    """Whatever this keeper may do next. at_once: it reads the post and the entry in one step."""
    if at_once and keeper.at == "idle":
        yield from _choose(keeper._replace(post=scene.post), scene, bug)
        return
    if keeper.at != "idle":
        yield Did("is stopped and begins anew", Keeper(), scene.post, scene.entry)
    yield from _PROGRAM[keeper.at](keeper, scene, bug)


def _look(keeper: Keeper, scene: Scene, _: str) -> Iterator[Did]:
    yield Did("reads the post", keeper._replace(at="read", post=scene.post), scene.post, scene.entry)


def _choose(keeper: Keeper, scene: Scene, bug: str) -> Iterator[Did]:
    entry = scene.entry
    steps = set()
    for sick in ((), *((peer,) for peer in sorted(scene.wanted))):
        peers = {peer: Peer(healthy=peer not in sick, ready=peer in scene.ready) for peer in scene.wanted}
        steps.add(rules.next_step(keeper.post, entry, peers, scene.wanted, informed=scene.informed))
    for step in sorted(steps - {None}, key=str):
        did = keeper._replace(entry=entry)
        match step:
            case Drop(peer):
                first = "leave" if bug == "drop_post_first" else "remove"
                did = did._replace(at=first, peer=peer)
            case Admit(peer):
                first = "add" if bug == "admit_witness_first" else "put"
                did = did._replace(at=first, peer=peer, position=-1)
            case Fence(post):
                did = did._replace(at="fence", position=post.epoch)
            case Resume():
                did = did._replace(at="resume")
        yield Did(f"reads the entry, and is to do {step}", did, scene.post, scene.entry)


def _remove(keeper: Keeper, scene: Scene, bug: str) -> Iterator[Did]:
    if scene.entry.version != keeper.entry.version:
        return
    entry = rules.removed(scene.entry, keeper.peer)
    if entry is None:
        return
    if bug == "removal_same_version" and keeper.peer not in scene.entry.members:
        entry = scene.entry
    after = Keeper() if bug == "drop_post_first" else keeper._replace(at="leave")
    yield Did(f"removes {keeper.peer} at the witness", after, scene.post, entry)


def _leave(keeper: Keeper, scene: Scene, bug: str) -> Iterator[Did]:
    if scene.post.epoch == keeper.post.epoch or bug == "drop_blind":
        post = scene.post.change(scene.post.guards - {keeper.peer})
        after = keeper._replace(at="remove") if bug == "drop_post_first" else Keeper()
        yield Did(f"takes {keeper.peer} out of the post", after, post, scene.entry)


def _put(keeper: Keeper, scene: Scene, bug: str) -> Iterator[Did]:
    if scene.post.epoch != keeper.post.epoch:
        return
    post = scene.post.change(scene.post.guards | {keeper.peer})
    if bug == "admit_same_epoch" and keeper.peer in scene.post.guards:
        post = scene.post
    after = keeper._replace(at="add", position=scene.end)
    if bug == "admit_witness_first":
        after = Keeper()
    yield Did(f"puts {keeper.peer} into the post", after, post, scene.entry)


def _add(keeper: Keeper, scene: Scene, bug: str) -> Iterator[Did]:
    waits = keeper.position >= 0 and bug != "admit_unflushed"
    if waits and (scene.flushed[keeper.peer] < min(keeper.position, scene.end - 1) or keeper.peer not in scene.ready):
        return
    blind = bug in ("admit_blind", "admit_late_version")
    if scene.entry.version != keeper.entry.version and not blind:
        return
    base = keeper.entry._replace(taker=scene.entry.taker) if bug == "admit_blind" else scene.entry
    entry = rules.added(base, keeper.peer)
    if entry is not None:
        after = keeper._replace(at="put") if bug == "admit_witness_first" else Keeper()
        yield Did(f"adds {keeper.peer} at the witness", after, scene.post, entry)


def _fence(keeper: Keeper, scene: Scene, bug: str) -> Iterator[Did]:
    post = rules.fenced(keeper.post, keeper.entry)
    if post is not None and (scene.post.epoch == keeper.post.epoch or bug == "fence_blind"):
        yield Did("takes the takeover's generation into the post, fenced", Keeper(), post, scene.entry)


def _resume(keeper: Keeper, scene: Scene, _: str) -> Iterator[Did]:
    if scene.post.epoch == keeper.post.epoch:
        after = keeper._replace(at="return", post=rules.resumed(scene.post))
        yield Did("knows everything: resumes", after, after.post, scene.entry)


def _return(keeper: Keeper, scene: Scene, bug: str) -> Iterator[Did]:
    entry: Entry | None
    if bug == "return_blind":
        entry = scene.entry._replace(members=frozenset(), taker=None, version=scene.entry.version + 1)
    elif scene.entry.version != keeper.entry.version:
        return
    else:
        entry = rules.returned(scene.entry, keeper.entry.generation)
    if entry is not None:
        yield Did("tells the witness that it is back", Keeper(), scene.post, entry)


_PROGRAM = {
    "idle": _look,
    "read": _choose,
    "remove": _remove,
    "leave": _leave,
    "put": _put,
    "add": _add,
    "fence": _fence,
    "resume": _resume,
    "return": _return,
}
