"""A search in a process of its own: searching_child.py STORE 'JSON of an AdaptConfig' WORKERS."""

import sys

from tamis.flows.configs import Resources
from tamis.flows.runners import Direct
from tamis.flows.searching import adapt
from tamis.training.adapting.config import AdaptConfig

if __name__ == "__main__":
    where, asked, workers = sys.argv[1:]
    adapt(Direct(int(workers)), where, AdaptConfig.model_validate_json(asked), Resources(workers=int(workers)))
