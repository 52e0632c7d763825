"""The command line as it is typed: real processes, real files, a real server."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import chdir, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import apsw
import psutil
import pytest
import zstandard
from lxml import etree
from typer.testing import CliRunner

from interlock.cli import app
from interlock.cli.exits import Exit
from interlock.demo.messages import BAD_IBAN, Author, Message
from interlock.demo.scenario import LARGE
from tests.acceptance.conftest import settings_for
from tests.messages import Transfer, pacs008

pytestmark = pytest.mark.timeout(120)

UNKNOWN = "01980000-0000-7000-8000-000000000000"


@dataclass(frozen=True)
class Done:
    """What a command left behind."""

    returncode: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class Shell:
    """Types commands in a folder, with no settings but its own."""

    folder: Path
    settings: dict[str, str]

    def environment(self) -> dict[str, str]:
        """What a newcomer has, and our own settings."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
        return inherited | self.settings

    def run(self, *arguments: str, stdin: bytes = b"") -> Done:
        """Run a command to its end; in this process, for a new one takes a second to load what it needs."""
        with chdir(self.folder):
            result = CliRunner().invoke(app, arguments, input=stdin, env=self.settings)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Done(result.exit_code, result.stdout_bytes, result.stderr_bytes)

    def lines(self, *arguments: str) -> list[dict[str, Any]]:
        """What a command that must succeed prints as JSON, line by line."""
        done = self.run(*arguments, "--json")
        assert done.returncode == 0, done.stderr.decode()
        return [json.loads(line) for line in done.stdout.splitlines()]

    def one(self, *arguments: str) -> dict[str, Any]:
        """The one object that a command that must succeed prints."""
        (found,) = self.lines(*arguments)
        return found

    def write(self, name: str, message: Message | bytes) -> str:
        """A file with a message; its name."""
        content = message if isinstance(message, bytes) else message.content
        (self.folder / name).write_bytes(content)
        return name

    @contextmanager
    def serving(self, *arguments: str) -> Iterator["Running"]:
        """A server in the folder, on a free port."""
        process = subprocess.Popen(
            [sys.executable, "-m", "interlock.cli", "serve", "--port", "0", *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.folder, env=self.environment(), text=True,
        )  # fmt: skip
        try:
            assert process.stdout is not None  # it is a pipe
            yield Running(process, process.stdout.readline())
        finally:
            if process.poll() is None:
                process.kill()
            process.communicate()


@dataclass(frozen=True)
class Running:
    """A server and the line that it printed when it was ready."""

    process: subprocess.Popen[str]
    line: str

    @property
    def url(self) -> str:
        """Where it listens."""
        found = re.search(r"http://[0-9.:]+", self.line)
        assert found is not None, self.line
        return found[0]


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path, {})


@pytest.fixture
def author() -> Author:
    return Author(datetime.now(UTC))


def as_client(shell: Shell, url: str, *scopes: str) -> Shell:
    """A shell whose commands call a server, as a client just added."""
    options = [option for scope in scopes for option in ("--scope", scope)]
    client = shell.one("clients", "add", "somebody", *options)
    settings = {
        "INTERLOCK_URL": url,
        "INTERLOCK_CLIENT_ID": client["client_id"],
        "INTERLOCK_CLIENT_SECRET": client["client_secret"],
    }
    return Shell(shell.folder, settings)


@pytest.fixture
def either(request: pytest.FixtureRequest, store: str, tmp_path: Path) -> Iterator[Shell]:
    """A shell in whose folder the store is SQLite, or PostgreSQL."""
    with settings_for(request, store) as settings:
        yield Shell(tmp_path, {f"INTERLOCK_{name.upper()}": value for name, value in settings.of("own").items()})


# -- validate --


def verdicts(done: Done) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_validate_prints_an_object_a_file(shell: Shell, author: Author) -> None:
    """In the order given: file, verdict, definitions, findings with exactly the promised fields; exit code 2."""
    good = shell.write("good.xml", author.pacs008(header=True))
    bad = shell.write("bad.xml", author.pacs008(author.transfer(creditor_iban=BAD_IBAN)))
    done = shell.run("validate", good, bad, "--json")
    assert done.returncode == Exit.INVALID
    first, second = verdicts(done)
    definitions = ["head.001.001.02", "pacs.008.001.08"]
    judged = {"profile": "generic", "edition": None}
    assert first == {"file": good, "valid": True, "definitions": definitions, "findings": [], **judged}
    assert set(second) == {"file", "valid", "definitions", "findings", *judged}
    (finding,) = second["findings"]
    assert set(finding) == {"severity", "rule", "reason", "xpath", "line", "text", "payment"}
    assert (finding["severity"], finding["rule"], finding["reason"]) == ("error", "iban.creditor", "AC03")
    assert finding["xpath"].endswith("/CdtrAcct/Id/IBAN")
    lines = (shell.folder / bad).read_text().splitlines()
    assert BAD_IBAN in lines[finding["line"] - 1]
    assert BAD_IBAN not in finding["text"]


