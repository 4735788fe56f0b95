"""TIGERSmall's beam beside the scores of the whole catalogue: NDCG@10 and seconds.

    recbole-hstu ids --dataset=Electronics_sample
    recbole-hstu run --model=TIGERSmall --dataset=Electronics_sample
    python benchmarks/tiger.py saved/TIGERSmall-Electronics_sample-*[0-9].pth

The test users of a checkpoint are ranked by the exact scores, then by beams of several widths.
What a beam does not find counts as missed. Any model with `decode` will do.
"""

from __future__ import annotations

import argparse
import sys
import time

from recbole_hstu.quick_start import load
from recbole_hstu.training.preparation import make_trainer
from recbole_hstu.training.silence import nothing_written


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--data_path", default="dataset", help="folder of the data sets")
    parser.add_argument("--beams", default="10,20,50,100", help="widths of the beams")
    given = parser.parse_args()
    own = {"data_path": given.data_path, "topk": [10], "valid_metric": "NDCG@10"}
    config, model, _, train, _, test = load(given.checkpoint, config_dict=own)
    sys.stdout.write("| | NDCG@10 | beside exact | seconds |\n" + "|---" * 4 + "|\n")
    with nothing_written(config):
        trainer = make_trainer(config, model)
        trainer.eval_collector.data_collect(train)
        exact = 0.0
        for beam in (None, *map(int, given.beams.split(","))):
            model.decode = "beam" if beam else "exact"
            model.beam_size = beam or model.beam_size
            started = time.perf_counter()
            ndcg = trainer.evaluate(test, load_best_model=False)["ndcg@10"]
            took = time.perf_counter() - started
            exact = exact or ndcg
            name = f"beam of {beam}" if beam else "exact"
            sys.stdout.write(f"| {name} | {ndcg:.6f} | {ndcg / exact - 1:+.2%} | {took:.1f} |\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
