"""Which initializers may have made a tensor of these fans, and what spread does each give?

Sources, for a matrix of fan_in inputs and fan_out outputs in a model of L blocks and width d:

- torch: ``torch.nn.init``, and ``reset_parameters`` of ``torch.nn``. Linear and convolution are
  ``kaiming_uniform_(a=sqrt(5))``, that is uniform within 1/sqrt(fan_in), and so is the bias beside them; Embedding is
  N(0, 1). ``trunc_normal_`` cuts at -2 and 2, not at two sigma: only with ``a=-2 * std, b=2 * std`` is its std
  0.87963 sigma, and with the defaults and a sigma of 0.02 nothing is ever cut. A cut at three sigma leaves 0.98658.
- Xavier: Glorot and Bengio 2010, variance 2 / (fan_in + fan_out). Kaiming: He et al. 2015, 2 / fan_in. LeCun et al.
  1998: 1 / fan_in. Fused q, k and v count as one matrix of 3 d outputs, or, "by part", as three of d.
- GPT-2: Radford et al. 2019 and their code. N(0, 0.02), divided by sqrt(2 L) in what adds to the residual stream.
- GPT-NeoX: Black et al. 2022. "small init", std sqrt(2 / (5 d)), after Nguyen and Salazar 2019; and for what adds to
  the residual stream std 2 / (L sqrt(d)), after Wang and Komatsuzaki 2021.
- muP: Yang et al. 2022, table 3. Variance 1 / fan_in of hidden matrices, which is that of LeCun, and 1 / fan_in^2 of
  the output's. Relative to a base width it is ``mup(s)``, with s the std at the base times sqrt(its fan_in), or times
  its fan_in for the output.
- LoRA: Hu et al. 2021 as PEFT has it. A is torch's default, B is zero.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from wdyn.errors import InvalidArgument

NORMAL, UNIFORM, CONSTANT = "normal", "uniform", "constant"
TRUNCATED_2, TRUNCATED_3 = "truncated at 2 sigma", "truncated at 3 sigma"

KURTOSIS = {NORMAL: 3.0, UNIFORM: 1.8, TRUNCATED_2: 2.3655367171296495, TRUNCATED_3: 2.8288855636022556}
"""E[(x - mean)^4] / std^4 of each distribution (3 is the normal one)."""
REACH = {
    NORMAL: math.inf,
    UNIFORM: math.sqrt(3),
    TRUNCATED_2: 2 / 0.8796256610342398,
    TRUNCATED_3: 3 / 0.9865783925581086,
}
"""The largest |x - mean| / std that each distribution can have."""

WELL_KNOWN = (0.02, 1.0, 0.01, 0.006, 0.001)
"""Standard deviations that people write as numbers."""

_COMMON = (0.02, 1.0)
TRUNCATION = {TRUNCATED_2: 0.8796256610342398, TRUNCATED_3: 0.9865783925581086}
"""The std that a cut leaves of one of 1."""


@dataclass(frozen=True)
class Rule:
    """One way to fill a tensor: a distribution about a mean."""

    name: str
    distribution: str
    std: float
    mean: float = 0.0
    rare: bool = False
    """Whether few models use it: with few values, where several rules fit, a common one is likelier."""

    def standard_error(self, count: float) -> float:
        """How far the std of `count` draws strays from ``std``: std sqrt((kurtosis - 1) / (4 n)).

        For normal draws that is std / sqrt(2 n); uniform ones stray 1.6 times less.
        """
        if self.distribution == CONSTANT or count < 1:
            return 0.0
        return self.std * math.sqrt((KURTOSIS[self.distribution] - 1) / (4 * count))


@dataclass(frozen=True)
class Facts:
    """What decides which rules apply to a parameter.

    Attributes
    ----------
    fan_in, fan_out
        As in ``torch.nn.init``: kernel elements times channels. 0 for what has no fans (vectors).
    part_fan_out
        Rows of one part of a fused weight (q of qkv); 0 where nothing is fused or the parts are unequal.
    matrix_fan_in
        fan_in of the matrix beside a bias.
    layers
        Blocks in the tower.
    residual
        Whether its output is added to the residual stream.
    output
        Whether it is an output head.
    hidden
        Width of a recurrent layer, 0 for others.
    """

    fan_in: int = 0
    fan_out: int = 0
    part_fan_out: int = 0
    matrix_fan_in: int = 0
    layers: int = 0
    residual: bool = False
    output: bool = False
    hidden: int = 0


def candidates(facts: Facts) -> Iterator[Rule]:
    """Give every rule that may have made a parameter, plain ones first."""
    yield from _plain()
    if facts.residual and facts.layers:
        yield from _depth_scaled(facts)
    if facts.fan_in:
        yield from _by_fans(facts.fan_in, facts.fan_out)
    if facts.part_fan_out:
        yield from _by_part(facts)
    if facts.output and facts.fan_in:
        yield Rule("1/fan_in", NORMAL, 1 / facts.fan_in, rare=True)
    if facts.matrix_fan_in:
        yield _uniform("torch default", 1 / math.sqrt(facts.matrix_fan_in))
    if facts.hidden:
        yield _uniform("torch default", 1 / math.sqrt(facts.hidden))


def parse_rule(text: str | float, facts: Facts) -> Rule:
    """Read a rule as a person writes it: ``0.02``, ``"normal(0.02)"``, ``"xavier_uniform"``, ``"zeros"``.

    Raises
    ------
    InvalidArgument
        If it is not understood, or the parameter lacks what the rule needs.
    """
    if isinstance(text, int | float):
        return Rule(f"normal({text:g})", NORMAL, float(text))
    match = re.fullmatch(r"\s*(\w+)\s*(?:\(\s*([-+\d.eE]+)\s*\))?\s*", text)
    if match and match[2] is not None and match[1] in _NUMBERED:
        return _numbered(match[1], _number(match[2], text), facts)
    if text.strip() == "mup":
        return _mup(1.0, facts)
    known = {rule.name: rule for rule in candidates(facts)}
    wanted = text.strip().replace("depth_scaled", "depth-scaled").replace("torch_default", "torch default")
    if wanted in known:
        return known[wanted]
    raise InvalidArgument(
        f"The rule {text!r} is not known for this parameter. Give a number (the std of a normal), normal(s), "
        f"uniform(bound), truncated_normal(s), depth_scaled(s), mup(s), constant(c), or one of: {', '.join(known)}."
    )


_NUMBERED = ("normal", "uniform", "constant", "depth_scaled", "mup", "truncated_normal")


def _number(text: str, whole: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidArgument(f"The rule {whole!r} needs a number in its brackets; found {text!r}.") from None


def _numbered(word: str, number: float, facts: Facts) -> Rule:
    if word == "normal":
        return Rule(f"normal({number:g})", NORMAL, number)
    if word == "truncated_normal":
        return _truncated(f"truncated_normal({number:g})", number)
    if word == "uniform":
        return _uniform(f"uniform({number:g})", number)
    if word == "constant":
        return Rule(f"constant({number:g})", CONSTANT, 0.0, number)
    if word == "mup":
        return _mup(number, facts)
    if not facts.layers:
        raise InvalidArgument(f"depth_scaled({number:g}) needs a parameter that stands in a block; this one does not.")
    return Rule(f"depth-scaled({number:g})", NORMAL, number / math.sqrt(2 * facts.layers))


def _mup(number: float, facts: Facts) -> Rule:
    if not facts.fan_in:
        raise InvalidArgument(f"mup({number:g}) needs a matrix, which has a fan_in; this parameter is none.")
    return Rule(f"mup({number:g})", NORMAL, number / (facts.fan_in if facts.output else math.sqrt(facts.fan_in)))


def _plain() -> Iterator[Rule]:
    yield Rule("zeros", CONSTANT, 0.0, 0.0)
    yield Rule("ones", CONSTANT, 0.0, 1.0)
    for sigma in WELL_KNOWN:
        yield Rule(f"normal({sigma:g})", NORMAL, sigma, rare=sigma not in _COMMON)
        yield replace(_truncated(f"truncated_normal({sigma:g})", sigma), rare=sigma not in _COMMON)
        yield _cut_at_3(f"truncated_normal({sigma:g}, 3 sigma)", sigma)


def _depth_scaled(facts: Facts) -> Iterator[Rule]:
    for sigma in WELL_KNOWN:
        std = sigma / math.sqrt(2 * facts.layers)
        yield Rule(f"depth-scaled({sigma:g})", NORMAL, std, rare=sigma not in _COMMON)
        yield _cut_at_3(f"depth-scaled({sigma:g}, 3 sigma)", std)
    if facts.fan_out:
        yield Rule("wang_init", NORMAL, 2 / (facts.layers * math.sqrt(facts.fan_out)), rare=True)


def _by_fans(fan_in: int, fan_out: int) -> Iterator[Rule]:
    yield _uniform("torch default", 1 / math.sqrt(fan_in))
    yield from _xavier(fan_in, fan_out)
    for side, fan in (("", fan_in), (" by fan_out", fan_out)):
        yield Rule(f"kaiming_normal{side}", NORMAL, math.sqrt(2 / fan))
        yield _uniform(f"kaiming_uniform{side}", math.sqrt(6 / fan))
    std = 1 / math.sqrt(fan_in)
    yield Rule("1/sqrt(fan_in)", NORMAL, std, rare=True)
    drawn_wider = std / TRUNCATION[TRUNCATED_2]  # so that the std is right after the cut
    yield replace(_truncated("lecun_normal", drawn_wider), rare=True)
    yield _cut_at_3("1/sqrt(fan_in), 3 sigma", std)
    yield Rule("small_init", NORMAL, math.sqrt(2 / (5 * fan_in)), rare=True)


def _by_part(facts: Facts) -> Iterator[Rule]:
    """Give the rules whose spread is another one where each part of a fused weight was filled by itself."""
    whole = {rule.name: rule.std for rule in _by_fans(facts.fan_in, facts.fan_out)}
    for rule in _by_fans(facts.fan_in, facts.part_fan_out):
        if rule.std != whole[rule.name]:
            yield replace(rule, name=f"{rule.name} by part")


def _xavier(fan_in: int, fan_out: int) -> Iterator[Rule]:
    std = math.sqrt(2 / (fan_in + fan_out))
    yield Rule("xavier_normal", NORMAL, std)
    yield _uniform("xavier_uniform", math.sqrt(3) * std)


def _uniform(name: str, bound: float) -> Rule:
    return Rule(name, UNIFORM, bound / math.sqrt(3))


def _truncated(name: str, sigma: float) -> Rule:
    return Rule(name, TRUNCATED_2, sigma * TRUNCATION[TRUNCATED_2])


def _cut_at_3(name: str, sigma: float) -> Rule:
    return Rule(name, TRUNCATED_3, sigma * TRUNCATION[TRUNCATED_3], rare=True)