def test_validate_succeeds_only_if_all_are_valid(shell: Shell, author: Author) -> None:
    """Exit code 0 with good files alone, from the standard input too; nothing is left in the folder."""
    good = shell.write("good.xml", author.pain001([author.transfer()], [author.transfer()]))
    assert shell.run("validate", good, "-", stdin=author.pacs009().content).returncode == Exit.OK
    assert [file.name for file in shell.folder.iterdir()] == [good]


def test_the_installed_command_validates(shell: Shell, author: Author) -> None:
    """`interlock validate`, as it is installed, in a process of its own: verdict and exit code."""
    shell.write("bad.xml", author.pacs008(author.transfer(creditor_iban=BAD_IBAN)))
    command = [str(Path(sys.executable).with_name("interlock")), "validate", "bad.xml", "--json"]
    done = subprocess.run(command, capture_output=True, check=False, cwd=shell.folder, env=shell.environment())
    assert done.returncode == Exit.INVALID
    assert json.loads(done.stdout)["valid"] is False


def test_schema_only_leaves_business_rules_out(shell: Shell, author: Author) -> None:
    """A bad IBAN is no fault of the schema."""
    bad = shell.write("bad.xml", author.pacs008(author.transfer(creditor_iban=BAD_IBAN)))
    assert shell.run("validate", "--schema-only", bad).returncode == Exit.OK


def test_validate_never_guesses(shell: Shell, author: Author) -> None:
    """A definition without a schema here is null, neither valid nor invalid; and not a success."""
    future = shell.write("future.xml", author.pacs008().with_text("pacs.008.001.08", "pacs.008.001.99"))
    done = shell.run("validate", future, "--json")
    assert done.returncode == Exit.INVALID
    (found,) = verdicts(done)
    assert found["valid"] is None
    assert found["definitions"] == ["pacs.008.001.99"]


def test_validate_tells_unreadable_files_and_goes_on(shell: Shell, author: Author) -> None:
    """A file that is not there is named with the cause, has its line, and does not hide the next one."""
    good = shell.write("good.xml", author.pacs008())
    done = shell.run("validate", "nowhere.xml", "good.xml/inside.xml", good, "--json")
    assert done.returncode == Exit.INVALID
    assert b"nowhere.xml cannot be read: No such file or directory" in done.stderr
    assert b"Not a directory" in done.stderr
    assert [(found["file"], found["valid"]) for found in verdicts(done)] == [
        ("nowhere.xml", None), ("good.xml/inside.xml", None), (good, True),
    ]  # fmt: skip


def test_validate_looks_into_folders_on_all_cores(shell: Shell, author: Author) -> None:
    """Every XML file below, in the order of names; --quiet tells of what is wrong, and the last line sums up."""
    shell.folder.joinpath("inbox", "deep").mkdir(parents=True)
    names = [f"inbox/{number:02}.xml" for number in range(20)] + ["inbox/deep/last.xml"]
    for name in names:
        shell.write(name, author.pacs008())
    shell.write("inbox/notes.txt", b"not a message")
    shell.write("inbox/07.xml", author.pacs008().with_text("<ChrgBr>SLEV</ChrgBr>", "<ChrgBr>NONE</ChrgBr>"))
    told = verdicts(shell.run("validate", "inbox", "--json", "--jobs", "2"))
    assert [found["file"] for found in told] == sorted(names)
    assert [found["file"] for found in told if not found["valid"]] == ["inbox/07.xml"]
    done = shell.run("validate", "inbox", "--quiet", "--jobs", "2")
    assert done.returncode == Exit.INVALID
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("invalid  inbox/07.xml")
    assert lines[-1] == "21 files: 20 valid, 1 invalid"
    assert not any(line.startswith("valid") for line in lines)


