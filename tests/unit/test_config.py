from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from interlock import config
from interlock.config import Config, Role, RouteConfig, load
from interlock.errors import ConfigError
from interlock.routes import DecisionRule, Route, WhenStopped


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No interlock.toml of the developer's is read."""
    monkeypatch.chdir(tmp_path)


def written(tmp_path: Path, text: str, name: str = "my.toml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


# -- where a setting comes from ---------------------------------------------------------------------------------------


def test_without_anything_the_defaults_hold() -> None:
    """No file and no variable is a working configuration, on the loopback address."""
    found = load({})
    assert found == Config()
    assert found.host == "127.0.0.1"
    assert found.file == Path("interlock-data/interlock.db")


def test_the_command_line_comes_before_the_environment_before_the_file(tmp_path: Path) -> None:
    """What is said last and nearest stands; what is not given does not count."""
    file = written(tmp_path, 'port = 1\nregion = "file"\nhost = "::1"\n')
    found = load({"INTERLOCK_PORT": "2", "INTERLOCK_REGION": "env"}, file, port=3, region=None)
    assert (found.port, found.region, found.host) == (3, "env", "::1")


def test_the_file_is_named_by_the_environment_or_lies_here(tmp_path: Path) -> None:
    """INTERLOCK_CONFIG names it; without it interlock.toml in the working folder is read, if there is one."""
    written(tmp_path, "port = 7", "interlock.toml")
    other = written(tmp_path, "port = 8", "other.toml")
    assert load({}).port == 7
    assert load({"INTERLOCK_CONFIG": str(other)}).port == 8
    assert load({"INTERLOCK_CONFIG": ""}).port == 7


def test_what_the_clients_command_line_reads_is_no_setting() -> None:
    """The variables for talking to a server do not stop one from starting."""
    assert load(dict.fromkeys(config.NOT_SETTINGS - {"INTERLOCK_CONFIG"}, "x")) == Config()


def test_variables_of_others_are_left_alone() -> None:
    """Only ours are read."""
    assert load({"PATH": "/bin", "PORT": "99999", "interlock_port": "x"}) == Config()


# -- faults -----------------------------------------------------------------------------------------------------------


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    """From file, environment and routes, each with the name of its setting."""
    file = written(
        tmp_path,
        'colour = "red"\nlog_level = "loud"\n'
        '[routes.slow]\nsla_seconds = -1\ntimeout_reason = "TOUT"\ndecision_above = {eur = 1}\nspeed = 9\n',
    )
    with pytest.raises(ConfigError) as caught:
        load({"INTERLOCK_PORT": "many", "INTERLOCK_HOST": "nowhere", "INTERLOCK_PROT": "1"}, file)
    told = str(caught.value)
    for name in (
        "colour", "log_level", "port", "host", "prot", "routes.slow.sla_seconds", "routes.slow.timeout_reason",
        "routes.slow.decision_above", "routes.slow.speed",
    ):  # fmt: skip
        assert f"\n  {name}: " in told, name
    assert told.count("\n") == 9


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", ""), ("PORT", "-1"), ("PORT", "65536"), ("PORT", "8080.5"), ("HOST", ""), ("HOST", "example.org"),
        ("REGION", ""), ("REGION_NUMBER", "256"), ("TOKEN_SECONDS", "1"), ("BODY_BYTES_MAX", "0"),
        ("BODY_SECONDS_MAX", "nan"), ("BODY_SECONDS_MAX", "inf"), ("BODY_SECONDS_MAX", "0"),
        ("WAIT_SECONDS_MAX", "nan"), ("WAIT_SECONDS_MAX", "-1"), ("STORE", "oracle"), ("LOG_FORMAT", "xml"),
        ("OUTBOX_FORMAT", "XML"), ("BODIES_BYTES_MAX", "100"), ("ROUTES", "default"), ("IN_FLIGHT_MAX", "0"),
        ("NO_SUCH_SETTING", "1"),
    ],
)  # fmt: skip
def test_a_bad_setting_is_named(name: str, value: str) -> None:
    """Never ignored, never taken as something else."""
    with pytest.raises(ConfigError, match=name.lower()):
        load({f"INTERLOCK_{name}": value})


@pytest.mark.parametrize(
    "route",
    [
        {"sla_seconds": 0}, {"sla_seconds": "soon"}, {"sla_seconds": 1e300}, {"decide_within_seconds": 0},
        {"decision": "maybe"}, {"when_stopped": "drop"}, {"timeout_reason": "TECH"}, {"timeout_reason": ""},
        {"decision_above": {"EUR": "NaN"}}, {"decision_above": {"EUR": "Infinity"}}, {"decision_above": {"EUR": -1}},
        {"decision_above": {"EURO": 1}}, {"decision_above": {"": 1}}, {"unknown": 1},
    ],
    ids=repr,
)  # fmt: skip
def test_a_bad_route_is_named(route: dict[str, Any]) -> None:
    """A route's fault is told with the route's name."""
    with pytest.raises(ConfigError, match=r"routes\.mine"):
        load({}, routes={"mine": route})


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    """A misspelt name is not an empty configuration."""
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        load({}, tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match=r"absent\.toml"):
        load({"INTERLOCK_CONFIG": "absent.toml"})


