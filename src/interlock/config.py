"""One frozen configuration: `interlock.toml` and `INTERLOCK_*`, the environment first. Checked whole, at the start.

Each field has its name, default, unit and help here, and the table in the docs is made from them.
"""

import os
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from interlock.errors import ConfigError
from interlock.iso20022 import reasons
from interlock.routes import DecisionRule, Route, Routes, WhenStopped

ENVIRONMENT_PREFIX = "INTERLOCK_"
DEFAULT_FILE = "interlock.toml"

Seconds = Annotated[float, Field(gt=0, le=366 * 86_400)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class RouteConfig(_Frozen):
    """A `[routes.NAME]` table; the first that serves a message is its route, `default` serves the rest."""

    messages: tuple[str, ...] = Field(
        (), description="Patterns of message definitions, such as `pacs.008.*`; all if empty."
    )
    clients: tuple[str, ...] = Field((), description="Ids of the clients that it serves; all if empty.")
    sla_seconds: Seconds = Field(
        30, description="Time from the id to the end, in seconds; stops while a consumer decides."
    )
    decision: DecisionRule = Field(
        DecisionRule.AUTO, description="Who decides: `auto` (Interlock, by its rules) or `consumer`."
    )
    decision_above: dict[str, Decimal] = Field(
        {}, description="By currency: a payment above this amount needs a consumer's decision."
    )
    decide_within_seconds: Seconds = Field(86_400, description="How long a consumer may take to decide, in seconds.")
    four_eyes: bool = Field(default=False, description="Whether two different actors must accept.")
    timeout_reason: str = Field(
        "AB06", description="ISO reason of a time-out: AB05 (creditor agent), AB06 (instructed agent)."
    )
    when_stopped: WhenStopped = Field(
        WhenStopped.REFUSE, description="While stopped by an operator: `refuse` (503) or `hold` new messages."
    )

    @field_validator("timeout_reason")
    @classmethod
    def _is_iso(cls, value: str) -> str:
        if not reasons.is_status_reason(value):
            raise ValueError("must be an ISO ExternalStatusReason1Code")
        return value

    @field_validator("decision_above")
    @classmethod
    def _is_amounts(cls, value: dict[str, Decimal]) -> dict[str, Decimal]:
        for currency, amount in value.items():
            if len(currency) != 3 or not currency.isalpha() or not currency.isupper():
                raise ValueError(f"{currency!r} is no ISO 4217 code")
            if not amount.is_finite() or amount < 0:
                raise ValueError(f"the amount for {currency} must be 0 or more")
        return value

    def route(self, name: str) -> Route:
        """The route that these settings describe."""
        return Route(
            name=name,
            messages=self.messages,
            clients=frozenset(self.clients),
            sla=timedelta(seconds=self.sla_seconds),
            decision=self.decision,
            decision_above=self.decision_above,
            decide_within=timedelta(seconds=self.decide_within_seconds),
            four_eyes=self.four_eyes,
            timeout_reason=self.timeout_reason,
            when_stopped=self.when_stopped,
        )


class Config(_Frozen):
    """Everything that an operator can set."""

    data: Path = Field(
        Path("interlock-data"), description="Folder of the store, the server's key and the schema cache."
    )
    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65_535, description="Port to listen on; 0 takes a free one.")
    region: str = Field("local", min_length=1, max_length=64, description="Name of this region, as clients see it.")
    region_number: int = Field(0, ge=0, le=255, description="Number of this region; every id carries it in 8 bits.")
    api_endpoint: str = Field("", description="Host name that clients reach this region by; empty: host and port.")
    issuer: str = Field("interlock", min_length=1, description="`iss` of the tokens that are given.")
    token_seconds: int = Field(3600, ge=60, le=86_400, description="Life of a token, in seconds.")
    token_calls_per_minute: int = Field(
        600, ge=1, description="Token requests a minute that one client id may make; more are answered 429."
    )
    body_bytes_max: int = Field(
        1_048_576, ge=1_024, le=67_108_864, description="Largest message taken, in bytes; a larger one is answered 413."
    )
    xml_depth_max: int = Field(64, ge=8, le=256, description="Deepest nesting of elements taken.")
    xml_nodes_max: int = Field(200_000, ge=1_000, description="Most elements taken in one message.")
    body_seconds_max: Seconds = Field(15, description="Time a client has to send its request, in seconds; then 408.")
    requests_max: int = Field(4_096, ge=1, description="Requests worked on at once; more are answered 503.")
    bodies_bytes_max: int = Field(
        67_108_864, ge=1_048_576, description="Memory for requests' bodies at once, in bytes; over it: 503."
    )
    in_flight_max: int = Field(
        50_000, ge=1, description="Transactions without an end that one client may have; then 429."
    )
    wait_seconds_max: float = Field(
        60, ge=0, le=3_600, description="Longest `Prefer: wait` that is honoured, in seconds."
    )
    outbox_format: Literal["xml", "reference"] = Field(
        "xml",
        description="What `/outbox` gives: `xml`, or `reference` for the public sample's doubly encoded JSON string.",
    )
    schemas: Path | None = Field(None, description="Folder of your own XSDs, which come before the compiled ones.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severity that is logged."
    )
    log_format: Literal["text", "json"] = Field("text", description="Logs for people or for machines.")
    store: str = Field("sqlite", description="Where transactions are kept: `sqlite`, a file in the data folder.")
    routes: dict[str, RouteConfig] = Field({}, description="Tables `[routes.NAME]`; see routes.")

    @field_validator("host")
    @classmethod
    def _is_address(cls, value: str) -> str:
        if value != "localhost":
            ip_address(value)
        return value

    @field_validator("store")
    @classmethod
    def _is_known(cls, value: str) -> str:
        if value != "sqlite":
            raise ValueError("only `sqlite` is built so far")
        return value

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        if self.bodies_bytes_max < self.body_bytes_max:
            raise ValueError("bodies_bytes_max must be at least body_bytes_max, or the largest message never fits")
        return self

    @property
    def file(self) -> Path:
        """The SQLite file."""
        return self.data / "interlock.db"

    def choice_of_routes(self) -> Routes:
        """The routes in the operator's order, and the default."""
        listed = [config.route(name) for name, config in self.routes.items() if name != "default"]
        return Routes(listed, self.routes.get("default", RouteConfig()).route("default"))


