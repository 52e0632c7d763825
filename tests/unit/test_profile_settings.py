"""Settings about profiles: routes take over what a profile knows, unless they say otherwise."""

from datetime import timedelta
from pathlib import Path

import pytest

from interlock.config import Validation, load
from interlock.errors import ConfigError
from interlock.routes import Route


def routes(folder: Path, text: str) -> dict[str, Route]:
    file = folder / "interlock.toml"
    file.write_text(text, "utf-8")
    return {route.name: route for route in load({}, file).choice_of_routes()}


@pytest.mark.parametrize(
    ("text", "sla", "decide_within", "reason"),
    [
        ("", 30, 86_400, "AB06"),
        ('profile = "generic"', 30, 86_400, "AB06"),
        ('profile = "sepa-inst"', 10, 10, "AB05"),
        ('profile = "sepa-inst"\nsla_seconds = 30', 30, 10, "AB05"),
        ('profile = "sepa-inst"\ndecide_within_seconds = 5', 10, 5, "AB05"),
        ('profile = "sepa-inst"\ntimeout_reason = "AB06"', 10, 10, "AB06"),
        ('profile = "fednow"', 20, 20, "AB06"),
    ],
)
def test_a_route_takes_its_clocks_from_its_profile(
    tmp_path: Path, text: str, sla: int, decide_within: int, reason: str
) -> None:
    """What the route says goes first, also where it says just the default."""
    route = routes(tmp_path, f"[routes.mine]\n{text}\n")["mine"]
    assert route.sla == timedelta(seconds=sla)
    assert route.decide_within == timedelta(seconds=decide_within)
    assert route.timeout_reason == reason


def test_routes_name_the_profile(tmp_path: Path) -> None:
    """Of a client's message by its definition; None leaves the choice to the header."""
    text = '[routes.instant]\nmessages = ["pacs.008.*"]\nclients = ["a"]\nprofile = "sepa-inst"\n'
    (tmp_path / "interlock.toml").write_text(text, "utf-8")
    choice = load({}, tmp_path / "interlock.toml").choice_of_routes()
    assert choice.profile_for("a", "pacs.008.001.08") == "sepa-inst"
    assert choice.profile_for("a", "pacs.009.001.08") is None
    assert choice.profile_for("b", "pacs.008.001.08") is None


def test_profiles_of_ones_own(tmp_path: Path) -> None:
    """A folder in the file or a variable; a route can name what is in it."""
    folder = tmp_path / "profiles"
    folder.mkdir()
    (folder / "acme.toml").write_text('title = "Acme"\n[sla]\nseconds = 3\n', "utf-8")
    file = tmp_path / "interlock.toml"
    file.write_text(f'[profiles]\nfolder = "{folder}"\n[routes.default]\nprofile = "acme"\n', "utf-8")
    config = load({}, file)
    assert config.choice_of_routes().default.sla == timedelta(seconds=3)
    assert "acme" in config.open_profiles()
    assert "acme" in load({"INTERLOCK_PROFILES": str(folder)}).open_profiles()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[routes.a]\nprofile = "nowhere"', "routes.a.profile: there is no profile 'nowhere'; there are cbprplus"),
        ('[profiles]\nfolder = "/nowhere/at/all"', "profiles: there is no folder /nowhere/at/all"),
        ('[clients."c_1"]\nvalidation = "loose"', "clients.c_1.validation"),
        ('[profiles]\nplace = "x"', "profiles.place: there is no such setting"),
    ],
)
def test_faults(tmp_path: Path, text: str, said: str) -> None:
    """They are told at the start."""
    file = tmp_path / "interlock.toml"
    file.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as raised:
        load({}, file)
    assert said in str(raised.value)


def test_validation_is_set_by_client(tmp_path: Path) -> None:
    """Strict for all but those who are named."""
    file = tmp_path / "interlock.toml"
    file.write_text('[clients."c_1"]\nvalidation = "lenient"\n[clients."c_2"]\n', "utf-8")
    config = load({}, file)
    assert [config.validation_of(client) for client in ("c_1", "c_2", "c_3")] == [
        Validation.LENIENT,
        Validation.STRICT,
        Validation.STRICT,
    ]
