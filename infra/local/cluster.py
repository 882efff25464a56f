"""A Spark cluster and an Airflow on this machine, no container needed.

python infra/local/cluster.py start --settings settings.yaml
python infra/local/cluster.py stop

Starts a standalone master with two workers and, with the DAGs of `dags/`, an Airflow: scheduler with its executor,
DAG processor, API server. All of them listen on 127.0.0.1 alone; databases, logs and passwords lie in one folder.
Started twice, it starts what does not run. `start --spark-only` leaves Airflow out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pyspark

from selflearn.errors import InfrastructureError, SelflearnError, SettingsError
from selflearn.java import find_java
from selflearn.lakehouse.jars import find_jars
from selflearn.settings import load_settings
from services import Service, Supervisor, is_listening, path_with

ROOT = Path(__file__).resolve().parents[2]
SPARK_HOME = Path(pyspark.__file__).parent
N_WORKERS = 2
POOLS = {"selflearn_mining": "writers of the mining tables", "selflearn_learning": "writers of the learning tables"}
_START_SECONDS = 600


@dataclass(frozen=True)
class Cluster:
    """Where things lie and listen.

    Attributes:
        home: folder of databases, logs and passwords.
        settings: settings file of the jobs; none where only Spark runs.
        spark_port: of the master, which jobs are submitted to.
        spark_ui_port: of the master's page.
        airflow_port: of Airflow's API and pages.
        cores: of each worker.
        memory: of each worker, in Spark's notation.
    """

    home: Path = Path("build/local")
    settings: Path | None = None
    spark_port: int = 7077
    spark_ui_port: int = 8090
    airflow_port: int = 8080
    cores: int = 1
    memory: str = "2g"

    @property
    def supervisor(self) -> Supervisor:
        return Supervisor(self.home.absolute())

    @property
    def master(self) -> str:
        return f"spark://127.0.0.1:{self.spark_port}"

    def environment(self) -> dict[str, str]:
        """What every process of the cluster sees, and whoever submits jobs to it or runs `airflow`."""
        airflow, url = self.home.absolute() / "airflow", f"http://127.0.0.1:{self.airflow_port}"
        connection = {"conn_type": "spark", "host": "spark://127.0.0.1", "port": self.spark_port}
        return {
            **os.environ,
            "PATH": path_with(Path(sys.executable).parent),
            "JAVA_HOME": str(find_java().home),
            "SPARK_HOME": str(SPARK_HOME),
            "SPARK_CONF_DIR": str(Path(__file__).parent),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_NO_DAEMONIZE": "1",
            "PYSPARK_PYTHON": sys.executable,
            "SELFLEARN_HOME": str(ROOT),
            "SELFLEARN_SETTINGS": str((self.settings or Path("settings.yaml")).absolute()),
            "SELFLEARN_JARS": str(find_jars()[0].parent),
            "AIRFLOW_HOME": str(airflow),
            "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps(connection),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
            "AIRFLOW__CORE__PARALLELISM": "4",
            "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
            "AIRFLOW__DAG_PROCESSOR__MIN_FILE_PROCESS_INTERVAL": "300",
            "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
            "AIRFLOW__API__BASE_URL": url,
            "AIRFLOW__API__HOST": "127.0.0.1",
            "AIRFLOW__API__PORT": str(self.airflow_port),
            "AIRFLOW__API__WORKERS": "1",
        }

    def start(self, with_airflow: bool = True) -> None:
        """Start what does not run yet, and wait until all of it can be used.

        Raises:
            InfrastructureError: a port is taken, or a service does not come up; says which.
        """
        self._start_spark()
        if with_airflow:
            self._start_airflow()

    def stop(self) -> None:
        """Stop all that runs, the newest first."""
        for name in self.supervisor.names():
            self.supervisor.stop(name)

    def services(self) -> dict[str, Service]:
        """Every service by its name, in the order they start."""
        address = ("--host", "127.0.0.1")
        master = ("master.Master", *address, "--port", str(self.spark_port), "--webui-port", str(self.spark_ui_port))
        own = {self.spark_port: "--spark-port", self.spark_ui_port: "--spark-ui-port"}
        sizes = ("--cores", str(self.cores), "--memory", self.memory, "--webui-port", "0")
        services = [Service("spark-master", _spark(*master), own)]
        for number in range(1, N_WORKERS + 1):
            place = ("--work-dir", str(self.home.absolute() / f"worker-{number}"))
            services.append(
                Service(f"spark-worker-{number}", _spark("worker.Worker", *address, *sizes, *place, self.master))
            )
        services += [
            Service("airflow-api", _airflow("api-server"), {self.airflow_port: "--airflow-port"}),
            Service("airflow-dags", _airflow("dag-processor")),
            Service("airflow-scheduler", _airflow("scheduler", "--skip-serve-logs")),
        ]
        return {service.name: service for service in services}

    def start_service(self, name: str) -> None:
        """Start one of the services, unless it runs."""
        self.supervisor.start(self.services()[name], self.environment())

    def prepare_airflow(self) -> None:
        """Make Airflow's database and pools, unless they are there.

        Raises:
            SettingsError: the jobs' settings are missing or wrong.
        """
        if self.settings is None:
            raise SettingsError("Airflow needs to know the settings of its jobs", "name them: --settings FILE")
        load_settings(self.settings)
        prepared = self.home / "airflow" / "prepared"
        if not prepared.exists():
            self._run_airflow("db", "migrate")
            pools = prepared.with_name("pools.json")
            pools.write_text(json.dumps({name: {"slots": 1, "description": text} for name, text in POOLS.items()}))
            self._run_airflow("pools", "import", str(pools))
            prepared.touch()

    def n_alive_workers(self) -> int:
        """Workers that the master counts on."""
        return int(_get(f"http://127.0.0.1:{self.spark_ui_port}/json/").get("aliveworkers", 0))

    def _start_spark(self) -> None:
        self.start_service("spark-master")
        self.supervisor.wait("spark-master", is_listening(self.spark_port), _START_SECONDS)
        workers = [f"spark-worker-{number}" for number in range(1, N_WORKERS + 1)]
        for name in workers:
            self.start_service(name)
        self.supervisor.wait(workers[-1], lambda: self.n_alive_workers() >= N_WORKERS, _START_SECONDS)

    def _start_airflow(self) -> None:
        self.prepare_airflow()
        for name in ("airflow-api", "airflow-dags", "airflow-scheduler"):
            self.start_service(name)
        self.supervisor.wait("airflow-scheduler", self._is_healthy, _START_SECONDS)

    def _is_healthy(self) -> bool:
        health = _get(f"http://127.0.0.1:{self.airflow_port}/api/v2/monitor/health")
        return all(health.get(part, {}).get("status") == "healthy" for part in ("scheduler", "dag_processor"))

    def _run_airflow(self, *arguments: str) -> None:
        done = subprocess.run(_airflow(*arguments), env=self.environment(), capture_output=True, text=True, check=False)
        if done.returncode:
            raise InfrastructureError(
                f"`airflow {' '.join(arguments[:2])}` failed: {(done.stderr or done.stdout).strip()[-500:]}",
                f"if {self.home} is of an older Airflow, stop the cluster and remove that folder",
            )


def _spark(kind: str, *arguments: str) -> tuple[str, ...]:
    return (str(SPARK_HOME / "bin" / "spark-class"), f"org.apache.spark.deploy.{kind}", *arguments)


def _airflow(*arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", "airflow", *arguments)


def _get(url: str) -> dict[str, dict[str, str]]:
    """What the address answers; nothing where it does not."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            found: dict[str, dict[str, str]] = json.load(answer)
            return found
    except (urllib.error.URLError, OSError, ValueError):
        return {}