def test_validate_writes_reports_for_machines(shell: Shell, author: Author) -> None:
    """SARIF for code review and JUnit for test runners, beside what is printed."""
    good = shell.write("good.xml", author.pacs008())
    bad = shell.write("b d.xml", author.pacs008().with_text("<ChrgBr>SLEV</ChrgBr>", "<ChrgBr>NONE</ChrgBr>"))
    done = shell.run("validate", good, bad, "nowhere.xml", "--sarif", "found.sarif", "--junit", "found.xml")
    assert done.returncode == Exit.INVALID
    (run,) = json.loads(shell.folder.joinpath("found.sarif").read_bytes())["runs"]
    first, second = run["results"]
    assert (first["ruleId"], first["level"], first["properties"]["reason"]) == ("schema.enumeration", "error", "FF01")
    place = first["locations"][0]
    assert place["physicalLocation"]["artifactLocation"]["uri"] == "b%20d.xml"
    line, column = (place["physicalLocation"]["region"][name] for name in ("startLine", "startColumn"))
    shown = shell.folder.joinpath("b d.xml").read_text().splitlines()[line - 1]
    assert shown[column - 1 :].startswith("<ChrgBr>NONE")
    assert place["logicalLocations"][0]["fullyQualifiedName"].endswith("/CdtTrfTxInf/ChrgBr")
    assert second["ruleId"] == "file.unreadable"
    assert {rule["id"] for rule in run["tool"]["driver"]["rules"]} == {first["ruleId"], "file.unreadable"}
    suite = etree.parse(shell.folder / "found.xml").find("testsuite")
    assert suite is not None
    assert [suite.get(name) for name in ("tests", "failures", "errors")] == ["3", "1", "1"]
    assert [[child.tag for child in case] for case in suite] == [[], ["failure"], ["error"]]


def test_validate_takes_files_of_any_name(shell: Shell, author: Author) -> None:
    """Bytes that are no text, and what a terminal would obey, are shown as what they are; the reports are whole."""
    for name in (b"bad\xfe.xml", b"bell\x07.xml"):
        written = shell.folder / shell.write("x.xml", author.pacs008())
        written.rename(os.fsdecode(os.fsencode(shell.folder) + b"/" + name))
    done = shell.run("validate", ".", "--json", "--sarif", "s.sarif", "--junit", "j.xml")
    assert done.returncode == Exit.OK
    assert [found["file"] for found in verdicts(done)] == ["bad\\xfe.xml", "bell\x07.xml"]
    (run,) = json.loads(shell.folder.joinpath("s.sarif").read_bytes())["runs"]
    assert [one["location"]["uri"] for one in run["artifacts"]] == ["bad%FE.xml", "bell%07.xml"]
    names = [case.get("name") for case in etree.parse(shell.folder / "j.xml").iter("testcase")]
    assert names == ["bad\\xfe.xml", "bell\\x07.xml"] == shell.run("validate", ".").stdout.decode().split()[1::3][:2]


def test_validate_tells_once_what_payments_share(shell: Shell) -> None:
    """A date of the whole message is wrong for all of its payments, at one place."""
    wrong = pacs008(*(Transfer() for _ in range(30))).replace(
        b"</NbOfTxs>", b"</NbOfTxs><IntrBkSttlmDt>2020-01-04</IntrBkSttlmDt>"
    )
    wrong = re.sub(rb"(</IntrBkSttlmAmt>)<IntrBkSttlmDt>[0-9-]+</IntrBkSttlmDt>", rb"\1", wrong)
    (found,) = verdicts(shell.run("validate", "-", "--json", stdin=wrong))
    [(rule, xpath, payment, payments)] = [
        (one["rule"], one["xpath"], one["payment"], one["payments"]) for one in found["findings"]
    ]
    assert (rule, payment, payments) == ("settlement_date.past", None, 30)
    assert xpath == "/Document/FIToFICstmrCdtTrf/GrpHdr/IntrBkSttlmDt"
    assert " (30 payments)\n" in shell.run("validate", "-", stdin=wrong).stdout.decode()


