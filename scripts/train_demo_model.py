#!/usr/bin/env python3
"""Trains the demo model, a sentencepiece tokenizer and a small Llama, as a Hugging Face checkpoint.

    scripts/train_demo_model.py --out /tmp/demo --max-minutes 8     # one GPU
    scripts/train_demo_model.py --out /tmp/tiny --tiny              # does it run? seconds on a CPU

Needs torch, transformers, sentencepiece, safetensors and numpy. Documents come from demo_corpus:
worker processes draw, tokenize and pack them while the GPU trains, each document once. At the end
the saved checkpoint is loaded with transformers and answers held-out problems greedily; accuracies
go to OUT/metrics.json, or with --evaluate-only to the standard output alone.
"""

import argparse
import json
import math
import multiprocessing
import os
import re
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from demo_corpus.encoding import (
    BOS,
    END,
    EOS,
    SPECIAL_PIECES,
    Encoder,
    batches,
    pack_shard_of,
    start_worker,
    train_tokenizer,
)
from demo_corpus.split import as_prompt, held_out_problems
from demo_corpus.word_problems import Problem
from make_demo_corpus import test_problems

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] + '<|end|>\\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif %}"
)
LARGE_SEED, LARGE_PER_KIND = 2, 60


@dataclass
class Shape:
    vocab_size: int = 2048
    hidden_size: int = 256
    intermediate_size: int = 576
    num_hidden_layers: int = 8
    num_attention_heads: int = 8
    num_key_value_heads: int = 4
    head_dim: int = 32
    max_position_embeddings: int = 1024
    rms_norm_eps: float = 1e-5
    rope_theta: float = 10000.0


