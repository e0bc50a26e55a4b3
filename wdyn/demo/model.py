"""What does the demo train? A GPT, small and plain: the same parts and names as GPT-2, a thousandth of the size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """How large a GPT is."""

    alphabet: int
    length: int = 64
    layers: int = 6
    width: int = 96
    heads: int = 4
    dropout: float = 0.05


class Attention(nn.Module):
    """Causal self-attention with q, k and v in one matrix."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.c_attn = nn.Linear(shape.width, 3 * shape.width)
        self.c_proj = nn.Linear(shape.width, shape.width)
        self.dropout = nn.Dropout(shape.dropout)
        self.heads = shape.heads

    def forward(self, x: Tensor) -> Tensor:
        """Mix earlier positions into each one: (batch, length, width) -> the same."""
        q, k, v = self.c_attn(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        drop = self.dropout.p if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=drop)
        added: Tensor = self.dropout(self.c_proj(mixed.transpose(1, 2).flatten(2)))
        return added


class Mlp(nn.Module):
    """Four times as wide inside."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.c_fc = nn.Linear(shape.width, 4 * shape.width)
        self.c_proj = nn.Linear(4 * shape.width, shape.width)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Work on each position alone: (batch, length, width) -> the same."""
        added: Tensor = self.dropout(self.c_proj(functional.gelu(self.c_fc(x), approximate="tanh")))
        return added


class Block(nn.Module):
    """Attention, then the MLP, each added to what came in."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(shape.width)
        self.attn = Attention(shape)
        self.ln_2 = nn.LayerNorm(shape.width)
        self.mlp = Mlp(shape)

    def forward(self, x: Tensor) -> Tensor:
        """Refine each position: (batch, length, width) -> the same."""
        middle: Tensor = x + self.attn(self.ln_1(x))
        after: Tensor = middle + self.mlp(self.ln_2(middle))
        return after


class GPT(nn.Module):
    """A decoder-only language model whose embedding and output head are one matrix."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.wte = nn.Embedding(shape.alphabet, shape.width)
        self.wpe = nn.Embedding(shape.length, shape.width)
        self.dropout = nn.Dropout(shape.dropout)
        self.h = nn.ModuleList(Block(shape) for _ in range(shape.layers))
        self.ln_f = nn.LayerNorm(shape.width)
        self.lm_head = nn.Linear(shape.width, shape.alphabet, bias=False)
        self.apply(initialise)
        for name, weight in self.named_parameters():
            if name.endswith("c_proj.weight"):
                # 2 L projections add up in the residual stream: narrower ones keep its variance at 1.
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * shape.layers))
        # From here on the embedding *is* the head's matrix: its own Xavier values are gone.
        self.wte.weight = self.lm_head.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """Score each next character: (batch, length) -> (batch, length, alphabet)."""
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        # A head's matrix is narrow for an embedding, so it is widened here, as in the first Transformer.
        x = self.dropout(self.wte(tokens) * math.sqrt(self.wte.embedding_dim) + self.wpe(positions))
        for block in self.h:
            x = block(x)
        scores: Tensor = self.lm_head(self.ln_f(x))
        return scores


def initialise(module: nn.Module) -> None:
    """Give one module the first values of GPT-2; embeddings get Xavier's, as many a tutorial does."""
    if isinstance(module, nn.Linear):
        nn.init.normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.xavier_normal_(module.weight)
