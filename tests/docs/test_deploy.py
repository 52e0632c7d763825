"""What stands in deploy/ is sound: it can be read, keeps to the rules of a careful house, and names what exists.

No container engine and no cluster is needed. Where a linter or a server of somebody else's is there it is asked, too;
where it is not, that test is skipped and says so.
"""

import json
import re
import shutil
import stat
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from interlock.config import NOT_SETTINGS, Config, load
from tests.docs.deployed import DEPLOY, ROOT, instructions, last_stage, name_of, parsed, run, text, told, tool

yaml: Any = pytest.importorskip("yaml")
kubernetes_validate: Any = pytest.importorskip("kubernetes_validate")

KUBERNETES = DEPLOY / "kubernetes"
FILES = sorted(path for path in DEPLOY.rglob("*") if path.is_file() and path.parent.name != "secrets")
MANIFESTS = sorted(KUBERNETES.rglob("*.yaml"))
#: Kinds that no schema is bundled for: kustomize's own, and those of operators.
FOREIGN = {"Kustomization", "Cluster", "PodMonitor"}
#: The oldest Kubernetes that the manifests are for, and the newest whose schemas we have.
VERSIONS = ("1.27", kubernetes_validate.latest_version())
#: What SIGTERM may take, in seconds.
STOP_SECONDS = 25


@pytest.mark.parametrize("path", [path for path in FILES if path.suffix in {".yaml", ".json"}], ids=name_of)
def test_each_file_can_be_read(path: Path) -> None:
    """Every YAML and JSON file is one."""
    assert all(yaml.safe_load_all(path.read_text("utf-8")))
    if path.suffix == ".json":
        json.loads(path.read_text("utf-8"))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_file_names_a_machine(path: Path) -> None:
    """No path of whoever wrote it, no host of a package registry, nothing left to do."""
    found = re.search(r"/home/\w|/Users/\w|/work\b|pyp[i]\.org|pythonhoste[d]|<<<<<<<|TOD[O]", path.read_text("utf-8"))
    assert found is None, found


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_each_variable_is_a_setting(path: Path) -> None:
    """Interlock refuses to start with a variable that it does not know; nothing here has one."""
    known = {f"INTERLOCK_{name.upper()}" for name in Config.model_fields} | NOT_SETTINGS
    assert set(re.findall(r"\bINTERLOCK_[A-Z_]*[A-Z]\b", path.read_text("utf-8"))) - known == set()


# -- the image --------------------------------------------------------------------------------------------------------


def test_the_base_image_is_pinned() -> None:
    """Both stages are of one Python image, whose version is one that we test with."""
    arguments = dict(rest.split("=", 1) for word, rest in instructions() if word == "ARG")
    bases = {
        rest.split()[0].replace("${PYTHON}", arguments["PYTHON"]) for word, rest in instructions() if word == "FROM"
    }
    assert bases == {"python:3.11-slim-trixie"}


def test_the_image_does_not_run_as_root() -> None:
    """By a number, which Kubernetes can tell from root's, and it is the one of the manifests."""
    assert told("USER") == "10001:10001"


def test_the_image_has_no_tools_to_build_with() -> None:
    """Nothing is installed in the last stage; what is copied into it was made in the first."""
    script = "\n".join(rest for word, rest in last_stage() if word == "RUN")
    assert re.search(r"apt-get|apk|curl|wget|pip install", script) is None
    assert [rest.split()[0] for word, rest in last_stage() if word in {"COPY", "ADD"}] == ["--from=build"]


def test_the_image_is_started_and_stopped_as_interlock_wants() -> None:
    """As process 1 without a shell, which would keep SIGTERM for itself."""
    assert json.loads(told("ENTRYPOINT")) == ["interlock"]
    assert told("STOPSIGNAL") == "SIGTERM"


def test_the_image_holds_the_source_and_nothing_else() -> None:
    """What the Dockerfile copies exists and is let through by .dockerignore, which begins by shutting all out."""
    lines = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line and line[0] != "#"]
    assert lines[0] == "*"
    copied = [rest.split()[:-1] for word, rest in instructions() if word == "COPY" and "--from" not in rest]
    for source in (name for names in copied for name in names):
        assert (ROOT / source).exists()
        assert f"!{source}" in lines


