"""Runs: executions that leave a model or numbers for samples; their life, and what they leave."""

from tamis.store.run import FAILED as FAILED
from tamis.store.run import FINISHED as FINISHED
from tamis.store.run import INTERRUPTED as INTERRUPTED
from tamis.store.run import RUNNING as RUNNING
from tamis.store.run import Run as Run
from tamis.store.runs.runs import Runs as Runs
