"""What does a saved model give on a probe input, once the library it was saved with loads it?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wdyn.errors import InvalidArgument
from wdyn.naming import examples

_SEED = 0
_ROWS, _TOKENS, _SAMPLES = 2, 8, 4000


class NoProbe(InvalidArgument):
    """No input is known that such a model takes."""


@dataclass(frozen=True)
class Response:
    """What a model gave.

    Attributes
    ----------
    output
        Its first tensor, in float32.
    probe
        What the input was, in words.
    absent
        Parameters that were not in the file, which the library made up.
    """

    output: Tensor
    probe: str
    absent: tuple[str, ...]

    @property
    def variance(self) -> float:
        """Over the positions of the input, the mean over the features of the output."""
        wide = self.output.double()
        flat = wide.reshape(-1, wide.shape[-1]) if wide.ndim > 1 else wide.reshape(-1, 1)
        return float(flat.var(0, correction=0).mean())


def respond(folder: Path) -> Response:
    """Load the model in a folder and run it, in float32, without dropout, on numbers that are always the same.

    Raises
    ------
    NoProbe
        No input is known that such a model takes.
    InvalidArgument
        It does not load, or does not run.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad(), _quiet():
        torch.manual_seed(_SEED)  # what a file lacks is made up, and in both models alike
        try:
            model, absent = _loaded(folder)
            inputs, probe = _inputs(model)
            given = model.float().eval()(**inputs)
        except NoProbe:
            raise
        except Exception as error:  # whatever a library raises on what it cannot load
            first = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InvalidArgument(f"{type(error).__name__}: {first}") from error
    return Response(_first_tensor(given), probe, absent)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the library's bars and hints, which are about its own use of the file, off the terminal."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _loaded(folder: Path) -> tuple[nn.Module, tuple[str, ...]]:
    import transformers  # its import takes seconds

    config = transformers.AutoConfig.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    named = (getattr(transformers, name, None) for name in getattr(config, "architectures", None) or ())
    kind: Any = next((one for one in named if isinstance(one, type)), transformers.AutoModel)
    model, told = kind.from_pretrained(str(folder), local_files_only=True, output_loading_info=True)
    return model, tuple(sorted(map(str, told["missing_keys"])))


def _inputs(model: nn.Module) -> tuple[dict[str, Tensor], str]:
    name, config = str(getattr(model, "main_input_name", "")), model.config
    makers: dict[str, Callable[[Any], tuple[Tensor, str]]] = {
        "input_ids": _tokens, "pixel_values": _pixels, "input_values": _sound
    }  # fmt: skip
    if name not in makers:
        raise NoProbe(f"no probe is known for a model that takes {name or 'nothing'}")
    value, words = makers[name](config)
    beside = (
        {"decoder_input_ids": value} if name == "input_ids" and getattr(config, "is_encoder_decoder", False) else {}
    )
    return {name: value, **beside}, words


def _tokens(config: Any) -> tuple[Tensor, str]:
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    return torch.randint(
        0, text.vocab_size, (_ROWS, _TOKENS), generator=_numbers()
    ), f"{_ROWS} × {_TOKENS} random tokens"


def _pixels(config: Any) -> tuple[Tensor, str]:
    size = getattr(config, "image_size", 224)
    height, width = size if isinstance(size, list | tuple) else (size, size)
    shape = (_ROWS, getattr(config, "num_channels", 3), height, width)
    return torch.randn(shape, generator=_numbers()), f"{_ROWS} random images of {height} × {width}"


def _sound(config: Any) -> tuple[Tensor, str]:
    return torch.randn((_ROWS, _SAMPLES), generator=_numbers()), f"{_ROWS} × {_SAMPLES} random samples of sound"


def _numbers() -> torch.Generator:
    return torch.Generator().manual_seed(_SEED)


def _first_tensor(given: Any) -> Tensor:
    values = given.to_tuple() if hasattr(given, "to_tuple") else given if isinstance(given, tuple | list) else (given,)
    found = next((one for one in values if isinstance(one, Tensor) and one.is_floating_point()), None)
    if found is None:
        raise InvalidArgument("the output holds no tensor of floats")
    return found


def absent_words(response: Response) -> str:
    """Say what the file lacks; "" where it lacks nothing."""
    count = len(response.absent)
    return f"{count} parameters are not in the file and were made up ({examples(response.absent)})" if count else ""