@pytest.mark.parametrize("content", [b"port = ", b"port = 1\nport = 2", b"\xff\xfe", b"[routes", b"= 3"], ids=repr)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes) -> None:
    """It says which file, and does not start on half of it."""
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"broken\.toml"):
        load({}, path)
    with pytest.raises(ConfigError):
        load({}, tmp_path)  # a folder


def test_a_configuration_is_frozen() -> None:
    """Nobody changes a setting while the system runs."""
    with pytest.raises(ValidationError):
        Config().port = 1  # type: ignore[misc]


# -- routes -----------------------------------------------------------------------------------------------------------


def test_routes_keep_their_order_and_exactness(tmp_path: Path) -> None:
    """As written: order, amounts to the cent, times; `default` serves the rest wherever it stands."""
    file = written(
        tmp_path,
        '[routes.zeta]\nmessages = ["pacs.008.*"]\nclients = ["c_1"]\nsla_seconds = 10\n'
        'decision_above = {EUR = 0.1, JPY = 1000000, KWD = "12345678901234567.123"}\nfour_eyes = true\n'
        '[routes.default]\ndecision = "consumer"\ndecide_within_seconds = 0.5\nwhen_stopped = "hold"\n'
        '[routes.alpha]\ntimeout_reason = "AB05"\n',
    )
    routes = load({}, file).choice_of_routes()
    zeta, alpha = routes.listed
    assert (zeta.name, alpha.name, routes.default.name) == ("zeta", "alpha", "default")
    assert zeta.decision_above == {"EUR": Decimal("0.1"), "JPY": 1000000, "KWD": Decimal("12345678901234567.123")}
    assert zeta.messages == ("pacs.008.*",)
    assert zeta.clients == {"c_1"}
    assert zeta.four_eyes
    assert zeta.sla == timedelta(seconds=10)
    assert routes.default.decision is DecisionRule.CONSUMER
    assert routes.default.decide_within == timedelta(seconds=0.5)
    assert routes.default.when_stopped is WhenStopped.HOLD
    assert alpha.timeout_reason == "AB05"


def test_a_route_without_settings_is_a_route_with_the_defaults() -> None:
    """The defaults of the file and of the record are the same."""
    assert RouteConfig().route("r") == Route(name="r")
    assert Config().choice_of_routes().default == Route(name="default")


def test_every_setting_explains_itself() -> None:
    """The documentation's table is made from these texts."""
    for model in (Config, RouteConfig):
        for name, field in model.model_fields.items():
            assert field.description, name
            assert field.description.endswith("."), name


@pytest.mark.parametrize(
    ("store", "shown"),
    [
        ("sqlite", "sqlite"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql://h:5432/d", "postgresql://h:5432/d"),
        ("postgresql://u:se&c#r/et@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:s3cret@h:5432/d", "postgresql://u:***@h:5432/d"),
        (
            "postgresql://h/d?user=u&password=s3cret&sslmode=require",
            "postgresql://h/d?user=u&password=***&sslmode=require",
        ),
        (
            "postgresql://u:p%40ss@a,b/d?target_session_attrs=read-write",
            "postgresql://u:***@a,b/d?target_session_attrs=read-write",
        ),
    ],
)
def test_a_store_is_shown_without_its_password(store: str, shown: str) -> None:
    """Wherever people or logs see it."""
    assert Config(store=store).store_shown == shown


@pytest.mark.parametrize("store", ["mysql://h/d", "postgres", ""])
def test_a_store_is_one_that_we_know(store: str) -> None:
    """Anything else is told with what it must be."""
    with pytest.raises(ValueError, match="postgresql://"):
        Config(store=store)


@pytest.mark.parametrize("name", ["default", "large"])
@pytest.mark.parametrize("consistency", ["consistent", "majority", "all"])
def test_one_region_has_nobody_to_wait_for(name: str, consistency: str) -> None:
    """A route that waits for regions that there are not would take no message at all."""
    with pytest.raises(ValueError, match=rf"routes\.{name}\.consistency is {consistency}.*no other regions"):
        Config.model_validate({"routes": {name: {"consistency": consistency}}})
    connected = {
        "store": "postgresql://h/d", "witness": "postgresql://h/w", "region": "east",
        "regions": {"west": {"number": 2, "database": "postgresql://w/d", "endpoint": "https://w"}},
    }  # fmt: skip
    Config.model_validate({**connected, "routes": {name: {"consistency": consistency}}})


@pytest.mark.parametrize("role", [Role.API, Role.WORKER])
def test_roles_are_for_processes_that_share_a_store(role: Role) -> None:
    """The one process over a file does everything."""
    with pytest.raises(ValueError, match="needs PostgreSQL"):
        Config(role=role)
    assert Config(role=role, store="postgresql://h/d").role is role
