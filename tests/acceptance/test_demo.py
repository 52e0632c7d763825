"""`interlock demo` as a newcomer runs it, and whether it would notice a fault."""

import os
import re
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from interlock.demo.desk import Call
from interlock.demo.judging import Got, differences
from interlock.demo.messages import Author
from interlock.demo.reading import AnswerFacts, PaymentFacts, read
from interlock.demo.scenario import FACES, Case, Expected, cases
from interlock.demo.ways import known

pytestmark = pytest.mark.timeout(180)

#: What issue and README promise that the demo shows.
KINDS = (
    "pacs.008 SEPA-like, single, bare",
    "pacs.008 SEPA-like, single, with BAH",
    "pacs.008 SEPA-like, five payments",
    "pacs.008 cross-border, single",
    "pacs.008 cross-border, three payments",
    "pacs.009",
    "pain.001, two PmtInf blocks",
    "malformed XML",
    "wrong namespace",
    "schema: element missing",
    "schema: not a date",
    "schema: unknown element",
    "bad IBAN checksum",
    "wrong control sum",
    "wrong count",
    "duplicate message",
    "duplicate UETR",
    "unknown transaction id",
    "an empty body",
    "an oversized body",
    "XML bomb",
    "external entity",
    "held for decision, then accepted",
    "held for decision, rejected by the consumer",
    "cancelled, redriven",
    "timed out",
    "another client's id",
)


@pytest.fixture(scope="module")
def played() -> list[Case]:
    return cases(Author(datetime.now(UTC)))


def test_the_demo_shows_every_kind_over_both_faces(played: list[Case]) -> None:
    """At least sixty messages; all kinds that are promised; each face has its share."""
    assert len(played) >= 60
    for kind in KINDS:
        assert any(case.what.startswith(kind) for case in played), kind
    assert min(Counter(case.face for case in played)[face] for face in FACES) >= 30
    assert {case.how for case in played} <= known()


def test_messages_of_the_demo_are_all_different(played: list[Case]) -> None:
    """No two messages that are taken share an identification, but where the case is about that."""
    taken = [case for case in played if case.expected.status is not None and case.other is None]
    ids = Counter(case.message.message_id for case in taken if case.message.message_id)
    assert set(ids.values()) == {1}


def test_the_demo_passes_in_a_fresh_folder(tmp_path: Path) -> None:
    """Run without a terminal it exits with 0, ends with the promised line, and its log is plain text.

    What it leaves behind is a sound store whose history holds.
    """
    folder = tmp_path / "demo"
    done = _demo("--folder", str(folder))
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    found = re.fullmatch(r"demo: (\d+) of (\d+) as expected", lines[-1])
    assert found is not None
    assert found[1] == found[2]
    assert "\x1b" not in done.stdout
    assert any(line.endswith(f"--data {folder / 'data'}") for line in lines)
    assert _demo("--folder", str(folder)).returncode == 1  # a folder of its own, or none
    for command in (("audit", "verify"), ("db", "check")):
        done = _run(*command, "--data", str(folder / "data"))
        assert done.returncode == 0, done.stderr


@pytest.mark.usefixtures("postgres_installation")
def test_the_demo_passes_on_two_processes_over_a_postgresql(tmp_path: Path) -> None:
    """With STORE=postgres each client has a server of its own, and all comes as expected; nothing is left running."""
    done = _demo("--folder", str(tmp_path / "demo"), STORE="postgres")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert "beta calls there" in done.stdout
    assert re.fullmatch(r"demo: (\d+) of \1 as expected", done.stdout.splitlines()[-1])


def test_a_kept_server_answers_after_the_demo(tmp_path: Path) -> None:
    """With KEEP=1 the demo ends and its server stays, until it is told to stop."""
    folder = tmp_path / "demo"
    done = _demo("--folder", str(folder), KEEP="1")
    assert done.returncode == 0
    pid = re.search(r"to stop it: kill (\d+)", done.stdout)
    assert pid is not None
    try:
        told = dict(re.findall(r"(INTERLOCK_\w+)=(\S+)", done.stdout))
        status = _run("status", "--json", "--limit", "1", **told)
        assert status.returncode == 0, status.stderr
        assert status.stdout.count("\n") == 1
    finally:
        os.kill(int(pid[1]), 15)


