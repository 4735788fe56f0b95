"""Random numbers of a training step that do not depend on how many processes share it."""

from __future__ import annotations

import hashlib

import torch


class Draws:
    """Generators for a step and for the rows of its batch.

    What is drawn for a row depends on the seed, the epoch, the step and the row's place in the
    batch, on nothing that was drawn before: a process draws for its own rows what one process
    alone would draw for them, and a resumed training goes on without any state.

    Args:
        seed: that of the run.
        device: where the numbers of the rows are drawn. CPUs and GPUs draw differently.
    """

    def __init__(self, seed: int, device: torch.device | str):
        self.seed = seed
        self.at(0, 0)
        self._of_step = torch.Generator()
        self._of_row = torch.Generator(device)

    def at(self, epoch: int, step: int) -> None:
        """Go to a step, both from 0 on; whoever trains without epochs need not."""
        self.epoch, self.step = epoch, step

    def advance(self) -> None:
        """The next step of the epoch."""
        self.step += 1

    def of_step(self, what: str) -> torch.Generator:
        """For numbers that all rows share, on the CPU; valid until the next call.

        Args:
            what: a name for them; numbers of other names are independent.
        """
        return self._of_step.manual_seed(self._seed(what, -1))

    def of_row(self, what: str, place: int) -> torch.Generator:
        """For the numbers of the row at a place of the batch; valid until the next call."""
        return self._of_row.manual_seed(self._seed(what, place))

    def _seed(self, what: str, place: int) -> int:
        words = f"{self.seed} {self.epoch} {self.step} {what} {place}"
        digest = hashlib.blake2b(words.encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little")