def test_the_lock_serves_the_project() -> None:
    """Each dependency of the image has one version that pyproject.toml allows, with hashes; else: deploy/lock.sh."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras = re.findall(r"--extra ([a-z0-9-]+)", text("lock.sh"))
    wanted = project["project"]["dependencies"] + [
        line for extra in extras for line in project["project"]["optional-dependencies"][extra]
    ]
    for file, lines in (("requirements.txt", wanted), ("requirements-build.txt", project["build-system"]["requires"])):
        blocks = re.split(r"\n(?=[a-z])", re.sub(r"^#.*\n", "", text(file), flags=re.MULTILINE))
        assert [block for block in blocks if "--hash=sha256:" not in block] == []
        locked = dict(re.findall(r"^([a-z0-9-]+)==([^ ]+)", "\n".join(blocks), re.MULTILINE))
        for requirement in map(Requirement, lines):
            assert requirement.specifier.contains(locked[canonicalize_name(requirement.name)]), requirement


def test_hadolint_has_nothing_to_say() -> None:
    """The linter of Dockerfiles."""
    assert run(tool("hadolint"), DEPLOY / "Dockerfile") == ""


@pytest.mark.parametrize("name", ["lock.sh", "make-secrets.sh", "postgres/init.sh"])
def test_shellcheck_has_nothing_to_say(name: str) -> None:
    """The linter of shell scripts; and they can be started."""
    assert (DEPLOY / name).stat().st_mode & stat.S_IXUSR
    assert run(tool("shellcheck"), DEPLOY / name) == ""


# -- compose -----------------------------------------------------------------------------------------------------------

SERVICES: Mapping[str, Any] = parsed("compose.yaml")["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_each_service_is_hardened(name: str) -> None:
    """It writes to nothing but what it is given, has no capability, cannot gain one, is watched and may finish."""
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.search(r":(?!latest)[\w.-]*\d", service["image"])
    assert "healthcheck" in service or service["image"].startswith("interlock:")
    assert int(service["stop_grace_period"].removesuffix("s")) > STOP_SECONDS
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_services_wait_for_what_they_need() -> None:
    """Interlock for the database, the balancer for both Interlocks, each until it is well."""
    needs = {name: service.get("depends_on", {}) for name, service in SERVICES.items()}
    assert set(needs["balancer"]) == {"interlock-1", "interlock-2"}
    assert all(set(needs[name]) == {"postgres"} for name in needs["balancer"])
    assert {rule["condition"] for need in needs.values() for rule in need.values()} == {"service_healthy"}


def test_only_interlock_reaches_the_database() -> None:
    """The database is in a network of its own, without the balancer and without a way out."""
    networks = {name: set(service["networks"]) for name, service in SERVICES.items()}
    assert networks["postgres"] == {"back"}
    assert networks["balancer"] == {"front"}
    assert parsed("compose.yaml")["networks"]["back"] == {"internal": True}


def test_secrets_are_made_once_and_kept(tmp_path: Path) -> None:
    """The script makes what compose mounts, in a folder that others cannot enter; a second run changes nothing."""
    tool("openssl")
    shutil.copy(DEPLOY / "make-secrets.sh", tmp_path)
    run(tmp_path / "make-secrets.sh")
    made = {path.name: path.read_bytes() for path in (tmp_path / "secrets").iterdir()}
    assert {f"./secrets/{name}" for name in made} == {
        secret["file"] for secret in parsed("compose.yaml")["secrets"].values()
    }
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert len(made["server.key"]) == 32
    assert made["interlock_password"].strip() in made["pg_service.conf"]
    run(tmp_path / "make-secrets.sh")
    assert {path.name: path.read_bytes() for path in (tmp_path / "secrets").iterdir()} == made


def test_secrets_are_not_committed() -> None:
    """Git leaves the folder out."""
    assert "/secrets/" in text(".gitignore").splitlines()


def test_docker_compose_takes_the_files() -> None:
    """Docker's own command, which needs no engine for it."""
    program = tool("docker-compose")
    run(program, "-f", DEPLOY / "compose.yaml", "config", "--quiet")
    run(program, "-f", DEPLOY / "compose.yaml", "-f", DEPLOY / "compose.tls.yaml", "config", "--quiet")