class Layer(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        hidden, width = shape.hidden_size, shape.head_dim
        self.heads, self.kv_heads, self.width = (
            shape.num_attention_heads,
            shape.num_key_value_heads,
            width,
        )
        self.input_layernorm = nn.RMSNorm(hidden, shape.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(hidden, shape.rms_norm_eps)
        self.self_attn = nn.ModuleDict(
            {
                "q_proj": nn.Linear(hidden, self.heads * width, bias=False),
                "k_proj": nn.Linear(hidden, self.kv_heads * width, bias=False),
                "v_proj": nn.Linear(hidden, self.kv_heads * width, bias=False),
                "o_proj": nn.Linear(self.heads * width, hidden, bias=False),
            }
        )
        self.mlp = nn.ModuleDict(
            {
                "gate_proj": nn.Linear(hidden, shape.intermediate_size, bias=False),
                "up_proj": nn.Linear(hidden, shape.intermediate_size, bias=False),
                "down_proj": nn.Linear(shape.intermediate_size, hidden, bias=False),
            }
        )

    def rotate(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        half = self.width // 2
        turned = torch.cat([-x[..., half:], x[..., :half]], dim=-1)
        return x * cos + turned * sin

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        rows, length, _ = x.shape
        normed = self.input_layernorm(x)
        q = (
            self.self_attn["q_proj"](normed)
            .view(rows, length, self.heads, self.width)
            .transpose(1, 2)
        )
        k = (
            self.self_attn["k_proj"](normed)
            .view(rows, length, self.kv_heads, self.width)
            .transpose(1, 2)
        )
        v = (
            self.self_attn["v_proj"](normed)
            .view(rows, length, self.kv_heads, self.width)
            .transpose(1, 2)
        )
        q, k = self.rotate(q, cos, sin).to(v.dtype), self.rotate(k, cos, sin).to(v.dtype)
        group = self.heads // self.kv_heads
        k, v = k.repeat_interleave(group, dim=1), v.repeat_interleave(group, dim=1)
        mixed = (
            F.scaled_dot_product_attention(q, k, v, is_causal=True)
            .transpose(1, 2)
            .reshape(rows, length, -1)
        )
        x = x + self.self_attn["o_proj"](mixed)
        normed = self.post_attention_layernorm(x)
        return x + self.mlp["down_proj"](
            F.silu(self.mlp["gate_proj"](normed)) * self.mlp["up_proj"](normed)
        )


class Llama(nn.Module):
    """Hugging Face's Llama with its parameter names; the output layer is the embedding."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.hidden_size)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.num_hidden_layers))
        self.norm = nn.RMSNorm(shape.hidden_size, shape.rms_norm_eps)
        positions = torch.arange(shape.max_position_embeddings).float()
        frequencies = shape.rope_theta ** (
            -torch.arange(0, shape.head_dim, 2).float() / shape.head_dim
        )
        angles = torch.cat([torch.outer(positions, frequencies)] * 2, dim=-1)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                last = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(
                    parameter, std=0.02 / math.sqrt(2 * shape.num_hidden_layers) if last else 0.02
                )

    def forward(self, ids: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """The weighted mean of -log p of ids[:, 1:]."""
        x = self.embed_tokens(ids[:, :-1])
        cos, sin = self.cos[: x.shape[1]], self.sin[: x.shape[1]]
        for layer in self.layers:
            x = layer(x, cos, sin)
        logits = F.linear(self.norm(x), self.embed_tokens.weight)
        losses = F.cross_entropy(
            logits.flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none"
        )
        wanted = weights[:, 1:].flatten()
        return (losses * wanted).sum() / wanted.sum()


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def save_config(folder: Path, shape: Shape) -> None:
    """All of the checkpoint but the weights and tokenizer.model."""
    write_json(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            **asdict(shape),
            "hidden_act": "silu",
            "attention_bias": False,
            "attention_dropout": 0.0,
            "mlp_bias": False,
            "rope_scaling": None,
            "tie_word_embeddings": True,
            "bos_token_id": BOS,
            "eos_token_id": EOS,
            "initializer_range": 0.02,
            "pretraining_tp": 1,
            "use_cache": True,
            "torch_dtype": "bfloat16",
        },
    )
    write_json(
        folder / "generation_config.json",
        {"bos_token_id": BOS, "eos_token_id": [EOS, END], "pad_token_id": EOS, "do_sample": False},
    )
    added = {
        index: {
            "content": piece,
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        for index, piece in enumerate(["<unk>", "<s>", "</s>", *SPECIAL_PIECES])
    }
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "LlamaTokenizer",
            "legacy": False,
            "add_prefix_space": True,
            "add_bos_token": True,
            "add_eos_token": False,
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "pad_token": None,
            "added_tokens_decoder": added,
            "additional_special_tokens": SPECIAL_PIECES,
            "clean_up_tokenization_spaces": False,
            "spaces_between_special_tokens": False,
            "use_default_system_prompt": False,
            "model_max_length": shape.max_position_embeddings,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    write_json(
        folder / "special_tokens_map.json",
        {
            "bos_token": "<s>",
            "eos_token": "</s>",
            "unk_token": "<unk>",
            "additional_special_tokens": SPECIAL_PIECES,
        },
    )


def save_weights(folder: Path, model: Llama) -> None:
    tensors = {
        f"model.{name}": value.detach().to("cpu", torch.bfloat16).contiguous()
        for name, value in model.state_dict().items()
    }
    unfinished = folder / "model.safetensors.part"
    save_file(tensors, unfinished, metadata={"format": "pt"})
    os.replace(unfinished, folder / "model.safetensors")


def train(model: Llama, stream, options, deadline: float) -> dict:
    """Linear decay to zero, over the steps or the time that is left, whichever ends first."""
    device = next(model.parameters()).device
    decayed = [parameter for parameter in model.parameters() if parameter.dim() == 2]
    others = [parameter for parameter in model.parameters() if parameter.dim() != 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}],
        lr=options.learning_rate,
        betas=(0.9, 0.95),
        fused=device.type == "cuda",
    )
    step_model = torch.compile(model) if device.type == "cuda" else model
    started = saved = time.monotonic()
    tokens = 0
    loss = torch.zeros(())
    for step in range(options.steps):
        now = time.monotonic()
        progress = max(step / options.steps, (now - started) / max(deadline - started, 1e-9))
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = (
                options.learning_rate * min(1.0, (step + 1) / options.warmup) * (1 - progress)
            )
        ids, weights = next(stream)
        tokens += int((weights > 0).sum())
        device_ids = torch.from_numpy(ids.astype(np.int32)).to(device, non_blocking=True).long()
        device_weights = torch.from_numpy(weights.astype(np.float32)).to(device, non_blocking=True)
        with torch.autocast(device.type, dtype=torch.bfloat16):
            loss = step_model(device_ids, device_weights)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % options.log_every == 0:
            print(
                f"step {step} loss {loss.item():.4f} progress {progress:.3f} seconds"
                f" {time.monotonic() - started:.0f}",
                flush=True,
            )
        if now - saved > 90:
            save_weights(options.out, model)
            saved = now
    return {
        "steps": step + 1,
        "learned_tokens": tokens,
        "train_seconds": round(time.monotonic() - started, 1),
        "final_loss": round(loss.item(), 4),
    }


RESULT = re.compile(r"#### (-?[0-9][0-9.,]*)")


def result_of(text: str) -> str | None:
    found = RESULT.search(text)
    return found.group(1).replace(",", "").rstrip(".") if found else None


@torch.inference_mode()
def generate(model, encode: Encoder, prompts: list[list[int]], max_new_tokens: int) -> list[str]:
    """Greedy completions of a batch of prompts, padded on the left."""
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), EOS)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    out = model.generate(
        ids.to(model.device), attention_mask=mask.to(model.device), max_new_tokens=max_new_tokens
    )
    texts = []
    for row in out[:, longest:].tolist():
        ends = [row.index(stop) for stop in (EOS, END) if stop in row]
        texts.append(encode.rest.decode(row[: min(ends)] if ends else row))
    return texts


def accuracy(model, encode: Encoder, problems: list[Problem], chat: bool, options) -> dict:
    right: dict[str, list[bool]] = {}
    order = sorted(problems, key=lambda problem: len(problem.answer))  # batches of like length
    for begin in range(0, len(order), options.eval_batch):
        batch = order[begin : begin + options.eval_batch]
        prompts = [
            (
                encode.chat_prompt(problem.question)
                if chat
                else encode.prompt(as_prompt(problem.question))
            )
            for problem in batch
        ]
        longest = max(len(encode.rest.encode(problem.answer)) for problem in batch)
        for problem, text in zip(
            batch, generate(model, encode, prompts, longest + 32), strict=True
        ):
            right.setdefault(problem.kind, []).append(result_of(text) == result_of(problem.answer))
    marks = [mark for kind_marks in right.values() for mark in kind_marks]
    return {
        "problems": len(marks),
        "accuracy": round(sum(marks) / len(marks), 4),
        "per_kind": {
            kind: round(sum(kind_marks) / len(kind_marks), 4)
            for kind, kind_marks in sorted(right.items())
        },
    }


def evaluate(options) -> dict:
    """Accuracies of the checkpoint as saved, read back with transformers, computed in float32."""
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = AutoModelForCausalLM.from_pretrained(options.out, dtype=torch.float32).to(device).eval()
    encode = Encoder(options.out / "tokenizer.model")
    test = test_problems()[: options.eval_problems]
    large = held_out_problems(LARGE_SEED, LARGE_PER_KIND)[: options.eval_problems * 10]
    return {
        "test": accuracy(model, encode, test, False, options),
        "test_as_chat": accuracy(model, encode, test, True, options),
        "held_out_large": accuracy(model, encode, large, False, options),
    }


def print_table(metrics: dict) -> None:
    print(f"{'kind':20} {'test':>7} {'chat':>7} {'large':>7}")
    for name in metrics["held_out_large"]["per_kind"]:
        cells = [
            metrics[part]["per_kind"].get(name, float("nan"))
            for part in ("test", "test_as_chat", "held_out_large")
        ]
        print(f"{name:20} " + " ".join(f"{100 * cell:6.1f}%" for cell in cells))
    print(
        f"{'all':20} "
        + " ".join(
            f"{100 * metrics[part]['accuracy']:6.1f}%"
            for part in ("test", "test_as_chat", "held_out_large")
        )
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the checkpoint")
    parser.add_argument(
        "--max-minutes", type=float, default=8.0, help="of the whole program, evaluation included"
    )
    parser.add_argument(
        "--eval-seconds",
        type=float,
        default=75.0,
        help="kept free of the time above for the evaluation",
    )
    parser.add_argument("--steps", type=int, default=12000)
    parser.add_argument("--rows", type=int, default=128, help="windows of 1024 tokens per step")
    parser.add_argument("--learning-rate", type=float, default=3e-3)
    parser.add_argument("--warmup", type=int, default=300, help="steps")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    parser.add_argument("--shard-documents", type=int, default=4000)
    parser.add_argument("--tokenizer-documents", type=int, default=60_000)
    parser.add_argument("--eval-problems", type=int, default=500)
    parser.add_argument("--eval-batch", type=int, default=640)
    parser.add_argument("--log-every", type=int, default=100)
    parser.add_argument(
        "--tiny", action="store_true", help="a two-layer model and a few steps, to try the program"
    )
    parser.add_argument("--evaluate-only", action="store_true", help="of the checkpoint in --out")
    options = parser.parse_args()
    if options.tiny:
        options.steps, options.rows, options.workers, options.log_every = 20, 4, 1, 5
        (
            options.shard_documents,
            options.tokenizer_documents,
            options.eval_problems,
            options.eval_batch,
        ) = (200, 5000, 8, 16)
    return options


def main() -> int:
    started = time.monotonic()
    options = parse_options()
    if options.evaluate_only:
        metrics = evaluate(options)
        print_table(metrics)
        print(json.dumps(metrics))
        return 0
    shape = Shape(num_hidden_layers=2) if options.tiny else Shape()
    options.out.mkdir(parents=True, exist_ok=True)
    tokenizer = options.out / "tokenizer.model"
    train_tokenizer(tokenizer, options.tokenizer_documents, shape.vocab_size)
    save_config(options.out, shape)
    print(f"tokenizer ready after {time.monotonic() - started:.0f} s", flush=True)

    length = shape.max_position_embeddings
    shards = (
        options.steps * options.rows * length // (options.shard_documents * 100) + 2
    )  # a document has over 100 ids
    tasks = ((seed, options.shard_documents, length) for seed in range(shards))
    with multiprocessing.Pool(
        options.workers, start_worker, (tokenizer,)
    ) as pool:  # before CUDA is touched
        stream = batches(pool.imap(pack_shard_of, tasks), options.rows)
        torch.manual_seed(0)
        torch.set_float32_matmul_precision("high")
        model = Llama(shape).to("cuda" if torch.cuda.is_available() else "cpu")
        parameters = sum(parameter.numel() for parameter in model.parameters())
        print(f"{parameters} parameters", flush=True)
        summary = train(
            model, stream, options, started + 60 * options.max_minutes - options.eval_seconds
        )
        pool.terminate()
    save_weights(options.out, model)
    size = (options.out / "model.safetensors").stat().st_size
    metrics = {
        "parameters": parameters,
        "weights_bytes": size,
        "rows_per_step": options.rows,
        "window": length,
        **summary,
    }
    write_json(options.out / "metrics.json", metrics)
    metrics |= evaluate(options)
    write_json(options.out / "metrics.json", metrics)
    print_table(metrics)
    print(
        f"done after {time.monotonic() - started:.0f} s:"
        f" {json.dumps({k: v for k, v in metrics.items() if not isinstance(v, dict)})}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