@pytest.fixture
def hearing_interrupts() -> Iterator[None]:
    """What a script runs in the background does not hear Ctrl-C, nor what that starts; tests may run so."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("hearing_interrupts")
@pytest.mark.parametrize("times", [1, 2])
def test_validate_ends_at_once_when_interrupted(shell: Shell, author: Author, times: int) -> None:
    """Ctrl-C goes to all processes, and may come twice; none of them stays, and nothing is said at length."""
    shell.folder.joinpath("inbox").mkdir()
    for number in range(400):
        shell.write(f"inbox/{number}.xml", author.pacs008())
    command = [str(Path(sys.executable).with_name("interlock")), "validate", *["inbox"] * 20, "--json", "--jobs", "2"]
    with subprocess.Popen(
        command, cwd=shell.folder, env=shell.environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        for _ in range(times):
            os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=20)
    assert (process.returncode, said) == (130, b"")
    end = time.monotonic() + 10
    while any(_lives(one, process.pid) for one in psutil.process_iter()):
        assert time.monotonic() < end
        time.sleep(0.02)


def _lives(process: psutil.Process, group: int) -> bool:
    """Whether a process of that group is more than a name that nobody has asked about yet."""
    try:
        return os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False


def test_validate_reads_files_of_many_payments(shell: Shell) -> None:
    """Twenty thousand payments in one file: the two that are wrong are named, with line and column."""
    transfers = [Transfer() for _ in range(20_000)]
    transfers[123] = Transfer(creditor_iban=BAD_IBAN)
    transfers[-1] = Transfer(amount="1.234")
    big = shell.write("big.xml", pacs008(*transfers))
    done = shell.run("validate", big, "--json", "--sarif", "found.sarif")
    assert done.returncode == Exit.INVALID
    (found,) = verdicts(done)
    assert set(found) == {"file", "valid", "definitions", "findings", "profile", "edition"}
    assert (found["valid"], found["definitions"]) == (False, ["pacs.008.001.08"])
    assert [(finding["rule"], finding["payment"]) for finding in found["findings"]] == [
        ("iban.creditor", 124), ("amount.decimals", 20_000),
    ]  # fmt: skip
    (run,) = json.loads(shell.folder.joinpath("found.sarif").read_bytes())["runs"]
    regions = [result["locations"][0]["physicalLocation"]["region"] for result in run["results"]]
    content = shell.folder.joinpath(big).read_bytes()
    starts = [
        content.index(BAD_IBAN.encode()) - len("<IBAN>"),
        content.index(b"1.234") - len('<IntrBkSttlmAmt Ccy="EUR">'),
    ]
    assert regions == [{"startLine": 1, "startColumn": start + 1} for start in starts]


def test_validate_counts_what_it_does_not_list(shell: Shell) -> None:
    """A large file that is wrong throughout, from a pipe: the first findings, and how many there are of them."""
    bad = pacs008(*(Transfer(creditor_iban=BAD_IBAN) for _ in range(1_700)))
    done = shell.run("validate", "-", "--json", "--sarif", "found.sarif", stdin=bad)
    assert done.returncode == Exit.INVALID
    (found,) = verdicts(done)
    assert [finding["payment"] for finding in found["findings"]] == list(range(1, 101))
    assert found["findings_total"] == 1_700
    (run,) = json.loads(shell.folder.joinpath("found.sarif").read_bytes())["runs"]
    assert (len(run["results"]), run["artifacts"][0]["properties"]["findings"]) == (100, 1_700)
    assert shell.run("validate", "-", stdin=bad).stdout.decode().endswith("  and 1,600 more findings\n")
    assert shell.run("validate", "-", "--schema-only", stdin=bad).returncode == Exit.OK
    assert [file.name for file in shell.folder.iterdir()] == ["found.sarif"]


def test_validate_judges_large_files_by_a_profile_too(shell: Shell) -> None:
    """A market practice that is named holds for a file of many payments, and is told."""
    big = shell.write("big.xml", pacs008(*(Transfer(currency="USD") for _ in range(1_700))))
    assert shell.run("validate", big).returncode == Exit.OK
    done = shell.run("validate", big, "--profile", "sepa-sct")
    assert done.returncode == Exit.INVALID
    first = done.stdout.decode().splitlines()[0]
    assert re.fullmatch(r"invalid  big.xml  pacs.008.001.08  sepa-sct \d+  1,700 payments", first), first
    assert shell.run("validate", big, "--profile", "sepa-sct", "--schema-only").returncode == Exit.OK


def test_validate_shows_people_the_place(shell: Shell, author: Author) -> None:
    """Without --json the line is shown, with a mark under the element; and no escape codes go into a log."""
    message = author.pacs008().with_text("<ChrgBr>SLEV</ChrgBr>", "<ChrgBr>NONE</ChrgBr>")
    done = shell.run("validate", shell.write("bad.xml", message))
    shown = done.stdout.decode()
    assert "\x1b" not in shown
    found = re.search(r"^ +\d+ \| (.*)\n +\| ( *)(\^+)$", shown, re.MULTILINE)
    assert found is not None
    begin = len(found[2])
    assert found[1][begin : begin + len(found[3])] == "<ChrgBr>NONE</ChrgBr>"


@pytest.mark.parametrize(
    "hostile",
    [
        b"",
        b"\x00\xff",
        b"<a>",
        b"{}",
        b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        b"<a>" * 5000,
        b"\xff\xfe<\x00a\x00/",
    ],
)
def test_validate_takes_anything(shell: Shell, hostile: bytes) -> None:
    """Whatever the bytes, the verdict is that they are invalid, in both forms, without a traceback."""
    name = shell.write("hostile.xml", hostile)
    for form in ([], ["--json"]):
        done = shell.run("validate", name, *form)
        assert done.returncode == Exit.INVALID
        assert b"Traceback" not in done.stderr


# -- clients, keys, config --


@pytest.mark.stores("sqlite", "postgres")
def test_clients_are_added_listed_and_disabled(either: Shell) -> None:
    """A secret is printed once and kept nowhere; default scopes are read and write; disabling is shown."""
    client = either.one("clients", "add", "bank")
    assert client["scopes"] == ["rp2/read", "rp2/write"]
    assert either.one("clients", "add", "desk", "--scope", "interlock/operate")["scopes"] == ["interlock/operate"]
    listed = either.lines("clients", "list")
    assert [one["name"] for one in listed] == ["bank", "desk"]
    secret = client["client_secret"].encode()
    for file in either.folder.rglob("*"):
        assert not file.is_file() or secret not in file.read_bytes()
    assert either.run("clients", "disable", client["client_id"]).returncode == Exit.OK
    assert either.lines("clients", "list")[0]["disabled_at"] is not None
    assert either.run("clients", "disable", "c_nobody").returncode == Exit.NOT_FOUND
    assert either.run("clients", "add", "x", "--scope", "everything").returncode == Exit.INVALID


def test_config_shows_what_counts(shell: Shell) -> None:
    """The command line goes before the environment, that before the file; a fault in the file is named."""
    (shell.folder / "interlock.toml").write_text('region = "file"\nport = 1\nhost = "127.0.0.2"\n')
    typed = Shell(shell.folder, {"INTERLOCK_REGION": "environment", "INTERLOCK_PORT": "2"})
    shown = typed.one("config", "--port", "3")
    assert (shown["host"], shown["region"], shown["port"]) == ("127.0.0.2", "environment", 3)
    (shell.folder / "interlock.toml").write_text('port = "x"\nnonsense = 1\n[routes.a]\nsla_seconds = -1\n')
    done = shell.run("config")
    assert done.returncode == Exit.CONFIG
    for name in (b"port:", b"nonsense:", b"routes.a.sla_seconds:"):
        assert name in done.stderr


# -- serve --


@pytest.mark.stores("sqlite", "postgres")
def test_serve_says_where_it_is_and_ends_in_order(either: Shell) -> None:
    """One readable line: address, data or store, clients; SIGTERM ends it with exit code 0."""
    client = either.one("clients", "add", "bank")
    with either.serving() as running:
        assert re.match(
            r"interlock \S+ listens on http://127\.0\.0\.1:\d+, (data in /|store postgres)\S+, clients: bank \(c_",
            running.line,
        )
        assert client["client_id"] in running.line
        running.process.send_signal(signal.SIGTERM)
        out, err = running.process.communicate(timeout=20)
        assert running.process.returncode == 0
        assert out == ""
        assert "Traceback" not in err


def test_serve_refuses_a_folder_or_port_that_is_taken(shell: Shell) -> None:
    """A second server on the folder, or on the port, does not start: exit code 78, and says what is taken."""
    with shell.serving() as running:
        second = shell.run("serve", "--port", "0")
        assert second.returncode == Exit.CONFIG
        assert b"serves" in second.stderr
        port = running.url.rpartition(":")[2]
        third = shell.run("serve", "--port", port, "--data", "elsewhere")
        assert third.returncode == Exit.CONFIG
        assert port.encode() in third.stderr


@pytest.mark.stores("sqlite", "postgres")
def test_clients_and_keys_change_while_a_server_runs(either: Shell, author: Author) -> None:
    """A client added beside the server is known at once; new keys leave calls working; a disabled one is refused."""
    file = either.write("a.xml", author.pacs008())
    with either.serving() as running:
        caller = as_client(either, running.url)
        assert caller.one("send", file)["status"] == "ACSC"
        key = either.one("keys", "rotate")
        assert [one["retired_at"] is None for one in either.lines("keys", "list")] == [False, True]
        assert either.lines("keys", "list")[-1]["key_id"] == key["key_id"]
        assert caller.one("send", either.write("b.xml", author.pacs008()))["status"] == "ACSC"
        either.run("clients", "disable", caller.settings["INTERLOCK_CLIENT_ID"])
        for _ in range(100):
            done = caller.run("send", either.write("c.xml", author.pacs008()))
            if done.returncode == Exit.INVALID:
                break
        assert done.returncode == Exit.INVALID


# -- send, status, decide, redrive --


@pytest.mark.stores("sqlite", "postgres")
def test_the_walk_of_a_held_payment(either: Shell, author: Author) -> None:
    """Sent, held, listed, cancelled, refused when it is too late, driven again, accepted, its answer printed."""
    (either.folder / "interlock.toml").write_text("[routes.default]\ndecision_above = { EUR = 1000000 }\n")
    message = author.pacs008(author.transfer(amount=LARGE))
    with either.serving() as running:
        caller = as_client(either, running.url)
        sent = caller.one("send", either.write("a.xml", message), "--wait", "0", "--reference", "mine")
        assert (sent["status"], sent["held"]) == ("PDNG", "decision")
        listed = caller.lines("status", "--filter", "status=PDNG", "--filter", "reference=mine")
        assert [one["transaction_id"] for one in listed] == [sent["transaction_id"]]
        assert caller.run("status", sent["transaction_id"], "--answer").returncode == Exit.NOT_FOUND
        assert caller.one("decide", sent["transaction_id"], "cancel")["status"] == "CANC"
        assert caller.run("decide", sent["transaction_id"], "accept").returncode == Exit.CONFLICT
        (dry,) = caller.lines("redrive", "--filter", "status=CANC", "--dry-run")
        assert (dry["transaction_id"], dry["outcome"]) == (sent["transaction_id"], "drivable")
        (driven,) = caller.lines("redrive", "--filter", "status=CANC")
        assert driven["outcome"] == "redriven"
        accepted = caller.one("decide", driven["redriven_as"], "accept", "--by", "alice")
        assert (accepted["status"], accepted["attempt"]) == ("ACSC", 2)
        answer = caller.run("status", driven["redriven_as"], "--answer")
        assert (message.message_id or "").encode() in answer.stdout
        shown = caller.run("status", driven["redriven_as"]).stdout.decode()
        for word in ("ACSC", LARGE, "Accepted", "redrive of"):
            assert word in shown
        assert caller.run("status", UNKNOWN).returncode == Exit.NOT_FOUND
        assert caller.run("redrive", driven["redriven_as"]).returncode == Exit.CONFLICT


def test_some_payments_are_decided(shell: Shell, author: Author) -> None:
    """By ordinal or by name; they are shown as they ended, and what names none is a mistake."""
    (shell.folder / "interlock.toml").write_text("[routes.default]\ndecision_above = { EUR = 1000000 }\n")
    message = author.pacs008(*(author.transfer(amount=LARGE) for _ in range(3)))
    with shell.serving() as running:
        caller = as_client(shell, running.url)
        sent = caller.one("send", shell.write("a.xml", message), "--wait", "0")["transaction_id"]
        decided = caller.one("decide", sent, "reject", "--reason", "FRAD", "--payment", "1", "--payment", "3")
        assert [(one["ordinal"], one["status"]) for one in decided["payments"]] == [(1, "RJCT"), (3, "RJCT")]
        name = caller.one("status", sent)["payments"][1]["end_to_end_id"]
        shown = caller.run("decide", sent, "cancel", "--payment", f"end_to_end_id={name}").stdout.decode()
        assert name in shown
        assert caller.one("status", sent)["status"] == "CANC"
        for wrong in ("name=x", "one", "9", "\u0662", "9" * 5000, "end_to_end_id=\udc80"):
            assert caller.run("decide", sent, "cancel", "--payment", wrong).returncode == Exit.INVALID


@pytest.mark.stores("sqlite", "postgres")
def test_send_tells_of_each_file(either: Shell, author: Author) -> None:
    """Good, rejected and missing files each have their outcome; the exit code says that not all went well."""
    good = either.write("good.xml", author.pacs008())
    bad = either.write("bad.xml", author.pacs008(author.transfer(creditor_iban=BAD_IBAN)))
    empty = either.write("empty.xml", b"")
    with either.serving() as running:
        done = as_client(either, running.url).run("send", good, bad, empty, "nowhere.xml", "--json")
    assert done.returncode == Exit.INVALID
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(one["file"], one["status"]) for one in told] == [(good, "ACSC"), (bad, "RJCT")]
    assert b"empty.xml" in done.stderr
    assert b"nowhere.xml cannot be read" in done.stderr


def test_no_server_is_told_soon(shell: Shell) -> None:
    """A server that cannot be reached: exit code 5, within seconds, no traceback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"INTERLOCK_CLIENT_ID": "c_1", "INTERLOCK_CLIENT_SECRET": "s"}
    done = Shell(shell.folder, settings).run("status", "--url", f"http://127.0.0.1:{port}")
    assert done.returncode == Exit.UNAVAILABLE
    assert b"cannot be reached" in done.stderr


