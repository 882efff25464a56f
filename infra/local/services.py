"""Processes that outlive whoever started them: started once, found again, stopped whole."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from selflearn.errors import InfrastructureError

_STOP_SECONDS = 20
_LINES_SHOWN = 15


@dataclass(frozen=True)
class Service:
    """A process to run: what it is called, its command, and its ports of 127.0.0.1 with the option that sets each."""

    name: str
    command: Sequence[str]
    ports: Mapping[int, str] = field(default_factory=dict)


class Supervisor:
    """Starts and stops services; what it knows of them lies in a folder, so that another process may stop them."""

    def __init__(self, folder: Path) -> None:
        self._processes = folder / "processes"
        self.logs = folder / "logs"

    def running(self, name: str) -> psutil.Process | None:
        """The service's process; none where it was not started, or died."""
        try:
            noted = json.loads((self._processes / f"{name}.json").read_text())
            process = psutil.Process(noted["pid"])
            # A number may have gone to another process since.
            is_ours = abs(process.create_time() - noted["started"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except (OSError, ValueError, psutil.NoSuchProcess):
            return None
        return process if is_ours else None

    def names(self) -> list[str]:
        """Services started and not stopped, newest first."""
        files = sorted(self._processes.glob("*.json"), key=lambda file: file.stat().st_mtime_ns, reverse=True)
        return [file.stem for file in files]

    def start(self, service: Service, environment: Mapping[str, str]) -> bool:
        """Start it unless it runs; says whether it had to.

        Raises:
            InfrastructureError: a port is taken by another.
        """
        if self.running(service.name):
            return False
        for port, option in service.ports.items():
            if _answers(port):
                raise InfrastructureError(
                    f"port {port}, which {service.name} is to listen on, is taken by another process",
                    f"stop that one, or choose another port with {option}",
                )
        for folder in (self._processes, self.logs):
            folder.mkdir(parents=True, exist_ok=True)
        with self._log(service.name).open("ab") as log:
            started = subprocess.Popen(
                list(service.command),
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        noted = {"pid": started.pid, "started": psutil.Process(started.pid).create_time()}
        (self._processes / f"{service.name}.json").write_text(json.dumps(noted))
        return True

    def wait(self, name: str, is_ready: Callable[[], bool], seconds: float) -> None:
        """Wait until the service is ready.

        Raises:
            InfrastructureError: it died, or took too long; the end of its log is in the message.
        """
        end = time.monotonic() + seconds
        while not is_ready():
            is_alive = self.running(name) is not None
            if not is_alive or time.monotonic() > end:
                lines = self._log(name).read_text(errors="replace").splitlines()[-_LINES_SHOWN:]
                what = "was not ready in time" if is_alive else "ended as soon as it was started"
                raise InfrastructureError(f"{name} {what}: " + "\n    ".join(["", *lines]), f"see {self._log(name)}")
            time.sleep(0.3)

    def stop(self, name: str) -> None:
        """Ask it and its children to end, then make them."""
        process = self.running(name)
        if process:
            family = [*process.children(recursive=True), process]
            _each(family, psutil.Process.terminate)
            _, alive = psutil.wait_procs(family, timeout=_STOP_SECONDS)
            _each(alive, psutil.Process.kill)
            psutil.wait_procs(alive, timeout=_STOP_SECONDS)
        (self._processes / f"{name}.json").unlink(missing_ok=True)

    def _log(self, name: str) -> Path:
        return self.logs / f"{name}.log"


def is_listening(port: int) -> Callable[[], bool]:
    """Whether something listens on the port, to be asked again and again."""
    return lambda: _answers(port)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _each(processes: Sequence[psutil.Process], do: Callable[[psutil.Process], None]) -> None:
    for process in processes:
        try:
            do(process)
        except psutil.NoSuchProcess:
            continue


def path_with(folder: Path) -> str:
    """PATH with a folder at its front."""
    return f"{folder}{os.pathsep}{os.environ.get('PATH', '')}"