def _demo(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return _run("demo", *arguments, **environment)


def _run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {name: value for name, value in os.environ.items() if name not in ("KEEP", "STORE")}
    return subprocess.run(
        [sys.executable, "-m", "interlock.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=inherited | environment,
    )


# -- would it notice? --


@pytest.fixture
def good() -> tuple[Case, Got]:
    """A case, and what must come of it."""
    author = Author(datetime.now(UTC))
    message = author.pacs008(author.transfer(), author.transfer(), header=True)
    case = Case(what="x", face="v1", message=message, expected=Expected(answer="pacs.002.001.10"))
    payments = tuple(
        PaymentFacts(
            instruction_id=transfer.instruction_id,
            end_to_end_id=transfer.end_to_end_id,
            transaction_id=transfer.transaction_id,
            uetr=transfer.uetr,
            amount=transfer.amount,
            currency=transfer.currency,
            status="ACSC",
            reason=None,
        )
        for transfer in message.transfers
    )
    answer = AnswerFacts(
        definition="pacs.002.001.10",
        message_id=message.message_id,
        message_name="pacs.008.001.08",
        group="ACSC",
        payments=payments,
        header_definition="pacs.002.001.10",
        related_id=message.message_id,
        header_from="EXMPFRPPXXX",
        header_to="EXMPDEFFXXX",
    )
    shown = {"status": "ACSC", "attempt": 1, "message_id": message.message_id, "definition": "pacs.008.001.08"}
    return case, Got(call=Call(http=200), transaction=shown, answer=answer)


def test_what_is_as_expected_has_no_differences(good: tuple[Case, Got]) -> None:
    """The good outcome passes."""
    assert differences(*good) == []


@pytest.mark.parametrize("field", ["definition", "message_id", "message_name", "group", "related_id", "header_from"])
def test_a_wrong_field_of_the_answer_is_noticed(good: tuple[Case, Got], field: str) -> None:
    """A wrong definition, original reference, group status or header fails the case."""
    case, got = good
    assert got.answer is not None
    wrong = replace(got.answer, **{field: "wrong"})  # type: ignore[arg-type]
    assert differences(case, replace(got, answer=wrong))


@pytest.mark.parametrize(
    "field", ["instruction_id", "end_to_end_id", "transaction_id", "uetr", "amount", "currency", "status", "reason"]
)
def test_a_wrong_field_of_a_payment_is_noticed(good: tuple[Case, Got], field: str) -> None:
    """A wrong reference, amount, currency, status or reason of one payment fails the case, and is named."""
    case, got = good
    assert got.answer is not None
    first, second = got.answer.payments
    payments = (first, replace(second, **{field: "wrong"}))
    found = differences(case, replace(got, answer=replace(got.answer, payments=payments)))
    assert len(found) == 1
    assert found[0].startswith("payment 2: ")


def test_a_payment_too_few_is_noticed(good: tuple[Case, Got]) -> None:
    """An answer that leaves a payment out fails the case."""
    case, got = good
    assert got.answer is not None
    assert differences(case, replace(got, answer=replace(got.answer, payments=got.answer.payments[:1])))


def test_another_status_or_no_transaction_is_noticed(good: tuple[Case, Got]) -> None:
    """A wrong status on v1, another HTTP status, no transaction, no answer or an unstable one each fail the case."""
    case, got = good
    assert got.transaction is not None
    for wrong in (
        replace(got, transaction={**got.transaction, "status": "RJCT"}),
        replace(got, call=Call(http=500)),
        replace(got, transaction=None),
        replace(got, answer=None),
        replace(got, repeatable=False),
    ):
        assert differences(case, wrong)


def test_the_reader_reads_what_the_standard_says() -> None:
    """References, amounts and reasons are read from where ISO 20022 puts them, whatever the prefixes."""
    facts = read(
        b'<x:Document xmlns:x="urn:iso:std:iso:20022:tech:xsd:pacs.002.001.10"><x:FIToFIPmtStsRpt>'
        b"<x:OrgnlGrpInfAndSts><x:OrgnlMsgId>M</x:OrgnlMsgId><x:OrgnlMsgNmId>pacs.008.001.08</x:OrgnlMsgNmId>"
        b"<x:GrpSts>PART</x:GrpSts></x:OrgnlGrpInfAndSts><x:TxInfAndSts><x:OrgnlEndToEndId>E</x:OrgnlEndToEndId>"
        b"<x:TxSts>RJCT</x:TxSts><x:StsRsnInf><x:Rsn><x:Cd>AC03</x:Cd></x:Rsn></x:StsRsnInf>"
        b'<x:OrgnlTxRef><x:IntrBkSttlmAmt Ccy="EUR">1.50</x:IntrBkSttlmAmt></x:OrgnlTxRef></x:TxInfAndSts>'
        b"</x:FIToFIPmtStsRpt></x:Document>"
    )
    assert (facts.definition, facts.message_id, facts.group) == ("pacs.002.001.10", "M", "PART")
    (payment,) = facts.payments
    assert (payment.end_to_end_id, payment.status, payment.reason) == ("E", "RJCT", "AC03")
    assert (payment.amount, payment.currency) == ("1.50", "EUR")