# -- Kubernetes -------------------------------------------------------------------------------------------------------


def documents(*paths: Path) -> Iterator[dict[str, Any]]:
    for path in paths:
        yield from yaml.safe_load_all(path.read_text("utf-8"))


def of_kind(*kinds: str) -> list[dict[str, Any]]:
    return [document for document in documents(*MANIFESTS) if document["kind"] in kinds]


def pod_of(document: dict[str, Any]) -> dict[str, Any]:
    pod: dict[str, Any] = document["spec"]["template"]["spec"]
    return pod


RUNS = of_kind("Deployment", "Job")
DEPLOYMENTS = of_kind("Deployment")


def named(document: dict[str, Any]) -> str:
    return str(document["metadata"]["name"])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("path", MANIFESTS, ids=name_of)
def test_manifests_are_as_kubernetes_wants_them(path: Path, version: str) -> None:
    """Each fits Kubernetes' own schema, with no field that it does not know."""
    for document in documents(path):
        if document["kind"] not in FOREIGN:
            kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize("folder", [KUBERNETES, KUBERNETES / "migrate"], ids=name_of)
def test_kustomize_makes_whole_manifests(folder: Path) -> None:
    """What `kubectl apply -k` would send is valid, in our namespace, of one image, and leaves the examples out."""
    made = list(yaml.safe_load_all(run(tool("kubectl"), "kustomize", folder)))
    for document in made:
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)
    assert {document["metadata"].get("namespace", "interlock") for document in made} == {"interlock"}
    images = {
        pod_of(document)["containers"][0]["image"] for document in made if document["kind"] in {"Deployment", "Job"}
    }
    assert len(images) == 1
    assert "Secret" not in {document["kind"] for document in made}


def test_every_manifest_is_part_of_it_or_an_example() -> None:
    """No file is forgotten in a kustomization; both name the same image."""
    for folder in (KUBERNETES, KUBERNETES / "migrate"):
        files = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
        listed = parsed(f"{(folder / 'kustomization.yaml').relative_to(DEPLOY)}")["resources"]
        assert {name for name in files if not name.endswith(".example.yaml")} == set(listed)
    assert (
        parsed("kubernetes/kustomization.yaml")["images"] == parsed("kubernetes/migrate/kustomization.yaml")["images"]
    )


@pytest.mark.parametrize("document", RUNS, ids=named)
def test_each_pod_is_hardened(document: dict[str, Any]) -> None:
    """As Pod Security's `restricted` asks, and further: a read-only root file system, no token, the image's user."""
    pod = pod_of(document)
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert f"{security['runAsUser']}:{security['runAsGroup']}" == told("USER")
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    # Kubernetes would set INTERLOCK_PORT and others for the service of that name: unknown settings, and so no start.
    assert pod["enableServiceLinks"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"cpu", "memory"} == set(container["resources"]["requests"])
    assert "memory" in container["resources"]["limits"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


@pytest.mark.parametrize("document", DEPLOYMENTS, ids=named)
def test_each_deployment_is_replaced_without_a_gap(document: dict[str, Any]) -> None:
    """Two at least, a new one ready before an old one goes, a budget for drains, time to finish, honest probes."""
    spec, pod = document["spec"], pod_of(document)
    assert spec["replicas"] >= 2
    assert spec["strategy"]["rollingUpdate"]["maxUnavailable"] == 0
    labels = spec["template"]["metadata"]["labels"].items()
    assert spec["selector"]["matchLabels"].items() <= labels
    budgets = [budget["spec"]["selector"]["matchLabels"] for budget in of_kind("PodDisruptionBudget")]
    assert sum(budget.items() <= labels for budget in budgets) == 1
    (container,) = pod["containers"]
    before_stop = int(container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", ["", "0"])[1])
    assert pod["terminationGracePeriodSeconds"] > before_stop + STOP_SECONDS
    probes = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "liveness", "readiness")}
    # A restart does not bring a database back: who cannot store is alive all the same.
    assert probes == {"startup": "/healthz", "liveness": "/healthz", "readiness": "/readyz"}
    assert {"kubernetes.io/hostname", "topology.kubernetes.io/zone"} == {
        rule["topologyKey"] for rule in pod["topologySpreadConstraints"]
    }