def main() -> None:
    """The command line."""
    usual = Cluster()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["start", "stop"])
    parser.add_argument("--home", type=Path, default=usual.home, help="folder of databases, logs and passwords")
    parser.add_argument("--settings", type=Path, help="settings file of the jobs")
    parser.add_argument("--spark-port", type=int, default=usual.spark_port)
    parser.add_argument("--spark-ui-port", type=int, default=usual.spark_ui_port)
    parser.add_argument("--airflow-port", type=int, default=usual.airflow_port)
    parser.add_argument("--cores", type=int, default=usual.cores, help="of each of the two workers")
    parser.add_argument("--memory", default=usual.memory, help="of each of the two workers")
    parser.add_argument("--spark-only", action="store_true", help="start no Airflow")
    given = vars(parser.parse_args())
    do, spark_only = given.pop("do"), given.pop("spark_only")
    cluster = Cluster(**given)
    try:
        if do == "stop":
            cluster.stop()
            return
        cluster.start(with_airflow=not spark_only)
    except SelflearnError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    print(f"Spark:   {cluster.master}, http://127.0.0.1:{cluster.spark_ui_port}")
    if not spark_only:
        password = cluster.home / "airflow" / "simple_auth_manager_passwords.json.generated"
        print(f"Airflow: http://127.0.0.1:{cluster.airflow_port}, user and password in {password}")
    print(f"Logs:    {cluster.supervisor.logs}")


if __name__ == "__main__":
    main()