# -- db, audit --


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a handful of transactions, whose server has ended."""
    shell = Shell(tmp_path_factory.mktemp("ended"), {})
    author = Author(datetime.now(UTC))
    (shell.folder / "interlock.toml").write_text("[routes.default]\ndecision_above = { EUR = 1000000 }\n")
    with shell.serving() as running:
        caller = as_client(shell, running.url)
        files = [shell.write(f"{number}.xml", author.pacs008()) for number in range(5)]
        files.append(shell.write("bad.xml", b"<nonsense"))
        caller.run("send", *files)
        held = shell.write("held.xml", author.pacs008(author.transfer(amount=LARGE)))
        sent = caller.one("send", held, "--wait", "0")
        caller.one("decide", sent["transaction_id"], "cancel")
        caller.one("redrive", sent["transaction_id"])
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(20)
    return shell.folder / "interlock-data"


@pytest.fixture
def copy(ended: Path, tmp_path: Path) -> Shell:
    """A shell over a copy of that folder."""
    shutil.copytree(ended, tmp_path / "interlock-data")
    return Shell(tmp_path, {})


def tamper(shell: Shell, statement: str, *bindings: Any) -> None:
    """Change the store behind its back."""
    with closing(apsw.Connection(str(shell.folder / "interlock-data" / "interlock.db"))) as db:
        db.execute(statement, bindings)
        assert db.changes() > 0


def test_an_untouched_history_holds(copy: Shell) -> None:
    """The store of an ordinary run has no fault, of file or of history; with the head noted down neither."""
    assert copy.one("db", "check") == {"ok": True, "faults": []}
    (head,) = copy.one("audit", "head")["journals"]
    assert head["seq"] > 0
    assert copy.one("audit", "verify", "--anchor", f"{head['seq']}:{head['hash']}") == {"ok": True, "faults": []}
    info = copy.one("db", "info")
    assert (info["events"], info["journals"], info["clients"]) == (head["seq"], {head["journal"]: head["seq"]}, 1)


@pytest.mark.parametrize(
    ("statement", "says"),
    [
        ("UPDATE events SET content = CAST(content || ' ' AS BLOB) WHERE chain_seq = 3", "event 3 was altered"),
        ("DELETE FROM events WHERE chain_seq = 4", "events 4 to 4 are missing"),
        ("DELETE FROM events WHERE chain_seq = (SELECT max(chain_seq) FROM events)", "the end is missing"),
        (
            "UPDATE transactions SET state = 'end', status = 'ACSC', \"end\" = 'ACSC' WHERE status = 'PDNG'",
            "its events say",
        ),
        ("UPDATE transactions SET version = version + 1 WHERE row = 1", "its version is"),
        ("DELETE FROM bodies WHERE row = 2", "a message is not the one that event"),
        ("UPDATE bodies SET content = x'00' WHERE row = 3", "a message is not the one that event"),
        (
            (
                "INSERT INTO bodies SELECT 2 * t.row + 1, NULL, x'00', b.content "
                "FROM transactions t, bodies b WHERE t.status = 'PDNG' AND b.row = 2"
            ),
            "added behind its back",
        ),
    ],
)
def test_tampering_is_found_and_named(copy: Shell, statement: str, says: str) -> None:
    """Whatever is altered, removed or added behind the journal's back, `audit verify` says so: exit code 1."""
    tamper(copy, statement)
    done = copy.run("audit", "verify", "--json")
    assert done.returncode == Exit.FAILED
    told = json.loads(done.stdout)
    assert told["ok"] is False
    assert any(says in fault for fault in told["faults"]), told


