"""Baichuan2 in plain PyTorch, for goldens: transformers has no such model.

Written from what its configuration says: RMS norm, one W_pack of q, k and v, rotary embedding (7B, which has
max_position_embeddings) or ALiBi (13B, which has not), a SiLU-gated MLP, and a head whose rows have length 1.
Names of parameters are those of the published checkpoints. Yang et al. 2023, https://arxiv.org/abs/2309.10305.
"""

import math
import types

import torch
from torch import nn
from torch.nn import functional


def alibi_slopes(num_heads):
    """Press et al. 2021, https://arxiv.org/abs/2108.12409: a geometric series, filled up from the next one."""
    def series(n):
        start = 2 ** (-8 / n)
        return [start ** (i + 1) for i in range(n)]
    power = 2 ** math.floor(math.log2(num_heads))
    return torch.tensor(series(power) + series(2 * power)[0::2][:num_heads - power])


def rotate(x, positions, theta):
    half = x.shape[-1] // 2
    angles = positions[:, None].float() * theta ** (-torch.arange(half).float() / half)
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.W_pack = nn.Linear(config["hidden_size"], 3 * config["hidden_size"], bias=False)
        self.o_proj = nn.Linear(config["hidden_size"], config["hidden_size"], bias=False)

    def forward(self, x):
        length, hidden = x.shape
        heads = self.config["num_attention_heads"]
        q, k, v = (part.view(length, heads, -1).transpose(0, 1) for part in self.W_pack(x).split(hidden, dim=-1))
        positions = torch.arange(length)
        if "max_position_embeddings" in self.config:
            q, k = rotate(q, positions, 10000.0), rotate(k, positions, 10000.0)
        scores = q @ k.transpose(1, 2) / math.sqrt(hidden // heads)
        if "max_position_embeddings" not in self.config:
            distance = positions[None, :] - positions[:, None]
            scores = scores + (alibi_slopes(heads)[:, None, None] * distance).to(scores.dtype)
        scores = scores.masked_fill(positions[None, :] > positions[:, None], float("-inf"))
        attended = torch.softmax(scores.float(), dim=-1).to(x.dtype) @ v
        return self.o_proj(attended.transpose(0, 1).reshape(length, hidden))


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        hidden, size = config["hidden_size"], config["intermediate_size"]
        self.gate_proj = nn.Linear(hidden, size, bias=False)
        self.up_proj = nn.Linear(hidden, size, bias=False)
        self.down_proj = nn.Linear(size, hidden, bias=False)

    def forward(self, x):
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(config["hidden_size"], config["rms_norm_eps"])
        self.self_attn = Attention(config)
        self.post_attention_layernorm = nn.RMSNorm(config["hidden_size"], config["rms_norm_eps"])
        self.mlp = Mlp(config)

    def forward(self, x):
        x = x + self.self_attn(self.input_layernorm(x))
        return x + self.mlp(self.post_attention_layernorm(x))


class BaichuanReference(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.model = nn.Module()
        self.model.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.model.layers = nn.ModuleList(Layer(config) for _ in range(config["num_hidden_layers"]))
        self.model.norm = nn.RMSNorm(config["hidden_size"], config["rms_norm_eps"])
        self.lm_head = nn.Linear(config["hidden_size"], config["vocab_size"], bias=False)

    def num_parameters(self):
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, ids):
        x = self.model.embed_tokens(ids[0])
        for layer in self.model.layers:
            x = layer(x)
        logits = functional.linear(self.model.norm(x), functional.normalize(self.lm_head.weight))
        return types.SimpleNamespace(logits=logits[None])
