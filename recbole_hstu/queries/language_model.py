"""A causal language model of transformers: LoRA training by peft, generation by beam search."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tqdm import tqdm

from recbole_hstu.queries.learned_from import FILE
from recbole_hstu.support.errors import InputError, in_a_line, packages_needed
from recbole_hstu.support.files.whole_file import whole_folder, write_whole

logger = logging.getLogger(__name__)
# What transformers and peft raise of files that are missing, cut short or of another kind.
_UNREADABLE = (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError)
IGNORED = -100  # a label that transformers leaves out of the loss


class LanguageModel:
    """A causal model and its tokenizer.

    Args:
        model: of transformers, with `generate`.
        tokenizer: of transformers.
        max_length: tokens that the model sees, or fewer if it takes fewer; of longer texts the
            beginning is left out.

    Raises:
        InputError: the tokenizer has no end of a text.
    """

    def __init__(self, model: Any, tokenizer: Any, *, max_length: int = 1024):
        self.model, self.tokenizer, self.max_length = model, tokenizer, max_length
        if tokenizer.eos_token is None:
            raise InputError("llm: its tokenizer has no token for the end of a text")
        seen = getattr(model.config, "max_position_embeddings", None) or 0
        if 0 < seen < max_length:
            logger.warning("llm_max_length: the model takes %d tokens, not %d", seen, max_length)
            self.max_length = seen
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.truncation_side = "left"

    @classmethod
    def load(cls, source: str, device: str, **options: Any) -> LanguageModel:
        """Of a folder or of the hub.

        Raises:
            InputError: transformers is not installed, or the model is not there.
        """
        with packages_needed("llm", "llm"):
            import transformers
        try:
            tokenizer = transformers.AutoTokenizer.from_pretrained(source)
            model = transformers.AutoModelForCausalLM.from_pretrained(source)
        except _UNREADABLE as error:
            raise InputError(f"llm: {source}: {in_a_line(error)[:300]}") from error
        return cls(model.to(device), tokenizer, **options)

    def add_lora(self, rank: int, alpha: int) -> None:
        """From now on low-rank updates of all linear layers learn, and nothing else.

        Raises:
            InputError: peft is not installed.
        """
        with packages_needed("llm", "llm"):
            import peft
        settings = peft.LoraConfig(
            r=rank, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        self.model = peft.get_peft_model(self.model, settings)

    def read_lora(self, folder: str | Path) -> None:
        """Take the low-rank updates of a folder, as peft writes them.

        Raises:
            InputError: peft is not installed, or there are none that fit.
        """
        with packages_needed("llm", "llm"):
            import peft
        try:
            self.model = peft.PeftModel.from_pretrained(self.model, str(folder))
        except _UNREADABLE as error:
            raise InputError(f"adapter: {folder}: {in_a_line(error)[:300]}") from error

    def write_lora(self, folder: str | Path, learned_from: Mapping[str, Any]) -> None:
        """The low-rank updates and what they were learned from, as a folder that is there whole or
        not at all.

        Raises:
            InputError: there is something of that name, or it cannot be written.
        """
        try:
            with whole_folder(folder) as part:
                self.model.save_pretrained(part)
                write_whole(part / FILE, json.dumps(learned_from, indent=1) + "\n")
        except (OSError, SafetensorError) as error:
            raise InputError(f"adapter: {folder}: cannot be written: {in_a_line(error)}") from error

    def loss(self, texts: Sequence[str]) -> torch.Tensor:
        """Mean cross-entropy of every next token of the texts, their end included."""
        whole = [text + self.tokenizer.eos_token for text in texts]
        batch = self._tokens(whole, "right", self.max_length)
        labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, IGNORED)
        return self.model(**batch, labels=labels).loss

    def train(
        self,
        texts: Sequence[str],
        *,
        epochs: int,
        batch_size: int,
        learning_rate: float,
        warmup_steps: int,
        seed: int,
        progress: bool = False,
    ) -> Iterator[float]:
        """AdamW with weight decay .01, a linear schedule after the warm-up; the mean loss of every
        epoch, as it ends.

        Raises:
            InputError: the loss is no longer finite.
        """
        steps = epochs * -(-len(texts) // batch_size)
        learned = [p for p in self.model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(learned, lr=learning_rate, weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: rate(step, steps, warmup_steps),
        )
        generator = torch.Generator().manual_seed(seed)
        self.model.train()
        for epoch in range(1, epochs + 1):
            losses = []
            order = torch.randperm(len(texts), generator=generator).split(batch_size)
            for batch in tqdm(order, disable=not progress, desc="LoRA"):
                loss = self.loss([texts[row] for row in batch])
                loss.backward()
                torch.nn.utils.clip_grad_norm_(learned, 1.0)
                optimizer.step()
                optimizer.zero_grad()
                schedule.step()
                losses.append(loss.item())
            mean = sum(losses) / len(losses)
            if not math.isfinite(mean):
                raise InputError(
                    f"llm_learning_rate: {learning_rate}: the loss is {mean} in epoch {epoch}; "
                    "lower it"
                )
            yield mean

    @torch.no_grad()
    def generate(self, prompts: Sequence[str], *, beams: int, new_tokens: int) -> list[list[str]]:
        """The `beams` best continuations of each prompt, best first."""
        self.model.eval()
        batch = self._tokens(prompts, "left", self.max_length - new_tokens)
        written = self.model.generate(
            **batch,
            max_new_tokens=new_tokens,
            num_beams=beams,
            num_return_sequences=beams,
            do_sample=False,
            pad_token_id=self.tokenizer.pad_token_id,
        )[:, batch["input_ids"].shape[1] :]
        texts = self.tokenizer.batch_decode(written, skip_special_tokens=True)
        return [texts[start : start + beams] for start in range(0, len(texts), beams)]

    def _tokens(self, texts: Sequence[str], padding_side: str, max_length: int) -> dict[str, Any]:
        self.tokenizer.padding_side = padding_side
        batch = self.tokenizer(
            list(texts), return_tensors="pt", padding=True, truncation=True, max_length=max_length
        )
        names = ("input_ids", "attention_mask")
        return {name: batch[name].to(self.model.device) for name in names}


def rate(step: int, steps: int, warmup: int) -> float:
    """Share of the learning rate at a step: up to 1 while it warms up, then down to 0."""
    if step < warmup:
        return (step + 1) / warmup
    return (steps - step) / max(1, steps - warmup)
