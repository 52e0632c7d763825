"""The docs say what the code does: generated parts are fresh, all is mentioned, commands run, links lead somewhere."""

import json
import os
import re
import shutil
import signal
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from interlock.config import ClientConfig, Config, PeerConfig, ProfilesConfig, RouteConfig
from interlock.decisions import DecisionKind
from interlock.demo.ports import free_port
from interlock.iso20022.answers import RESOLUTIONS, SHAPES, UNDERSTOOD
from interlock.iso20022.codes import HeldCause, Status
from interlock.iso20022.profiles import Profiles
from interlock.iso20022.profiles.facts import (
    Amount,
    Characters,
    Choice,
    Codes,
    Count,
    DuplicateKey,
    EditionFile,
    Mandatory,
    Matching,
    ProfileFile,
    Recall,
    Retry,
)
from interlock.iso20022.reasons import RETRYABLE
from interlock.iso20022.rules import RULES
from interlock.lifecycle import EventKind, State
from scripts import docs

ROOT = docs.ROOT
BIN = ROOT / ".venv" / "bin"
PAGES = docs.pages()
#: Everything that a reader is given, decisions and the files at the root too.
ALL = (*PAGES, *sorted((ROOT / "docs" / "decisions").glob("*.md")), *sorted(ROOT.glob("[A-Z]*.md")))


