"""Logs of a service and of its runs: for people, or as one JSON object a line.

Fields: time, level, flow, deployment, run, key, message; and logger, and run_name, task and error where there are such.
`run` is the id of the flow run, `key` names in the store what the run came to: a run, selection, dataset or package.
Runs are processes of their own; `LOGGING`, which Prefect reads at its import, has them write the same lines.
"""

import datetime as dt
import json
import logging
import os
import sys
from pathlib import Path

from tamis.flows.escapes import shown_lines

LOGGING = Path(__file__).with_name("logging.yml")
_NAME = "tamis.service"
_FIELDS = {  # of a line: the attribute of a record that holds it, ours or Prefect's
    "flow": "flow_name",
    "deployment": "deployment",
    "run": "flow_run_id",
    "key": "key",
}
_MORE = {"run_name": "flow_run_name", "task": "task_run_name"}


class JsonLines(logging.Formatter):
    """One JSON object a record."""

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its end."""
        time = dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="milliseconds")
        said = {"time": time, "level": record.levelname, "logger": record.name}
        said |= {name: _plain(getattr(record, attribute, None)) for name, attribute in _FIELDS.items()}
        said["deployment"] = said["deployment"] or os.environ.get("PREFECT__DEPLOYMENT_NAME") or None
        said["message"] = record.getMessage()
        said |= {name: str(record.__dict__[at]) for name, at in _MORE.items() if record.__dict__.get(at) is not None}
        if record.exc_info:
            said["error"] = self.formatException(record.exc_info)
        return json.dumps(said)


class _People(logging.Formatter):
    """A line with the time; what would steer a terminal is shown."""

    def format(self, record: logging.LogRecord) -> str:
        time = dt.datetime.fromtimestamp(record.created).astimezone()
        about = getattr(record, "deployment", None)
        return shown_lines(f"{time:%H:%M:%S} {f'{about}: ' if about else ''}{record.getMessage()}")


def service_log(form: str) -> logging.Logger:
    """The log of this service, to stderr, as text or json; for json also of Prefect and of the runs."""
    if form == "json":
        os.environ["PREFECT_LOGGING_SETTINGS_PATH"] = str(LOGGING)
    log = logging.getLogger(_NAME)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if form == "json" else _People())
    log.handlers, log.propagate = [handler], False
    log.setLevel(logging.INFO)
    return log


def _plain(value: object) -> str | None:
    return None if value is None else str(value)
