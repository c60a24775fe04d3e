"""Tells of a run that failed: by a command or a webhook, once, and never waits for long.

A command gets the same JSON on its standard input that a webhook gets as its body, and in its environment
TAMIS_DEPLOYMENT, TAMIS_FLOW, TAMIS_RUN, TAMIS_STATE and TAMIS_MESSAGE. It runs without a shell.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from logging import Logger
from threading import Thread

_PATIENCE = 30.0  # s


def notify(told: Sequence[str] | str, said: Mapping[str, str | None], log: Logger) -> Thread:
    """Tell of a failure on a thread of its own; what goes wrong with that is logged.

    Args:
        told: a command as a list, or the address of a webhook.
        said: deployment, flow, run, name, state, message, url.
        log: of the service.
    """
    about = {"deployment": said.get("deployment"), "flow_run_id": said.get("run")}

    def tell() -> None:
        fault = _post(told, said) if isinstance(told, str) else _run(told, said)
        if fault is not None:
            log.error("on_failure could not tell of run %s: %s", said.get("name"), fault, extra=about)

    thread = Thread(target=tell, name="tamis-notify", daemon=True)
    thread.start()
    return thread


def _run(command: Sequence[str], said: Mapping[str, str | None]) -> str | None:
    environment = os.environ | {f"TAMIS_{name.upper()}": value or "" for name, value in said.items()}
    try:
        done = subprocess.run(
            list(command), input=json.dumps(said), text=True, env=environment, timeout=_PATIENCE, check=False,
            capture_output=True, errors="replace",
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        return f"{command[0]}: {error}"
    last = (done.stderr or done.stdout).strip().rpartition("\n")[2]
    return None if done.returncode == 0 else f"{command[0]} ended with exit code {done.returncode} {last[:300]}".strip()


def _post(address: str, said: Mapping[str, str | None]) -> str | None:
    import httpx

    try:
        httpx.post(address, json=dict(said), timeout=_PATIENCE).raise_for_status()
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}"
    return None
