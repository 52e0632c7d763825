"""`interlock profiles`: market practices that messages are held to. No server is needed."""

import os
from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from interlock.cli.exits import Exit
from interlock.cli.options import AsJson, ConfigFile
from interlock.cli.printing import complain, console, emit, fields, say, table
from interlock.cli.service import effective

if TYPE_CHECKING:
    from interlock.iso20022.findings import Finding
    from interlock.iso20022.profiles import Edition, Profile, Profiles
    from interlock.iso20022.schemas import Catalogue

profiles = typer.Typer(help="Market practices: list, show, test.", no_args_is_help=True)

Folder = Annotated[
    Path | None,
    typer.Option("--folder", help="Folder of your own profiles; without it, the configuration's.", show_default=False),
]
Day = Annotated[
    datetime | None,
    typer.Option("--on", formats=["%Y-%m-%d"], help="As on this day; without it, today.", show_default=False),
]
Name = Annotated[str, typer.Argument(help="Name of the profile.", show_default=False)]


@profiles.command("list")
def list_profiles(*, folder: Folder = None, on: Day = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """List the profiles, ours and your own, with the edition that holds."""
    day = _day(on)
    found = _profiles(_folder(folder, config))
    if as_json:
        for profile in found:
            editions = [edition.name for edition in profile.editions_on(day) if edition.name]
            whose = "interlock" if profile.is_ours else "own"
            emit({"profile": profile.name, "title": profile.title, "editions": editions, "from": whose})
        return
    rows = (
        (
            profile.name,
            profile.title,
            ", ".join(edition.name for edition in profile.editions_on(day)),
            _seconds(profile.sla_fact.seconds) if profile.sla_fact else "",
            "interlock" if profile.is_ours else "own",
        )
        for profile in found
    )
    table(("profile", "what it is", "edition", "SLA", "from"), rows, empty="no profiles")


@profiles.command()
def show(
    name: Name, *, folder: Folder = None, on: Day = None, config: ConfigFile = None, as_json: AsJson = False
) -> None:
    """Show everything that a profile says on a day, each fact with its source and how sure it is.

    P: the scheme's own text was read; S: second-hand; W: weak; D: derived; U: not verified; own: the profile's author.
    What is marked W or U only warns, unless the profile says otherwise.
    """
    from interlock.iso20022.profiles.profile import source_of
    from interlock.iso20022.profiles.telling import told

    profile = _profiles(_folder(folder, config)).named(name)
    edition = profile.editions_on(_day(on))[0]
    if as_json:
        for one in told(profile, edition):
            source = source_of(one.fact, profile.sources)
            mark = str(one.fact.mark or source.mark)
            emit({"kind": one.kind, "says": one.text, "weight": one.weight, "mark": mark, "source": source.text})
        return
    whose = "Interlock" if profile.is_ours else "you"
    fields(
        [("profile", profile.name), ("title", profile.title), ("text", profile.text), ("extends", profile.extends),
         ("edition", _dated(edition)), ("others", ", ".join(_dated(e) for e in profile.editions if e is not edition)),
         ("from", whose)]
    )  # fmt: skip
    say("")
    rows = []
    for one in told(profile, edition):
        source = source_of(one.fact, profile.sources)
        rows.append((one.kind, one.text, one.weight, one.fact.mark or source.mark, source.text))
    table(("kind", "what it says", "weight", "mark", "source"), rows, empty="It demands nothing of its own.")


@profiles.command("test")
def hold_to(
    name: Annotated[
        str | None, typer.Argument(help="Name of the profile; without it, all.", show_default=False)
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Argument(help="Messages, or folders of them; without any, its own examples.", show_default=False),
    ] = None,
    *,
    folder: Folder = None,
    on: Day = None,
    schemas: Annotated[
        Path | None,
        typer.Option(envvar="INTERLOCK_SCHEMAS", help="Folder of your own XSDs, which come first.", show_default=False),
    ] = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Hold messages to a profile: its own examples against what they expect, or any files; without a name, to all.

    A folder with an expected.toml is a set of examples. Told is also which demands are on elements that no version has.
    Exit code 1 for such a demand and if an example is not as expected, 2 if another message is invalid.
    """
    user = _folder(folder, config)
    known = _profiles(user)
    judge = _Judge(known, schemas or effective(config).schemas, _day(on), as_json=as_json)
    if files:
        for path in files:
            judge.look_at(known.named(name or ""), path)
    elif name is not None:
        judge.own_examples(known.named(name), user)
    else:
        for profile in known:
            judge.own_examples(profile, user, alone=False)
    raise typer.Exit(judge.exit)


class _Judge:
    """Holds messages to profiles and tells what it finds."""

    def __init__(self, known: "Profiles", schemas: Path | None, day: date, *, as_json: bool) -> None:
        self._profiles, self._day, self._as_json = known, day, as_json
        self._catalogue = _catalogue(schemas)
        self._unexpected = self._invalid = self._examples = 0

    @property
    def exit(self) -> Exit:
        """How the command ends."""
        if self._examples and not self._as_json:
            say(f"{self._examples - self._unexpected} of {self._examples} examples are as expected")
        return Exit.FAILED if self._unexpected else Exit.INVALID if self._invalid else Exit.OK

    def look_at(self, profile: "Profile", path: Path) -> None:
        """A message, a folder of messages, or one of examples."""
        from interlock.iso20022.profiles.examples import EXPECTED

        if not path.is_dir():
            self._message(profile, path)
        elif (path / EXPECTED).exists():
            self._examples_in(profile, path)
        else:
            messages = sorted(path.glob("*.xml"))
            for file in messages:
                self._message(profile, file)
            if not messages:
                complain(f"there is no *.xml file in {path}")
                self._invalid += 1

    def demands(self, profile: "Profile") -> None:
        """Whether each is on an element that there is."""
        from interlock.cli.strays import strays

        for stray in strays(profile, self._catalogue):
            self._unexpected += 1
            if self._as_json:
                emit({"profile": profile.name, "demand": stray, "as_expected": False})
            else:
                complain(f"{profile.name}: {stray} is in no version of these messages; is it misspelt?")

    def own_examples(self, profile: "Profile", user: Path | None, *, alone: bool = True) -> None:
        """Those that come with a profile. alone: it is asked for them; else it may have none."""
        from interlock.iso20022.profiles import examples

        self.demands(profile)
        folder = examples.folder_of(profile, user)
        if alone or folder.exists():
            self._examples_in(profile, folder)
        elif not self._as_json:
            say(f"{profile.name} has no examples")

    def _examples_in(self, profile: "Profile", folder: Path) -> None:
        """Those in a folder, each on its own day."""
        from interlock.iso20022.profiles import examples

        for example in examples.read(folder):
            _, findings = self._judge(profile, example.path, example.on)
            wrong = example.missing(findings)
            self._examples += 1
            self._unexpected += bool(wrong)
            if self._as_json:
                emit(
                    {
                        "profile": profile.name,
                        "file": str(example.path),
                        "on": f"{example.on}",
                        "as_expected": not wrong,
                        "wrong": wrong,
                    }
                )
                continue
            console().print("wrong" if wrong else "ok   ", style="red" if wrong else "green", end="  ")
            console().print(example.path)
            for line in wrong:
                say(f"       {line}")

    def _message(self, profile: "Profile", path: Path) -> None:
        valid, findings = self._judge(profile, path, self._day)
        self._invalid += valid is not True
        if self._as_json:
            listed = [
                {"severity": str(f.severity), "rule": f.rule, "reason": f.reason, "xpath": f.xpath, "line": f.line,
                 "text": f.text} for f in findings
            ]  # fmt: skip
            emit({"file": str(path), "valid": valid, "findings": listed})
            return
        word, style = {True: ("valid", "green"), False: ("invalid", "red"), None: ("unknown", "yellow")}[valid]
        console().print(word, style=style, end="  ")
        console().print(path)
        for finding in findings:
            say(f"  {finding.severity} {finding.rule} ({finding.reason}): {finding.text}")
            say(f"      at {finding.xpath}" + ("" if finding.line is None else f", line {finding.line}"))

    def _judge(self, profile: "Profile", path: Path, day: date) -> "tuple[bool | None, Sequence[Finding]]":
        from interlock.inspection import inspect
        from interlock.iso20022.envelopes import Limits

        try:
            content = path.read_bytes()
        except OSError as exc:
            complain(f"{path} cannot be read: {exc.strerror or exc}")
            return None, ()
        inspection = inspect(
            content, self._catalogue, limits=Limits(), today=day, profiles=self._profiles, profile=profile.name
        )
        return inspection.valid, inspection.findings


def _folder(folder: Path | None, config: Path | None) -> Path | None:
    return folder or effective(config).profiles.folder


def _profiles(folder: Path | None) -> "Profiles":
    from interlock.iso20022.profiles import Profiles

    return Profiles.load(folder)


def _catalogue(schemas: Path | None) -> "Catalogue":
    from interlock.iso20022.schemas import Catalogue

    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return Catalogue(cache=base / "interlock" / "schemas", user=schemas)


def _day(on: datetime | None) -> date:
    return (on or datetime.now(UTC)).date()  # noqa: TID251 - a command's own clock


def _dated(edition: "Edition") -> str:
    if edition.valid_from is None and edition.valid_until is None:
        return edition.name
    days = f"{edition.valid_from or ''} to {edition.valid_until or ''}".strip()
    return f"{edition.name} ({days})"


def _seconds(seconds: float) -> str:
    return f"{seconds:g} s"
