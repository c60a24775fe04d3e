"""The methods of choosing, by name: one explicit dictionary that command line, documentation and tests read.

To add a method: its file with one function (`tamis.curation.contract.Method.select`), one entry here, its test. The
method card is the docstring of the module that holds the function; each parameter is described on one line of the
function's "Args".
"""

from tamis.curation.contract import Caution, Method
from tamis.curation.coverage import select_covering
from tamis.curation.culling.intermittent import select_intermittent
from tamis.curation.culling.method import select_hard_frames
from tamis.curation.culling.semdedup import select_semdedup
from tamis.curation.el2n import select_el2n
from tamis.curation.errors import UnknownMethodError
from tamis.curation.gradmatch.method import select_gradmatch
from tamis.curation.kcenter import select_k_center
from tamis.curation.losses import select_by_losses
from tamis.curation.randomized import (
    select_random,
    select_random_batch_rounds,
    select_random_batches,
    select_random_rounds,
)
from tamis.curation.uncertainty import select_uncertain

METHODS: dict[str, Method] = {
    "uncertainty": Method(
        name="uncertainty",
        version=1,
        summary="the samples that one or more proxy models are least certain about (Selection via Proxy)",
        select=select_uncertain,
        needs=frozenset({"scores"}),
        caution=Caution(
            0.5,
            "Below half of the data, the most uncertain samples alone can train worse than random ones (10 % of 10,000 "
            "CIFAR-10 images: accuracy .25, random .46 to .50): train on a random selection of the same size beside it",
        ),
    ),
    "random": Method(
        name="random",
        version=1,
        summary="uniformly random samples, the baseline",
        select=select_random,
        rounds=select_random_rounds,
    ),
    "random-pb": Method(
        name="random-pb",
        version=1,
        summary="random mini-batches of a fixed partition (RandomPB)",
        select=select_random_batches,
        rounds=select_random_batch_rounds,
    ),
    "gradmatch": Method(
        name="gradmatch",
        version=1,
        summary="few samples whose weighted gradients match the full gradient, selected again every few epochs",
        select=select_gradmatch,
        needs=frozenset({"gradients", "labels"}),
        tasks=frozenset({"classification"}),
        renewable="pass",
    ),
    "k-center": Method(
        name="k-center",
        version=1,
        summary="samples that cover all others in the feature space of a model (k-Center-Greedy)",
        select=select_k_center,
        needs=frozenset({"features"}),
    ),
    "losses": Method(
        name="losses",
        version=1,
        summary="by the losses of a run over its epochs: highest, drawn by percentile, most often forgotten",
        select=select_by_losses,
        needs=frozenset({"losses"}),
        renewable="no",
    ),
    "ccs": Method(
        name="ccs",
        version=1,
        summary="over all degrees of hardness but the last, by any score (coverage-centric coreset selection)",
        select=select_covering,
        needs=frozenset({"scores"}),
    ),
    "el2n": Method(
        name="el2n",
        version=1,
        summary="the samples whose predictions are farthest from their labels, mean over runs (EL2N)",
        select=select_el2n,
        needs=frozenset({"scores"}),
        tasks=frozenset({"classification"}),
        caution=Caution(
            0.5,
            "Below half of the data, the samples of highest EL2N alone can train worse than random ones: train on a "
            "random selection of the same size beside it, or choose by ccs",
        ),
        measure="el2n",
    ),
    "culling": Method(
        name="culling",
        version=1,
        summary="the frames that a student is least sure of, or gets most wrong beside a teacher (Dataset Culling)",
        select=select_hard_frames,
        needs=frozenset({"scores"}),
        usual="confidence_loss",
    ),
    "intermittent": Method(
        name="intermittent",
        version=1,
        summary="every n-th sample, the baseline for video",
        select=select_intermittent,
        ordered=True,
    ),
    "semdedup": Method(
        name="semdedup",
        version=1,
        summary="samples that are not alike in the feature space of a model (SemDeDup)",
        select=select_semdedup,
        needs=frozenset({"features"}),
    ),
}


def get_method(name: str) -> Method:
    """Return the method of that name.

    Raises:
        UnknownMethodError: there is none; the message lists what there is.
    """
    try:
        return METHODS[name]
    except KeyError:
        raise UnknownMethodError(name, METHODS) from None
