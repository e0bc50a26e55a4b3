"""What does the config beside a saved model tell of names that its file does not: ties, and the order of parameters?"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from torch import nn

from wdyn.capture.tensors import named_tensors
from wdyn.capture.ties import shares_with
from wdyn.checkpoints.configs import CONFIG, model_from_config
from wdyn.errors import InvalidArgument
from wdyn.naming import canonical_name


@dataclass(frozen=True)
class Architecture:
    """A model as its config makes it.

    Attributes
    ----------
    leaders
        For each name, in the order of the model, the first that shares its memory, which may be itself.
    order
        Parameters, tied ones once, in the order in which transformers' Trainer gives them to its optimizer.
    """

    leaders: dict[str, str] = field(default_factory=dict)
    order: tuple[str, ...] = ()


def architecture(folder: Path) -> Architecture:
    """Build the model of the config in a folder, without values; an empty one where none is told or known."""
    file = folder / CONFIG
    try:
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
    except (OSError, UnicodeDecodeError):
        text = ""
    return _built(_Text(text, folder)) if '"model_type"' in text else Architecture()


@dataclass(frozen=True)
class _Text:
    """A config by its words: the same ones in another folder make the same model."""

    text: str
    folder: Path = field(compare=False)


@lru_cache(maxsize=8)
def _built(config: _Text) -> Architecture:
    try:
        model = model_from_config(config.folder)
    except InvalidArgument:
        return Architecture()
    return Architecture(shares_with(named_tensors(model)), tuple(_trainer_order(model)))


def _trainer_order(model: nn.Module) -> list[str]:
    """Parameters that decay, then the others, as transformers' Trainer groups them."""
    from transformers import Trainer

    decaying = set(Trainer.get_decay_parameter_names(None, model))  # type: ignore[arg-type]  # it uses no Trainer
    names = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    return [canonical_name(name) for name in sorted(names, key=lambda name: name not in decaying)]
