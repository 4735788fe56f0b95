"""Search for options: python run_hyper.py --model=HSTU --dataset=ml-100k --params_file=HSTU"""

import sys

from recbole_hstu.cli import main

if __name__ == "__main__":
    sys.exit(main(["tune", *sys.argv[1:]]))
