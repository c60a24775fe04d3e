"""Settings of Prefect and of PyTorch's threads, given before either is imported. What the user has set stays as it is.

Without a configured server Prefect starts a temporary one for the life of the process; it is given time to start on a
busy machine, and it reports nothing to anybody.
"""

import os
from pathlib import Path

_DEFAULTS = {
    # PyTorch's threads: sleep at a barrier rather than spin, which crawls on a shared machine.
    "OMP_WAIT_POLICY": "PASSIVE",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
}


def prepare(verbose: bool = False) -> None:
    """Set what is not set yet. Call before anything imports Prefect.

    Args:
        verbose: show Prefect's own log. Otherwise only tamis speaks: its errors name what was wrong and what to do.
    """
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "INFO" if verbose else "CRITICAL")


def has_server() -> bool:
    """Whether a Prefect server is configured: by PREFECT_API_URL, or by a profile of Prefect's own."""
    if os.environ.get("PREFECT_API_URL"):
        return True
    home = Path(os.environ.get("PREFECT_HOME") or Path.home() / ".prefect")
    if not (home / "profiles.toml").is_file():
        return False  # nothing to ask Prefect about, which takes a second to import
    prepare()
    from prefect.settings import get_current_settings

    return get_current_settings().api.url is not None