def test_the_service_leads_to_the_api_alone() -> None:
    """Workers and migrations are not called."""
    (service,) = of_kind("Service")
    served = [
        named(document)
        for document in RUNS
        if service["spec"]["selector"].items() <= document["spec"]["template"]["metadata"]["labels"].items()
    ]
    assert served == ["interlock-api"]


@pytest.mark.parametrize("document", RUNS, ids=named)
def test_each_pod_starts_with_good_settings(document: dict[str, Any]) -> None:
    """The environment that the manifests give, with the file that it names, is a configuration that Interlock takes."""
    (container,) = pod_of(document)["containers"]
    maps = {named(found): found["data"] for found in of_kind("ConfigMap")}
    environment = dict(maps[container["envFrom"][0]["configMapRef"]["name"]])
    (secret,) = of_kind("Secret")
    for variable in container["env"]:
        reference = variable.get("valueFrom", {}).get("secretKeyRef")
        assert reference is None or reference["name"] == secret["metadata"]["name"]
        environment[variable["name"]] = secret["stringData"][reference["key"]] if reference else variable["value"]
    assert environment.pop("INTERLOCK_CONFIG") == "/etc/interlock/interlock.toml"
    given = tomllib.loads(maps["interlock-file"]["interlock.toml"])
    config = load(environment, **given)
    assert config.is_shared
    assert config.role == container_role(container)
    assert {str(config.data), str(config.server_key and config.server_key.parent), "/tmp", "/etc/interlock"} == {
        mount["mountPath"] for mount in container["volumeMounts"]
    }


def container_role(container: dict[str, Any]) -> str:
    return next((entry["value"] for entry in container["env"] if entry["name"] == "INTERLOCK_ROLE"), "all")


# -- systemd ----------------------------------------------------------------------------------------------------------

UNIT = "systemd/interlock@.service"


def test_the_instance_says_role_and_port() -> None:
    """`api-8080` is cut in two by the unit's own shell line."""
    line = re.search(r"^ExecStart=/bin/sh -c '(.*)' %i$", text(UNIT), re.MULTILINE)
    assert line is not None
    script = line[1].replace("$$", "$").replace("%%", "%").replace("/opt/interlock/bin/interlock serve", "env")
    said = run("/bin/sh", "-c", script, "worker-8090").splitlines()
    assert {"INTERLOCK_ROLE=worker", "INTERLOCK_PORT=8090"} <= set(said)


def test_the_unit_lets_interlock_finish() -> None:
    """SIGTERM and time enough; and a wrong setting is not tried again."""
    lines = text(UNIT).splitlines()
    assert "KillSignal=SIGTERM" in lines
    (seconds,) = [int(line.partition("=")[2]) for line in lines if line.startswith("TimeoutStopSec=")]
    assert seconds > STOP_SECONDS
    assert "Restart=on-failure" in lines
    assert "RestartPreventExitStatus=78" in lines


def test_the_example_environment_is_good() -> None:
    """Interlock takes the settings of the example, with those that the unit adds."""
    lines = [line for line in text("systemd/interlock.env.example").splitlines() if line and line[0] != "#"]
    added = {"INTERLOCK_ROLE": "api", "INTERLOCK_PORT": "8080", "INTERLOCK_SERVER_KEY": "server.key"}
    given = {name: value.strip('"') for name, _, value in (line.partition("=") for line in lines)}
    config = load({**given, **added})
    assert config.is_shared


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """The check of systemd itself finds no fault, and its measure of exposure is low (of 100; from 50 on 'medium')."""
    program = tool("systemd-analyze")
    instance = tmp_path / "interlock@api-8080.service"
    instance.write_text(text(UNIT), "utf-8")
    done = subprocess.run(
        [program, "verify", "--man=no", "--recursive-errors=no", instance], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    run(program, "security", "--offline=true", "--no-pager", "--threshold=20", instance)