def test_an_exchanged_message_is_found(copy: Shell) -> None:
    """A message that was exchanged together with its digest is found, for history names the digest too."""
    other = zstandard.ZstdCompressor().compress(b"<Document/>")
    tamper(copy, "UPDATE bodies SET content = ?, digest = x'00' WHERE row = 2", other)
    done = copy.run("audit", "verify")
    assert done.returncode == Exit.FAILED
    assert b"is not the one that event" in done.stderr


def test_a_rewritten_history_is_found_by_its_anchor(copy: Shell) -> None:
    """A chain that was computed anew holds by itself; the head noted down elsewhere shows it."""
    done = copy.run("audit", "verify", "--anchor", "3:" + "00" * 32)
    assert done.returncode == Exit.FAILED
    assert b"history was rewritten" in done.stderr
    assert copy.run("audit", "verify", "--anchor", "nonsense").returncode == Exit.INVALID


def test_a_backup_is_taken_and_restored(shell: Shell, author: Author) -> None:
    """Taken while the server runs; refused to be restored under it; restored, it holds what it held, anew."""
    with shell.serving() as running:
        caller = as_client(shell, running.url)
        kept = caller.one("send", shell.write("a.xml", author.pacs008()))
        assert shell.run("db", "backup", "backup.db").returncode == Exit.OK
        assert shell.run("db", "backup", "backup.db").returncode == Exit.INVALID
        lost = caller.one("send", shell.write("b.xml", author.pacs008()))
        assert shell.run("db", "restore", "backup.db", "--force").returncode == Exit.CONFLICT
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(20)
    assert shell.run("db", "restore", "backup.db").returncode == Exit.CONFLICT
    before = list(shell.one("db", "info")["journals"])
    assert shell.run("db", "restore", "backup.db", "--force").returncode == Exit.OK
    assert list(shell.one("db", "info")["journals"]) != before
    assert list((shell.folder / "interlock-data").glob("interlock.db.2*"))
    with shell.serving() as running:
        caller = Shell(shell.folder, caller.settings | {"INTERLOCK_URL": running.url})
        assert caller.one("status", kept["transaction_id"])["status"] == "ACSC"
        assert caller.run("status", lost["transaction_id"]).returncode == Exit.NOT_FOUND
        assert caller.one("send", shell.write("c.xml", author.pacs008()))["status"] == "ACSC"
    assert shell.one("audit", "verify")["ok"] is True


