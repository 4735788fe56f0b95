"""A model whose training stands still where a test wants it to."""

from pathlib import Path

from waiting import until

from recbole_hstu.model.hstu import HSTU


class Held(HSTU):
    """HSTU that waits in its third epoch as long as there is a file `hold-FOLDER`, named after the
    folder of its checkpoints: what is killed then is at work, however busy the machine is."""

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.hold = Path(f"hold-{Path(config['checkpoint_dir']).name}")

    def loss_of_share(self, interaction, share):
        if self.draws.epoch >= 2:
            until(lambda: not self.hold.exists(), seconds=400)
        return super().loss_of_share(interaction, share)
