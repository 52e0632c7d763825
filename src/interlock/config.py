"""One frozen configuration: `interlock.toml` and `INTERLOCK_*`, the environment first. Checked whole, at the start.

Each field has its name, default, unit and help here, and the table in the docs is made from them.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from interlock.errors import ConfigError
from interlock.iso20022 import reasons
from interlock.iso20022.profiles import Profile, Profiles
from interlock.routes import Consistency, DecisionRule, Fencing, OnTakeover, Route, Routes, WhenStopped

ENVIRONMENT_PREFIX = "INTERLOCK_"
DEFAULT_FILE = "interlock.toml"

Seconds = Annotated[float, Field(gt=0, le=366 * 86_400)]


#: In a URL: before the host, or as a parameter of its own.
_PASSWORD = re.compile(r"(://[^:@]*:)[^@]*(@)|([?&](?:ssl)?password=)[^&]*")
_POSTGRES = ("postgresql://", "postgres://")


class Validation(StrEnum):
    """How strictly a client's messages are read."""

    #: What is wrong with a message refuses it.
    STRICT = "strict"
    #: Namespaces that were declared and then not used are mended; the findings are told as warnings.
    LENIENT = "lenient"


class Role(StrEnum):
    """What a process does."""

    ALL = "all"
    API = "api"
    WORKER = "worker"


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class RouteConfig(_Frozen):
    """A `[routes.NAME]` table; the first that serves a message is its route, `default` serves the rest."""

    messages: tuple[str, ...] = Field(
        (), description="Patterns of message definitions, such as `pacs.008.*`; all if empty."
    )
    clients: tuple[str, ...] = Field((), description="Ids of the clients that it serves; all if empty.")
    profile: str | None = Field(
        None,
        description="Profile that judges its messages, such as `sepa-inst`; unset: their header chooses one, else it "
        "is `generic`; see profiles.",
    )
    sla_seconds: Seconds = Field(
        30,
        description="Time from the id to the end, in seconds; stops while a consumer decides. A request about other "
        "messages has 60 at least. Unset, the profile's, where `profile` names one that has it.",
    )
    decision: DecisionRule = Field(
        DecisionRule.AUTO, description="Who decides: `auto` (Interlock, by its rules) or `consumer`."
    )
    decision_above: dict[str, Decimal] = Field(
        {}, description="By currency: a payment above this amount needs a consumer's decision."
    )
    decide_within_seconds: Seconds = Field(
        86_400,
        description="How long a consumer may take to decide, in seconds. Unset, the profile's, if it has that.",
    )
    four_eyes: bool = Field(default=False, description="Whether two different actors must accept.")
    timeout_reason: str = Field(
        "AB06",
        description="ISO reason of a time-out: AB05 (creditor agent), AB06 (instructed agent). Unset, the profile's, "
        "if it has one.",
    )
    when_stopped: WhenStopped = Field(
        WhenStopped.REFUSE, description="While stopped by an operator: `refuse` (503) or `hold` new messages."
    )
    consistency: Consistency = Field(
        Consistency.AVAILABLE,
        description="A message counts as taken once its region has it (`available`) or another one too (`consistent`); "
        "a call may say otherwise.",
    )
    fencing: Fencing = Field(
        Fencing.STRICT,
        description="An end waits for every peer that may take over (`strict`), or for a lease that trusts clocks "
        "(`lease`); see regions.",
    )
    on_takeover: OnTakeover = Field(
        OnTakeover.CANCEL,
        description="When its region is lost, what has no end is cancelled (`cancel`), cancelled and driven again "
        "(`redrive`), or held for a decision (`hold`).",
    )
    retention_days: int | None = Field(
        None,
        ge=1,
        le=36_500,
        description="Days that its transactions stay in the database before they go to an archive; unset: as the "
        "default route says, and for ever where that says nothing either. PostgreSQL only.",
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

    def route(self, name: str, profile: Profile | None = None) -> Route:
        """The route that these settings describe; what they leave open the profile says, where there is one."""
        said = self.model_fields_set
        sla, decide_within = timedelta(seconds=self.sla_seconds), timedelta(seconds=self.decide_within_seconds)
        timeout_reason = self.timeout_reason
        if profile is not None:
            sla = sla if "sla_seconds" in said else profile.sla or sla
            decide_within = decide_within if "decide_within_seconds" in said else profile.decide_within or decide_within
            timeout_reason = timeout_reason if "timeout_reason" in said else profile.timeout_reason or timeout_reason
        return Route(
            name=name,
            messages=self.messages,
            clients=frozenset(self.clients),
            sla=sla,
            decision=self.decision,
            decision_above=self.decision_above,
            decide_within=decide_within,
            four_eyes=self.four_eyes,
            timeout_reason=timeout_reason,
            when_stopped=self.when_stopped,
            consistency=self.consistency,
            fencing=self.fencing,
            on_takeover=self.on_takeover,
            profile=self.profile,
            retention=None if self.retention_days is None else timedelta(days=self.retention_days),
        )


class ProfilesConfig(_Frozen):
    """The `[profiles]` table."""

    folder: Path | None = Field(None, description="Folder of your own profiles, beside those that come with Interlock.")


class ClientConfig(_Frozen):
    """A `[clients."ID"]` table: what holds for one client."""

    validation: Validation = Field(
        Validation.STRICT,
        description="How its messages are read: `strict`, or `lenient`, which mends namespaces that are declared and "
        "then not used, and records that.",
    )


class PeerConfig(_Frozen):
    """A `[regions.NAME]` table: another region that this one exchanges transactions with."""

    number: int = Field(ge=0, le=255, description="Its `region_number`.")
    database: str = Field(
        description="URL of its PostgreSQL database, by which our database's server and our processes reach it."
    )
    endpoint: str = Field(description="URL of its API, for probes, and for calls that are forwarded to it.")
    guard: bool = Field(default=True, description="Whether it may take this region over, and so confirms each end.")

    @field_validator("database")
    @classmethod
    def _is_postgres(cls, value: str) -> str:
        if not value.startswith(_POSTGRES):
            raise ValueError("must be a URL that begins with postgresql://")
        return value

    @field_validator("endpoint")
    @classmethod
    def _is_http(cls, value: str) -> str:
        if not value.startswith(("http://", "https://")):
            raise ValueError("must be a URL that begins with http:// or https://")
        return value.rstrip("/")


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
    bulk_bytes_max: int = Field(
        268_435_456,
        ge=0,
        le=4_294_967_296,
        description="Largest message of many payments taken, in bytes: one over `body_bytes_max` goes through a file, "
        "see bulk; 0: none. Not where several regions are connected.",
    )
    bulk_payments_max: int = Field(100_000, ge=1, le=1_000_000, description="Most payments in such a message.")
    bulk_files_max: int = Field(2, ge=1, le=64, description="Such messages worked on at once; more are answered 503.")
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
    store: str = Field(
        "sqlite",
        description="Where transactions are kept: `sqlite`, a file in the data folder, or the URL of a PostgreSQL "
        "database (`postgresql://user@host/name`), which any number of processes may share.",
    )
    role: Role = Field(
        Role.ALL,
        description="What this process does: `api` takes calls, `worker` fires deadlines and takes over what dead "
        "processes left, `all` does both. Only with PostgreSQL.",
    )
    migrate: Literal["auto", "manual"] = Field(
        "auto", description="Whether a server brings the database's schema up to date, or `interlock db migrate` does."
    )
    lease_seconds: float = Field(
        5, ge=1, le=300, description="Silence after which a process's work is taken over, in seconds. PostgreSQL only."
    )
    partition_days: int = Field(
        1, ge=1, le=366, description="Days that a partition of the database holds; whole ones are archived."
    )
    server_key: Path | None = Field(
        None,
        description="File of 32 bytes under which client secrets are kept, the same for all processes; "
        "unset: `server.key` in the data folder, made at first use.",
    )
    archive: str | None = Field(
        None,
        description="Where archives of old transactions lie: a folder that all processes share, or "
        "`s3://bucket/prefix`, which needs the extra `s3`; see retention.",
    )
    archive_key: Path | None = Field(
        None, description="File of 32 bytes that archives are encrypted with; unset: they are not encrypted."
    )
    archive_old_keys: tuple[Path, ...] = Field(
        (), description="Files of former keys, with which older archives are read; in a variable separated by `:`."
    )
    archive_lock_days: int | None = Field(
        None, ge=1, le=36_500, description="Days that the S3 store must refuse to delete an archive; unset: no lock."
    )
    keys_retention_days: int | None = Field(
        None,
        ge=1,
        le=36_500,
        description="Days after which a duplicate of an archived message or payment is not refused any more; "
        "unset: it always is.",
    )
    otlp_endpoint: str = Field(
        "",
        description="URL of an OpenTelemetry collector that traces are sent to over OTLP/HTTP, such as "
        "`http://127.0.0.1:4318`; empty: none are made. Needs the extra `otel`.",
    )
    witness: str = Field(
        "",
        description="URL of the small PostgreSQL database, apart from all regions, that says who may take over whom; "
        "needed with `regions`.",
    )
    region_lease_seconds: float = Field(
        5, ge=1, le=300, description="Silence at the witness after which a peer may take this region over, in seconds."
    )
    takeover: Literal["automatic", "manual"] = Field(
        "automatic",
        description="Whether this region takes a peer over by itself once that is silent, or `interlock regions "
        "takeover` says so.",
    )
    replicated_within_seconds: float = Field(
        2, gt=0, le=60, description="How long a `consistent` call waits for another region, in seconds; then 503."
    )
    profiles: ProfilesConfig = Field(
        ProfilesConfig(), description="Table `[profiles]`; in a variable its `folder`. See profiles."
    )
    clients: dict[str, ClientConfig] = Field({}, description='Tables `[clients."ID"]`, one a client; see clients.')
    regions: dict[str, PeerConfig] = Field({}, description="Tables `[regions.NAME]`, one a peer; see regions.")
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
        if value != "sqlite" and not value.startswith(_POSTGRES):
            raise ValueError("must be `sqlite` or a URL that begins with postgresql://")
        return value

    @field_validator("otlp_endpoint")
    @classmethod
    def _is_url(cls, value: str) -> str:
        if value and not value.startswith(("http://", "https://")):
            raise ValueError("must be a URL that begins with http:// or https://")
        return value

    @field_validator("archive_old_keys", mode="before")
    @classmethod
    def _are_paths(cls, value: Any) -> Any:
        return [path for path in value.split(os.pathsep) if path] if isinstance(value, str) else value

    @field_validator("profiles", mode="before")
    @classmethod
    def _is_folder(cls, value: Any) -> Any:
        return {"folder": value} if isinstance(value, str | Path) else value

    @model_validator(mode="after")
    def _knows_its_profiles(self) -> "Config":
        try:
            profiles = self.open_profiles() if self._asks_for_profiles else None
        except ConfigError as exc:
            raise ValueError(str(exc)) from exc
        for name, route in self.routes.items():
            if profiles is not None and route.profile is not None and route.profile not in profiles:
                there = ", ".join(profile.name for profile in profiles)
                raise ValueError(f"routes.{name}.profile: there is no profile {route.profile!r}; there are {there}")
        return self

    @model_validator(mode="after")
    def _fits(self) -> "Config":
        if self.bodies_bytes_max < self.body_bytes_max:
            raise ValueError("bodies_bytes_max must be at least body_bytes_max, or the largest message never fits")
        if self.role is not Role.ALL and not self.is_shared:
            raise ValueError(f"role {self.role} needs PostgreSQL: the one process over an SQLite file does everything")
        return self

    @model_validator(mode="after")
    def _knows_its_peers(self) -> "Config":
        if not self.regions:
            if self.witness:
                raise ValueError("witness says nothing without [regions.NAME], the peers")
            for name, route in self.routes.items():
                if route.consistency is not Consistency.AVAILABLE:
                    raise ValueError(
                        f"routes.{name}.consistency is {route.consistency}, but there are no other regions that could "
                        "confirm anything: connect them in [regions.NAME], or leave it out"
                    )
            return self
        if not self.is_shared:
            raise ValueError("regions need PostgreSQL, whose replication connects them")
        if not self.witness:
            raise ValueError("regions need `witness`, the URL of a small PostgreSQL database apart from all regions")
        if self.region in self.regions:
            raise ValueError(f"regions.{self.region} is this region itself; name its peers")
        numbers = [self.region_number, *(peer.number for peer in self.regions.values())]
        if len(set(numbers)) < len(numbers):
            raise ValueError("regions: each region needs a region_number of its own")
        return self

    @model_validator(mode="after")
    def _can_archive(self) -> "Config":
        kept = {f"routes.{name}.retention_days": route.retention_days for name, route in self.routes.items()}
        limited = [name for name, days in kept.items() if days is not None]
        if self.archive is not None and not self.is_shared:
            raise ValueError("archive needs PostgreSQL, which holds years by days: one SQLite file keeps everything")
        if limited and self.archive is None:
            raise ValueError(
                f"{limited[0]} needs `archive`, a place for what leaves the database"
                + ("" if self.is_shared else "; and PostgreSQL, for one SQLite file keeps everything")
            )
        if self.archive_lock_days is not None and not (self.archive or "").startswith("s3://"):
            raise ValueError("archive_lock_days needs `archive` to be s3://...: a folder cannot keep what is deleted")
        if self.archive is None and (self.archive_key or self.archive_old_keys or self.keys_retention_days):
            raise ValueError("archive_key, archive_old_keys and keys_retention_days say nothing without `archive`")
        return self

    @property
    def store_shown(self) -> str:
        """The store without a password, for people and logs."""
        return _PASSWORD.sub(r"\1\3***\2", self.store)

    @property
    def is_regional(self) -> bool:
        """Whether other regions are connected."""
        return bool(self.regions)

    @property
    def is_shared(self) -> bool:
        """Whether several processes may write to the store."""
        return self.store != "sqlite"

    @property
    def file(self) -> Path:
        """The SQLite file."""
        return self.data / "interlock.db"

    @property
    def _asks_for_profiles(self) -> bool:
        """Whether there is anything about profiles that could be wrong."""
        return self.profiles.folder is not None or any(route.profile is not None for route in self.routes.values())

    def open_profiles(self) -> Profiles:
        """Ours and the operator's. Raises ConfigError with every fault of every file."""
        return Profiles.load(self.profiles.folder)

    def choice_of_routes(self) -> Routes:
        """The routes in the operator's order, and the default. Raises ConfigError (profiles)."""
        profiles = self.open_profiles() if self._asks_for_profiles else None

        def made(name: str, config: RouteConfig) -> Route:
            if profiles is None or config.profile is None:
                return config.route(name)
            return config.route(name, profiles.named(config.profile))

        listed = [made(name, config) for name, config in self.routes.items() if name != "default"]
        return Routes(listed, made("default", self.routes.get("default", RouteConfig())))

    def validation_of(self, client: str) -> Validation:
        """How a client's messages are read."""
        config = self.clients.get(client)
        return Validation.STRICT if config is None else config.validation


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