def text(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def missing(words: Iterator[str] | list[str], page: str) -> list[str]:
    """Words that a page does not have as code."""
    content = text(page)
    return [word for word in words if f"`{word}`" not in content]


# -- generated parts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_generated_parts_are_what_the_code_says(page: Path) -> None:
    """A page is as `make docs` would write it now."""
    assert docs.filled(page.read_text("utf-8")) == page.read_text("utf-8"), "run `make docs`"


def test_every_part_is_used() -> None:
    """What scripts/docs.py can make stands in some page, and every page's parts are closed."""
    everything = "".join(page.read_text("utf-8") for page in PAGES)
    assert set(re.findall(r"<!-- generated: (\S+) -->", everything)) == set(docs.PARTS)
    assert everything.count("<!-- generated:") == everything.count("<!-- end -->")


def test_the_diagram_has_every_reachable_state() -> None:
    """Today's diagram names every state that today's events lead to, and no other."""
    drawn = docs.PARTS["lifecycle-today"]()
    reached = {edge.target for edge in docs.edges(docs.built_events(), alone=True)}
    assert {Status.ACSC.value, Status.RJCT.value, Status.CANC.value} <= reached
    assert all(re.sub(r"\W", "_", name) in drawn for name in reached)
    assert "handing" not in drawn
    assert "PDNG_unknown" not in drawn


def test_the_whole_diagram_has_every_state() -> None:
    """The diagram of the whole table names all of its states."""
    drawn = docs.PARTS["lifecycle-whole"]()
    assert all(re.sub(r"\W", "_", state.value) in drawn for state in State if state is not State.NONE)


# -- everything is mentioned ------------------------------------------------------------------------------------------


def test_each_setting_is_documented() -> None:
    """Every field of the configuration and of a route has a line, and a description to stand in it."""
    tables = (Config, RouteConfig, PeerConfig, ClientConfig, ProfilesConfig)
    fields = {name: field for table in tables for name, field in table.model_fields.items()}
    assert missing([*fields], "docs/configuration.md") == []
    assert [name for name, field in fields.items() if not field.description] == []


def test_the_example_configuration_is_good() -> None:
    """The TOML in the docs is one that the server takes, and its routes are what the text says."""
    found = re.search(r"```toml\n(.*?)```", text("docs/configuration.md"), re.DOTALL)
    assert found is not None
    routes = Config.model_validate(tomllib.loads(found[1])).choice_of_routes()
    assert routes.choose("anybody", "pacs.008.001.08").name == "instant"
    assert routes.choose("anybody", "pacs.009.001.08").name == "large"
    assert routes.choose("anybody", "pain.001.001.09").name == "default"


def test_the_example_profile_is_good(tmp_path: Path) -> None:
    """The profile in the docs is one that is taken, and means what the text beside it says."""
    found = re.search(r"```toml\n# profiles/acme-inst/profile.toml\n(.*?)```", text("docs/profiles.md"), re.DOTALL)
    assert found is not None
    (tmp_path / "acme-inst.toml").write_text(found[1], "utf-8")
    profile = Profiles.load(tmp_path).named("acme-inst")
    assert profile.sla == timedelta(seconds=8)
    assert profile.editions[-1].name == "2027"
    assert profile.editions[-1].checks.amounts[-1].max == 50_000
    assert "characters.epc" in profile.rules
    assert profile.rules["characters.epc"] is None


def test_each_field_of_a_profile_is_documented() -> None:
    """Whatever a profile's file can say stands in its page, as a field or a table."""
    page = text("docs/profiles.md")
    kinds = (ProfileFile, Mandatory, Codes, Count, Matching, Characters, Amount, Choice, Retry, Recall, EditionFile)
    names = {field.alias or name for kind in kinds for name, field in kind.model_fields.items()}
    assert (
        sorted(name for name in names if not re.search(rf"(`|\[){name}(`|\]|\.)|^{name} = ", page, re.MULTILINE)) == []
    )
    assert [key for key in DuplicateKey if f"`{key}`" not in page] == []


def test_each_command_is_documented() -> None:
    """Every command has its help text in the command line's page."""
    page = text("docs/cli.md")
    assert [words for words in docs.commands() if f"`{' '.join(('interlock', *words))}`" not in page] == []


def test_each_status_cause_event_and_state_is_documented() -> None:
    """Nothing that a client can see of the lifecycle is unexplained."""
    assert missing([*Status, *HeldCause, *State], "docs/lifecycle.md") == []
    page = text("docs/lifecycle.md")
    assert [kind for kind in EventKind if not re.search(rf"\| \**{kind}\** \|", page)] == []
    assert missing([*Status], "README.md") == [] or "Lifecycle" in text("README.md")


def test_each_decision_is_documented() -> None:
    """Every decision is in the table of where it is legal, and in the one of how it is sent."""
    for page in ("docs/concepts.md", "docs/http.md"):
        content = text(page)
        assert [kind for kind in (*DecisionKind, "redrive") if f"{kind}" not in content] == []


def test_each_error_code_is_documented() -> None:
    """Every code that a problem document can have stands in the table, with its status."""
    assert missing([error.code for error in docs.errors()], "docs/http.md") == []


def test_each_call_is_documented() -> None:
    """Every path that the server answers is in the HTTP page."""
    hot, document = docs.surface()
    page = text("docs/http.md")
    paths = {path for _, path in hot} | set(document["paths"])
    assert sorted(path for path in paths if path not in page) == []
    methods = {(method.upper(), path) for path, calls in document["paths"].items() for method in calls}
    assert sorted(call for call in methods if f"`{call[0]} {call[1]}`" not in page) == []


def test_each_rule_and_finding_is_documented() -> None:
    """Every id that a finding can have stands in a page, found in the source where it is written there."""
    assert missing([*RULES], "docs/rules.md") == []
    assert missing([*docs.schema_findings()], "docs/iso20022.md") == []
    written = set()
    for path in (ROOT / "src" / "interlock").rglob("*.py"):
        written |= set(re.findall(r'"((?:xml|envelope|definition|file|inspection)\.[a-z_]+)"', path.read_text("utf-8")))
    assert missing(sorted(written), "docs/iso20022.md") == []


def test_each_answer_is_documented() -> None:
    """Every answer that can come stands in its page, and each message that is understood and not served."""
    assert missing([*docs.answers_made(), *docs.enquiries_made(), *UNDERSTOOD], "docs/answers.md") == []


def test_each_retryable_reason_is_documented() -> None:
    """Every reason after which a redrive is allowed is listed."""
    assert missing(list(RETRYABLE), "docs/iso20022.md") == []


def test_each_kind_of_message_that_is_answered_is_named() -> None:
    """The pages that say what is taken name exactly the families that have an answer, and each answer."""
    families = {request[:8] for shape in SHAPES.values() for request in shape.requests}
    said = text("docs/concepts.md").partition("## Answers")[2].partition("## ")[0]
    assert sorted(family for family in families if family not in said) == []
    enquiries = {request[:8] for requests in docs.enquiries_made().values() for request in requests}
    assert sorted(family for family in families | enquiries if family not in said) == []
    assert sorted(name[:8] for name in (*SHAPES, *RESOLUTIONS) if f"**{name[:8]}**" not in said) == []
    taken = re.search(r"\((pacs\.\d{3}, [^)]*)\)", text("README.md"))
    assert taken is not None
    parts = [part.strip() for part in taken[1].split(";")]
    assert {f"{part[:4]}.{number}" for part in parts for number in re.findall(r"\d{3}", part)} == families
    about_others = text("README.md").partition("- Answers status requests")[2].partition("\n- ")[0]
    named = re.findall(r"(?:(pacs|camt)\.|(?<=, ))(\d{3})", about_others)
    assert {f"{kind or 'camt'}.{number}" for kind, number in named} == enquiries


def test_each_metric_is_documented() -> None:
    """Every name in the metrics' module stands in the operations page, and so does each that it tells to watch."""
    source = text("src/interlock/api/metrics.py")
    known = {name for name, *_ in docs.metrics()}
    named = set(re.findall(r'"((?:interlock|process)_[a-z_]+)"', source))
    assert {name.removesuffix("_total") for name in known} == {name.removesuffix("_total") for name in named}
    assert missing(sorted(known), "docs/operations.md") == []
    watched = set(re.findall(r"\b((?:interlock|process)_[a-z_]+)[{\[`]", text("docs/operations.md")))
    assert watched - known == set()


def test_each_dependency_has_a_reason() -> None:
    """What pyproject.toml asks for and what the docs give a reason for are the same."""
    project = tomllib.loads(text("pyproject.toml"))["project"]
    wanted = [
        *project["dependencies"],
        *(name for extra in project["optional-dependencies"].values() for name in extra),
    ]
    names = {re.split(r"[<>=!;\[ ]", line, maxsplit=1)[0] for line in wanted}
    told = set(re.findall(r"^\| `([a-z0-9-]+)` \|", text("docs/dependencies.md"), re.MULTILINE))
    assert told == names


# -- what is shown can be done ----------------------------------------------------------------------------------------


def blocks(language: str) -> Iterator[tuple[str, str]]:
    """Page and content of each fenced block of a language."""
    for page in ALL:
        for found in re.findall(rf"^```{language}\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE):
            yield name_of(page), found


def test_commands_that_the_docs_show_exist() -> None:
    """Each `interlock ...` in the docs is a command, with options that it has."""
    helps = docs.commands()
    shown = [(page, line) for page, block in blocks("(?:sh|console)") for line in block.splitlines()]
    shown += [
        (name_of(page), line) for page in ALL for line in re.findall(r"`(interlock [^`\n]+)`", page.read_text("utf-8"))
    ]
    wrong = []
    for page, line in shown:
        for call in re.findall(r"(?<![\w/.-])(?:\.venv/bin/)?interlock ([a-z][^|>#\n)]*)", line):
            words = tuple(call.split())
            command = next((words[:n] for n in (2, 1) if words[:n] in helps), None)
            options = re.findall(r"(?<=\s)(--[a-z-]+)", call)
            if command is None or any(option not in helps[command] for option in options):
                wrong.append((page, line))
    assert wrong == []


def test_make_targets_that_the_docs_name_exist() -> None:
    """Each `make ...` in the docs is a target."""
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    named = {
        target for page in ALL for target in re.findall(r"(?:`|\$ |KEEP=1 )make ([a-z]+)", page.read_text("utf-8"))
    }
    assert {"demo", "setup", "docs"} <= named
    assert named - targets == set()


def test_json_examples_are_json() -> None:
    """Each JSON block can be parsed."""
    for _, block in blocks("json"):
        json.loads(block)


def test_the_example_transaction_has_the_fields_of_the_view() -> None:
    """The transaction that the HTTP page shows has every field, in order."""
    from interlock.api.views import TransactionView

    shown = next(value for page, block in blocks("json") if "payments_count" in (value := json.loads(block)))
    assert list(shown) == list(TransactionView.model_fields)
    TransactionView.model_validate(shown)


def run_block(page: str, name: str) -> str:
    """The shell block that is marked as one to be run."""
    found = re.search(rf"<!-- run: {name} -->\n```sh\n(.*?)```", text(page), re.DOTALL)
    assert found is not None, f"{page} has no block {name}"
    return found[1]


def environment(folder: Path) -> dict[str, str]:
    """Like a user's, with the commands on the path and a folder of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INTERLOCK_")}
    return {**kept, "PATH": f"{BIN}:{kept['PATH']}", "INTERLOCK_DATA": str(folder / "data")}


def sh(script: str, env: Mapping[str, str], cwd: Path) -> str:
    """What a script prints; it must not fail anywhere."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        env=env,
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def serving(script: str, env: Mapping[str, str]) -> Iterator[str]:
    """The server started as the README says; gives its first line."""
    process = subprocess.Popen(
        ["bash", "-c", f"exec {script.strip()}"], env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        yield process.stdout.readline()
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert process.stdout is not None
        process.stdout.close()


_VARYING = (
    (re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"\b[0-9a-f]{32}\b"), "UUID"),
    (re.compile(r"\bc_[0-9a-f]{16}\b"), "CLIENT"),
    (re.compile(r"\d{4}-\d\d-\d\dT[0-9:.]+(?:Z|[+-]\d\d:\d\d)"), "TIME"),
)


def shape(line: str) -> str:
    """A line without what differs from run to run."""
    for pattern, word in _VARYING:
        line = pattern.sub(word, line)
    return line.rstrip()


def unlike(printed: str, shown: str) -> str | None:
    """The first line that the docs show and that was not printed, in order; `...` stands for any lines."""
    lines = iter([shape(line) for line in printed.splitlines()])
    skipping = False
    for line in shown.splitlines():
        if line == "...":
            skipping = True
        elif skipping:
            if shape(line) not in lines:
                return line
            skipping = False
        elif next(lines, None) != shape(line):
            return line
    return None if skipping or next(lines, None) is None else "more was printed"


@pytest.mark.skipif(shutil.which("curl") is None, reason="the README's walk needs curl")
def test_the_walk_in_the_readme_prints_what_it_says(tmp_path: Path) -> None:
    """The README's own commands, against a fresh server, from a token to an answer."""
    port = str(free_port())
    env = {**environment(tmp_path), "INTERLOCK_PORT": port}
    with serving(run_block("README.md", "serve"), env) as announced:
        assert f"http://127.0.0.1:{port}" in announced
        printed = sh(run_block("README.md", "walk").replace("8080", port), env, ROOT)
    found = re.search(r"<!-- shape: walk -->\n```text\n(.*?)```", text("README.md"), re.DOTALL)
    assert found is not None
    assert unlike(printed, found[1]) is None, printed


def compared() -> Iterator[tuple[str, str]]:
    """Page and content of each block of commands whose output is to be what it shows."""
    marked = re.compile(r"<!-- run and compare -->\n```console\n(.*?)^```", re.DOTALL | re.MULTILINE)
    for page in ALL:
        for block in marked.findall(page.read_text("utf-8")):
            yield name_of(page), block


@pytest.mark.parametrize(("page", "block"), list(compared()))
def test_what_the_docs_show_is_what_is_printed(page: str, block: str, tmp_path: Path) -> None:
    """Commands that are shown with their output, run one after the other beside the samples, print exactly that."""
    (tmp_path / "tests").symlink_to(ROOT / "tests")
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "bin").symlink_to(BIN)
    for shown in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, output = shown.partition("\n")
        done = subprocess.run(
            ["bash", "-c", command], env=environment(tmp_path), cwd=tmp_path,
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert unlike(done.stdout + done.stderr, output) is None, f"{page}: {command}\n{done.stdout}{done.stderr}"


@pytest.mark.skipif(shutil.which("curl") is None, reason="the docs' calls need curl")
def test_backup_restore_and_keys_work_as_operations_says(tmp_path: Path) -> None:
    """The commands of the operations page run, beside a server where it says so, and bring everything back."""
    env = {**environment(tmp_path), "INTERLOCK_PORT": str(free_port())}
    with serving("interlock serve", env):
        sh(run_block("docs/operations.md", "clients"), env, tmp_path)
        sh(run_block("docs/operations.md", "keys"), env, tmp_path)
        before = sh("interlock clients list --json", env, tmp_path)
        sh(run_block("docs/operations.md", "backup"), env, tmp_path)
        sh("interlock clients add later", env, tmp_path)
    sh(run_block("docs/operations.md", "restore"), env, tmp_path)
    assert sh("interlock clients list --json", env, tmp_path) == before


def test_the_demo_prints_what_the_readme_shows() -> None:
    """The README's demo lines are cases of the demo, as many as it says, and its last line is the demo's last line."""
    from interlock.demo.messages import Author
    from interlock.demo.scenario import cases

    found = re.search(r"```console\n\$ make demo\n(.*?)```", text("README.md"), re.DOTALL)
    assert found is not None
    lines = found[1].splitlines()
    listed = list(cases(Author(datetime.now(UTC))))
    assert lines[-1] == f"demo: {len(listed)} of {len(listed)} as expected"
    for line in lines:
        if (row := re.match(r"(\d+) +(\S.*?)  +(reference|v1) +(alpha|beta) ", line)) is not None:
            case = listed[int(row[1]) - 1]
            assert (case.what, case.face, case.client) == (row[2], row[3], row[4]), line


# -- links and words --------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """What a page's headings can be linked by."""
    headings = re.findall(
        r"^#+ (.+)$", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL), re.MULTILINE
    )
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", ALL, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Each relative link is a file or folder here, and its anchor a heading there."""
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if target.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        there = (page.parent / path).resolve() if path else page
        if not there.exists() or (anchor and anchor not in anchors(there)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", ALL, ids=name_of)
def test_no_page_names_a_machine(page: Path) -> None:
    """No path of whoever wrote it, no host of a package registry, and no conflict left behind."""
    content = page.read_text("utf-8")
    for pattern in (
        r"/home/\w",
        r"/root\b",
        r"/Users/\w",
        r"/work\b",
        r"pyp[i]\.org",
        r"pythonhoste[d]",
        r"<<<<<<<",
        r"\bTODO\b",
    ):
        assert re.search(pattern, content) is None, pattern
