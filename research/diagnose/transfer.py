"""A check of fine-tuning: how much of a loaded network few examples train."""

import jax

from research.diagnose.case import Case
from research.diagnose.finding import Finding
from research.diagnose.outcome import Outcome, Passed, Skipped
from research.distributed.sharding import FROZEN
from research.errors import format_names

FEW = 1000  # examples; above it, training all layers is usually better
SHARE = 0.5  # the largest share of the params that few examples should train


def last_layers(case: Case) -> Outcome:
    """Check the number of params that an experiment with loaded weights trains on few examples.

    Worth a look if it starts from loaded weights (`init_from=`), has less than 1,000 training examples, and trains more
    than half of its params: few examples distort the features that were loaded, and tuning the last layers only is then
    often better, above all on data of another kind (Kumar et al. 2022, arXiv:2202.10054).
    """
    rule, examples = "fine-tuning", case.experiment.source.examples
    if case.experiment.init_from is None:
        return Skipped(rule, "the weights are not loaded")
    if not examples:
        return Skipped(rule, "the number of training examples is unknown")
    count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
    trained, frozen = count(case.state.params), count(case.state.stats.get(FROZEN, {}))
    text = f"{examples:,} training examples train {trained:,} of {trained + frozen:,} parameters"
    if examples >= FEW or trained <= SHARE * (trained + frozen):
        return Passed(rule, text)
    parts = format_names(sorted(case.state.params))
    return Finding(rule, False, f"The weights are loaded, and {text}.", (
        f'tune the last layers only: frozen(model, r"^(?!head/)"), with the last of {parts} in the place of head',
        'train few new parameters: lora(model, r"kernel$", train=r"^head/"), adapters, prompted or prefixed',
        "train all layers, but later or less: unfreezing(optimizer, groups), scale_by_depth(0.8)",
    ), {"examples": examples, "trained": trained, "frozen": frozen})  # fmt: skip
