"""Waiting for what another thread or process does, but not for ever."""

import time


def until(happened, seconds=120):
    deadline = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < deadline, f"not happened within {seconds} s"
        time.sleep(0.01)
