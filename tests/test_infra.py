"""The files in `infra/` hold together: with each other, with the DAGs, and with the versions that are installed."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyspark
import pytest
import yaml

pytest.importorskip("psutil", reason="needs the extra `airflow`")

import psutil

import cluster
from selflearn.errors import InfrastructureError
from selflearn.lakehouse.jars import jar_names
from selflearn.settings import parse_settings
from services import Service, Supervisor

INFRA = Path(__file__).resolve().parent.parent / "infra"
COMPOSE: dict[str, Any] = yaml.safe_load((INFRA / "compose.yaml").read_text())
KUBERNETES = [
    document
    for file in sorted((INFRA / "kubernetes").glob("*.yaml"))
    for document in yaml.safe_load_all(file.read_text())
    if "kind" in document
]
POOLS = {"selflearn_mining", "selflearn_learning"}


def spark_settings(text: str) -> dict[str, str]:
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    assert len(dict(lines)) == len(lines), "a setting stands twice"
    return dict(lines)


def test_every_service_has_what_it_refers_to() -> None:
    services = COMPOSE["services"]
    for name, service in services.items():
        assert "image" in service, name
        if "build" in service:
            assert (INFRA / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        assert set(service.get("depends_on", ())) <= set(services), name
        for kind in ("configs", "secrets"):
            named = {item if isinstance(item, str) else item["source"] for item in service.get(kind, ())}
            assert named <= set(COMPOSE[kind]), name
        named = {volume.split(":")[0] for volume in service.get("volumes", ())}
        assert named <= set(COMPOSE["volumes"]), name


def test_nothing_in_containers_is_open_to_other_machines() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_no_secret_stands_in_a_file() -> None:
    """In containers they come from the environment or a mounted file, and no setting of Spark holds one."""
    secret = re.compile(r"SECRET|PASSWORD|KEY|SQL_ALCHEMY_CONN")
    given = {
        name: value
        for service in COMPOSE["services"].values()
        for name, value in service.get("environment", {}).items()
        if secret.search(name) and not name.endswith("_FILE")
    }
    assert {"AWS_SECRET_ACCESS_KEY", "POSTGRES_PASSWORD"} <= given.keys()
    assert all("${" in value for value in given.values())
    for file in INFRA.rglob("spark-defaults.conf"):
        assert not [name for name in spark_settings(file.read_text()) if re.search(r"access\.key|secret\.key", name)]


def test_pools_are_those_of_the_dags() -> None:
    jobs = (INFRA.parent / "dags" / "selflearn_jobs.py").read_text()
    setup = " ".join(COMPOSE["services"]["airflow-setup"]["command"])
    assert set(cluster.POOLS) == POOLS
    assert set(re.findall(r"pools set (\w+) 1", setup)) == POOLS
    assert set(re.findall(r"\"(selflearn_(?:mining|learning))\"", jobs)) == POOLS


def test_settings_of_the_containers_are_valid() -> None:
    parse_settings(yaml.safe_load((INFRA / "settings.yaml").read_text()))


@pytest.mark.parametrize("document", KUBERNETES, ids=lambda document: document["kind"])
def test_kubernetes_objects_have_their_parts(document: dict[str, Any]) -> None:
    assert {"apiVersion", "kind", "metadata"} <= set(document)
    assert document["metadata"]["namespace"] == "selflearn"


def test_the_spark_application_is_of_the_versions_that_are_locked() -> None:
    [spec] = [document["spec"] for document in KUBERNETES if document["kind"] == "SparkApplication"]
    assert spec["sparkVersion"] == pyspark.__version__
    assert {Path(jar).name for jar in spec["deps"]["jars"]} == set(jar_names())
    job = Path(spec["mainApplicationFile"]).name
    assert (INFRA.parent / "jobs" / job).is_file()
    assert spec["driver"]["serviceAccount"] in {document["metadata"]["name"] for document in KUBERNETES}


def test_every_line_of_the_spark_settings_is_explained() -> None:
    text = (INFRA / "spark-defaults.conf").read_text()
    for block in text.split("\n\n"):
        assert block.startswith("#"), block
    known = spark_settings(text)
    assert spark_settings((INFRA / "local" / "spark-defaults.conf").read_text()).keys() - known.keys() == {
        "spark.ui.enabled",
        "spark.master.rest.enabled",
        "spark.databricks.delta.snapshotPartitions",
    }


def test_the_entry_point_is_a_script_a_shell_can_read() -> None:
    script = INFRA / "entrypoint.sh"
    assert subprocess.run(["sh", "-n", str(script)], check=False).returncode == 0
    assert script.stat().st_mode & 0o111


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor(tmp_path)
    yield supervisor
    for name in supervisor.names():
        supervisor.stop(name)


def test_a_service_is_started_once_found_again_and_stopped_with_its_children(
    supervisor: Supervisor, tmp_path: Path
) -> None:
    sleepers = Service("sleepers", ("sh", "-c", "sleep 600 & sleep 600; true"))
    assert supervisor.start(sleepers, os.environ)
    assert not Supervisor(tmp_path).start(sleepers, os.environ)
    process = Supervisor(tmp_path).running("sleepers")
    assert process
    while len(family := [process, *process.children()]) < 3:
        time.sleep(0.05)
    Supervisor(tmp_path).stop("sleepers")
    assert not any(one.is_running() and one.status() != psutil.STATUS_ZOMBIE for one in family)
    assert supervisor.names() == []


def test_a_service_that_dies_is_told_with_its_last_words(supervisor: Supervisor) -> None:
    supervisor.start(Service("short", ("sh", "-c", "echo no such file; exit 3")), os.environ)
    with pytest.raises(InfrastructureError, match=r"short ended as soon as it was started:(.|\n)*no such file"):
        supervisor.wait("short", lambda: False, 60)
    assert supervisor.start(Service("short", ("sleep", "600")), os.environ)


def test_a_port_that_is_taken_is_named_with_its_option(supervisor: Supervisor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        taken = Service("web", ("sleep", "600"), {port: "--web-port"})
        said = rf"port {port}, which web is to listen on, is taken(.|\n)*choose another port with --web-port"
        with pytest.raises(InfrastructureError, match=said):
            supervisor.start(taken, os.environ)
    assert supervisor.names() == []


def test_a_number_that_went_to_another_process_is_not_ours(supervisor: Supervisor, tmp_path: Path) -> None:
    supervisor.start(Service("web", ("sleep", "600")), os.environ)
    noted = tmp_path / "processes" / "web.json"
    process = supervisor.running("web")
    assert process
    noted.write_text(json.dumps({"pid": process.pid, "started": process.create_time() - 100}))
    assert supervisor.running("web") is None
    supervisor.stop("web")
    assert process.is_running()
    process.kill()
