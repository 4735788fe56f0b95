"""Train and test: python run_recbole.py --model=HSTU --dataset=ml-100k"""

import sys

from recbole_hstu.cli import main

if __name__ == "__main__":
    sys.exit(main(["run", *sys.argv[1:]]))