def test_only_a_backup_can_be_restored(shell: Shell, ended: Path) -> None:
    """A file that is none, or is damaged, changes nothing."""
    sound = (ended / "interlock.db").read_bytes()
    (shell.folder / "nonsense.db").write_bytes(b"nonsense" * 1000)
    (shell.folder / "damaged.db").write_bytes(sound[: len(sound) // 2])
    with closing(apsw.Connection(str(shell.folder / "other.db"))) as other:
        other.execute("CREATE TABLE t (x)")
    for name in ("nonsense.db", "damaged.db", "other.db"):
        assert shell.run("db", "restore", name).returncode == Exit.INVALID, name
    assert shell.run("db", "restore", "nowhere.db").returncode == Exit.NOT_FOUND
    assert not list((shell.folder / "interlock-data").glob("interlock.db*"))


@pytest.mark.parametrize("command", [("db", "check"), ("db", "info"), ("audit", "verify"), ("audit", "head")])
def test_looking_makes_nothing(shell: Shell, command: tuple[str, str]) -> None:
    """A command that only looks does not make a store where there is none."""
    assert shell.run(*command).returncode == Exit.NOT_FOUND
    assert not list(shell.folder.iterdir())


@pytest.mark.stores("sqlite", "postgres")
def test_migrate_says_where_it_stands(either: Shell) -> None:
    """A new store comes to the newest schema; a second time there is nothing to do."""
    assert b"schema 0 is now schema" in either.run("db", "migrate").stdout
    assert b"is now" not in either.run("db", "migrate").stdout
