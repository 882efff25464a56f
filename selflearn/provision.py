"""Set-up of what pip does not bring, Java and the Delta jars; also `python -m selflearn.provision`."""

from __future__ import annotations

import sys
from collections.abc import Callable

from selflearn.errors import SelflearnError
from selflearn.java import ensure_java
from selflearn.lakehouse.jars import fetch_jars


def provision(say: Callable[[str], None] = print) -> None:
    """Find or install Java, find or fetch the Delta jars, and `say` what was found; harmless to run again.

    Raises:
        InfrastructureError: one of them is not to be had; the message names the next step.
    """
    java = ensure_java()
    say(f"Java {java.version} in {java.home}")
    jars = fetch_jars()
    say(f"{len(jars)} Delta jars in {jars[0].parent}")


if __name__ == "__main__":
    try:
        provision()
    except SelflearnError as error:
        print(f"selflearn: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