def load(environment: Mapping[str, str] = os.environ, file: Path | None = None, **given: Any) -> Config:
    """The effective configuration: what is `given` on the command line, else the environment, else the file.

    Raises ConfigError that names every fault at once.
    """
    named = file or (Path(environment["INTERLOCK_CONFIG"]) if environment.get("INTERLOCK_CONFIG") else None)
    settings = _read(named or Path(DEFAULT_FILE), required=named is not None)
    settings.update(_from_environment(environment))
    settings.update({name: value for name, value in given.items() if value is not None})
    try:
        return Config.model_validate(settings)
    except ValidationError as exc:
        raise ConfigError(_faults(exc)) from exc


def _read(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as exc:
        if required:
            raise ConfigError(f"there is no configuration file {path}") from exc
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(f"{path} cannot be read: {exc}") from exc


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    """Settings by `INTERLOCK_NAME`; an unknown name is a fault, for a misspelt setting must not be ignored silently."""
    found: dict[str, Any] = {}
    for name, value in environment.items():
        if not name.startswith(ENVIRONMENT_PREFIX) or name in NOT_SETTINGS:
            continue
        found[name.removeprefix(ENVIRONMENT_PREFIX).lower()] = value
    return found


#: Variables with our prefix that are no settings: the file's name, and what the command line's client reads.
NOT_SETTINGS = frozenset({"INTERLOCK_CONFIG", "INTERLOCK_URL", "INTERLOCK_CLIENT_ID", "INTERLOCK_CLIENT_SECRET"})


def _faults(exc: ValidationError) -> str:
    lines = []
    for error in exc.errors():
        where = ".".join(str(part) for part in error["loc"]) or "settings"
        said = error["msg"].removeprefix("Value error, ")
        if error["type"] == "extra_forbidden":
            said = f"there is no such setting (in the environment: {ENVIRONMENT_PREFIX}{where.upper()})"
        lines.append(f"{where}: {said}")
    return "the configuration has faults:\n  " + "\n  ".join(lines)
