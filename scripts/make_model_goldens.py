#!/usr/bin/env python3
"""Makes the tiny checkpoints and golden files of tests/data/models/ with Hugging Face transformers.

    python3 scripts/make_model_goldens.py tests/data/models [NAME...]

Each folder is a complete checkpoint with random weights and golden.json: for prompts of several
lengths, what transformers computes in float32 (weights widened, attention in plain PyTorch):
the log-probability of every next prompt token, the likeliest token at every position, and the
greedy continuation. Seeds are searched until no decision is closer than MIN_MARGIN, so that an
equal answer does not hang on rounding.

bfloat16_error is how far transformers itself is off in bfloat16: the yardstick for ours.
rope.json holds inverse frequencies and table rows of every kind of rotary scaling.

Needs torch, transformers and safetensors. Not run by CI.
"""

import copy
import json
import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import (AutoModelForCausalLM, Gemma2Config, GPT2Config, LlamaConfig,
                          MistralConfig, MixtralConfig, OPTConfig, Phi3Config, Qwen2Config,
                          Qwen3Config)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from baichuan_reference import BaichuanReference

PROMPT_LENGTHS = [1, 2, 15, 16, 17, 33, 130]
LONG = PROMPT_LENGTHS + [300]
NUM_GREEDY = 24
MIN_MARGIN = 1e-3  # between the two greatest logits wherever an id is compared
VOCAB = 263

SMALL = dict(vocab_size=VOCAB, max_position_embeddings=512, bos_token_id=1, eos_token_id=2,
             rms_norm_eps=1e-5)

# name: (configuration, dtype of the files, number of files, config.json in the old spelling)
MODELS = {
    "llama_gqa": (LlamaConfig(
        hidden_size=48, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, **SMALL), torch.bfloat16, 2, True),
    "llama_bias": (LlamaConfig(
        hidden_size=36, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=1, head_dim=20, attention_bias=True, tie_word_embeddings=True,
        **SMALL), torch.float32, 1, False),
    "llama3_rope": (LlamaConfig(
        hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=6,
        num_key_value_heads=3, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="llama3", rope_theta=500000.0, factor=8.0,
                             low_freq_factor=1.0, high_freq_factor=4.0,
                             original_max_position_embeddings=64),
        **{**SMALL, "eos_token_id": [2, 3]}), torch.float16, 1, False),
    "llama_linear": (LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0), **SMALL),
        torch.bfloat16, 1, True),
    "mistral_window": (MistralConfig(
        hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, sliding_window=11, tie_word_embeddings=True, **SMALL),
        torch.bfloat16, 1, False),
    "qwen2_tied": (Qwen2Config(
        hidden_size=64, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=1, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="default", rope_theta=1000000.0), **SMALL),
        torch.bfloat16, 1, True),
    "qwen2_yarn": (Qwen2Config(
        hidden_size=48, intermediate_size=56, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=2, use_sliding_window=True, sliding_window=24, max_window_layers=1,
        rope_parameters=dict(rope_type="yarn", rope_theta=10000.0, factor=4.0,
                             original_max_position_embeddings=64),
        **SMALL), torch.bfloat16, 1, False),
    "llama_mlp_bias": (LlamaConfig(
        hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, mlp_bias=True, tie_word_embeddings=True, **SMALL),
        torch.bfloat16, 1, False),
    "llama_dynamic": (LlamaConfig(
        hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, tie_word_embeddings=True,
        rope_parameters=dict(rope_type="dynamic", rope_theta=10000.0, factor=5.0),
        **{**SMALL, "max_position_embeddings": 64}), torch.bfloat16, 1, False),
    "opt_pre_norm": (OPTConfig(
        hidden_size=48, ffn_dim=64, num_hidden_layers=2, num_attention_heads=4,
        word_embed_proj_dim=48, vocab_size=VOCAB, max_position_embeddings=400,
        bos_token_id=2, eos_token_id=2, pad_token_id=1), torch.float16, 1, False),
    "opt_post_norm": (OPTConfig(
        hidden_size=40, ffn_dim=56, num_hidden_layers=3, num_attention_heads=2,
        word_embed_proj_dim=24, do_layer_norm_before=False, vocab_size=VOCAB,
        max_position_embeddings=400, bos_token_id=2, eos_token_id=2, pad_token_id=1),
        torch.bfloat16, 1, False),
    "qwen3": (Qwen3Config(
        hidden_size=40, intermediate_size=48, num_hidden_layers=2, num_attention_heads=7,
        num_key_value_heads=1, head_dim=16, tie_word_embeddings=True, **SMALL),
        torch.bfloat16, 1, False),
    "baichuan_rope": (dict(
        architectures=["BaichuanForCausalLM"], hidden_size=48, intermediate_size=56,
        num_hidden_layers=2, num_attention_heads=4, vocab_size=VOCAB, rms_norm_eps=1e-6,
        max_position_embeddings=512, model_max_length=512, model_type="baichuan",
        hidden_act="silu", tie_word_embeddings=False, torch_dtype="bfloat16",
        bos_token_id=1, eos_token_id=2), torch.bfloat16, 1, False),
    "baichuan_alibi": (dict(
        architectures=["BaichuanForCausalLM"], hidden_size=40, intermediate_size=48,
        num_hidden_layers=2, num_attention_heads=5, vocab_size=VOCAB, rms_norm_eps=1e-6,
        model_max_length=512, model_type="baichuan", hidden_act="silu",
        tie_word_embeddings=False, torch_dtype="bfloat16", bos_token_id=1, eos_token_id=2),
        torch.bfloat16, 1, False),
    "gemma2": (Gemma2Config(
        hidden_size=48, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=20, query_pre_attn_scalar=24, sliding_window=11,
        attn_logit_softcapping=4.0, final_logit_softcapping=8.0, **SMALL),
        torch.bfloat16, 1, False),
    "phi3_longrope": (Phi3Config(
        hidden_size=48, intermediate_size=56, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=1, original_max_position_embeddings=64, pad_token_id=0,
        rope_parameters=dict(rope_type="longrope", rope_theta=10000.0,
                             short_factor=[1.0, 1.1, 1.2, 1.3, 1.5, 1.7, 1.9, 2.1],
                             long_factor=[1.0, 1.5, 2.0, 3.0, 4.0, 5.5, 7.0, 8.5]),
        tie_word_embeddings=True, **SMALL), torch.bfloat16, 1, False),
    "phi3_window": (Phi3Config(
        hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, sliding_window=37, partial_rotary_factor=0.75, pad_token_id=0,
        tie_word_embeddings=True, **SMALL), torch.bfloat16, 1, False),
    "gpt2": (GPT2Config(
        n_embd=48, n_layer=2, n_head=4, n_positions=400, vocab_size=VOCAB,
        scale_attn_by_inverse_layer_idx=True, bos_token_id=2, eos_token_id=2),
        torch.float16, 1, False),
    "mixtral": (MixtralConfig(
        hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=5, num_experts_per_tok=2, sliding_window=None,
        tie_word_embeddings=True, **SMALL), torch.bfloat16, 1, False),
}

# The lengths of prompts, the number of greedy ids and the file, where they are not the default. Scaling
# that depends on the length of the run is compared where the run's length is known: within the
# original context (64 tokens), and beyond.
SHORT_RUN = ([1, 2, 15, 16, 17, 33, 40], 24, "golden.json")
RUNS = {
    "llama_dynamic": [SHORT_RUN, ([300], 1, "golden_300.json")],
    "phi3_longrope": [SHORT_RUN, ([65, 130, 300], 24, "golden_512.json")],
    **{name: [(PROMPT_LENGTHS, NUM_GREEDY, "golden.json")]
       for name in ("llama_gqa", "llama_bias", "llama3_rope", "llama_linear", "mistral_window",
                    "qwen2_tied", "qwen2_yarn")},
}
# Other tests know the weights of those seven, so for them a long prompt is searched, not a seed.
SEARCHED_PROMPT = 300


def randomize(model, seed, dtype):
    """Weights large enough that heads attend to something and logits differ."""
    generator = torch.Generator().manual_seed(seed)
    is_gemma = type(model).__name__.startswith("Gemma")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith("bias"):
                value = 0.3 * noise
            elif "norm" in name or ".ln_" in name:
                value = 0.2 * noise + (0.0 if is_gemma else 1.0)
            elif any(part in name for part in ("embed_", "lm_head", "wte", "wpe")):
                value = 0.35 * noise
            else:
                # GPT-2's Conv1D holds [inputs, outputs].
                inputs = parameter.shape[0 if ".c_" in name else -1]
                value = 1.2 * noise / inputs ** 0.5
            if "mlp.gate.weight" in name:
                value = 4.0 * value  # a router that decides: few choices hang on rounding
            parameter.copy_(value.to(dtype).float())


class TooClose(Exception):
    """A decision that rounding could turn."""


def evaluate(model, prompts, num_greedy):
    """Golden entries. Raises TooClose."""
    entries = []

    def best(logits):
        top = torch.topk(logits, 2)
        if top.values[0] - top.values[1] <= MIN_MARGIN:
            raise TooClose
        return top.indices[0].item()

    for prompt in reversed(prompts):  # the longest is the likeliest to fail
        logits = model(torch.tensor([prompt])).logits[0]
        logprobs = torch.log_softmax(logits.double(), dim=-1)
        entry = {
            "prompt": prompt,
            "next_logprobs": [round(logprobs[i, prompt[i + 1]].item(), 6)
                              for i in range(len(prompt) - 1)],
            "top_ids": [best(row) for row in logits],
        }
        ids = list(prompt)
        for _ in range(num_greedy):
            ids.append(best(model(torch.tensor([ids])).logits[0, -1]))
        entry["greedy_ids"] = ids[len(prompt):]
        entries.insert(0, entry)
    return entries


def bfloat16_error(model, prompts):
    """How far transformers in bfloat16 is from transformers in float32, over all positions."""
    rounded = copy.deepcopy(model).to(torch.bfloat16)
    divergences, differences = [], []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        exact = torch.log_softmax(model(ids).logits[0].double(), dim=-1)
        found = torch.log_softmax(rounded(ids).logits[0].double(), dim=-1)
        divergences.append((exact.exp() * (exact - found)).sum(dim=-1))
        top = torch.topk(exact, 20).indices
        differences.append((exact - found).gather(-1, top).abs().amax(dim=-1))
    return {"mean_kl": torch.cat(divergences).mean().item(),
            "max_logprob_difference": torch.cat(differences).max().item()}


def write_in_old_spelling(folder):
    """config.json as transformers 4 wrote it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    kind = rope.pop("rope_type")
    config["rope_scaling"] = None if kind == "default" else {"type": kind, **rope}
    config["torch_dtype"] = config.pop("dtype")
    if config["model_type"] == "qwen2":
        del config["architectures"]  # then model_type says what it is
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def checkpoint_tensors(name, model, dtype):
    """Tensors under the names of published checkpoints."""
    tensors = {}
    for key, parameter in model.named_parameters():
        value = parameter.detach().to(dtype).contiguous()
        if key.endswith(".experts.gate_up_proj"):  # [experts, 2 I, H]
            for expert, rows in enumerate(value):
                place = key.replace("mlp.experts.gate_up_proj", f"block_sparse_moe.experts.{expert}.")
                for part, half in zip(("w1", "w3"), rows.chunk(2)):
                    tensors[f"{place}{part}.weight"] = half.contiguous()
        elif key.endswith(".experts.down_proj"):
            for expert, rows in enumerate(value):
                place = key.replace("mlp.experts.down_proj", f"block_sparse_moe.experts.{expert}.")
                tensors[f"{place}w2.weight"] = rows.contiguous()
        elif name == "mixtral":
            tensors[key.replace("mlp.gate.", "block_sparse_moe.gate.")] = value
        elif name == "opt_post_norm":
            tensors[key.removeprefix("model.")] = value  # as the first checkpoints were
        elif name == "gpt2":
            tensors[key.removeprefix("transformer.")] = value
        else:
            tensors[key] = value
    return tensors


def search_prompt(model):
    """A golden entry of a long prompt without a close decision."""
    for seed in range(1000):
        generator = torch.Generator().manual_seed(seed)
        prompt = torch.randint(4, VOCAB, (SEARCHED_PROMPT,), generator=generator).tolist()
        try:
            return evaluate(model, [prompt], NUM_GREEDY)
        except TooClose:
            continue
    sys.exit(f"no prompt with a margin above {MIN_MARGIN}")


def save(name, model, folder, dtype, num_files):
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    if isinstance(model, BaichuanReference):
        (folder / "config.json").write_text(json.dumps(model.config, indent=2) + "\n")
    else:
        model.config.dtype = dtype
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(folder)
    tensors = checkpoint_tensors(name, model, dtype)
    if num_files == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    weight_map = {}
    names = sorted(tensors)
    for i in range(num_files):
        part = {key: tensors[key] for key in names[i::num_files]}
        file = f"model-{i + 1:05d}-of-{num_files:05d}.safetensors"
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map.update({key: file for key in part})
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def make_reference(config):
    if isinstance(config, dict):
        return BaichuanReference(config).eval()
    config._attn_implementation = "eager"
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


def make_model(name, folder):
    config, dtype, num_files, old_spelling = MODELS[name]
    prompt_generator = torch.Generator().manual_seed(len(name))
    runs = [([torch.randint(4, VOCAB, (n,), generator=prompt_generator).tolist() for n in lengths],
             num_greedy, file)
            for lengths, num_greedy, file in RUNS.get(name, [(LONG, NUM_GREEDY, "golden.json")])]
    model = make_reference(config)
    for seed in range(1000):
        randomize(model, seed, dtype)
        try:
            goldens = [(file, prompts, evaluate(model, prompts, num_greedy))
                       for prompts, num_greedy, file in reversed(runs)]
            break
        except TooClose:
            continue
    else:
        sys.exit(f"{name}: no seed with a margin above {MIN_MARGIN}")
    save(name, model, folder, dtype, num_files)
    if old_spelling:
        write_in_old_spelling(folder)
    for file, prompts, entries in goldens:
        if SEARCHED_PROMPT > max(map(len, prompts)) and max(map(len, prompts)) > SHORT_RUN[0][-1]:
            entries += search_prompt(model)
            prompts = prompts + [entries[-1]["prompt"]]
        golden = {"num_parameters": model.num_parameters(), "prompts": entries,
                  "bfloat16_error": bfloat16_error(model, prompts)}
        (folder / file).write_text(json.dumps(golden, separators=(",", ":")) + "\n")
    # What is on disk is what was evaluated.
    written = checkpoint_tensors(name, model, torch.float32)
    for file in folder.glob("*.safetensors"):
        for key, value in load_file(file).items():
            assert torch.equal(value.float(), written[key]), key
    print(f"{name}: seed {seed}, {model.num_parameters()} parameters", flush=True)


ROPES = {
    "default": dict(rope_type="default", rope_theta=500000.0),
    "linear": dict(rope_type="linear", rope_theta=10000.0, factor=8.0),
    "llama3": dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0,
                   high_freq_factor=4.0, original_max_position_embeddings=8192),
    "yarn": dict(rope_type="yarn", rope_theta=1000000.0, factor=4.0,
                 original_max_position_embeddings=32768),
    "yarn_tuned": dict(rope_type="yarn", rope_theta=10000.0, factor=16.0, beta_fast=24.0,
                       beta_slow=2.0, truncate=False, mscale=0.7, mscale_all_dim=0.3,
                       original_max_position_embeddings=4096),
    "dynamic": dict(rope_type="dynamic", rope_theta=10000.0, factor=4.0),
    "longrope": dict(rope_type="longrope", rope_theta=10000.0,
                     original_max_position_embeddings=4096,
                     short_factor=[1.0 + i / 100 for i in range(64)],
                     long_factor=[1.0 + i * i / 64 for i in range(64)]),
}
# Scaling that depends on the length of the run: (suffix, longest context, positions).
RUN_LENGTHS = {"dynamic": [("", 131072, [1, 1000, 131071]), ("_short", 2048, [1, 1000, 2047])],
               "longrope": [("", 131072, [1, 1000, 131071]), ("_short", 4096, [1, 1000, 4095])]}


def make_ropes(path):
    head_dim = 128
    cases = []
    for name, parameters in ROPES.items():
        trained = 2048 if name == "dynamic" else 131072
        config = LlamaConfig(hidden_size=256, num_attention_heads=2, head_dim=head_dim,
                             max_position_embeddings=trained, rope_parameters=dict(parameters))
        for suffix, length, positions in RUN_LENGTHS.get(name, [("", 131072, [1, 1000, 131071])]):
            if name == "default":
                exponents = torch.arange(0, head_dim, 2, dtype=torch.int64).float() / head_dim
                inv_freq, scale = 1.0 / (parameters["rope_theta"] ** exponents), 1.0
            else:
                inv_freq, scale = ROPE_INIT_FUNCTIONS[parameters["rope_type"]](
                    config, "cpu", seq_len=length)
            angles = torch.tensor(positions).float()[:, None] * inv_freq[None, :]
            table = torch.cat([angles.cos() * scale, angles.sin() * scale], dim=1)
            cases.append({
                "name": name + suffix,
                "config": {**{k: v for k, v in config.to_dict().items()
                              if k in ("hidden_size", "intermediate_size", "num_hidden_layers",
                                       "num_attention_heads", "num_key_value_heads", "head_dim",
                                       "vocab_size", "max_position_embeddings", "rms_norm_eps")},
                           "architectures": ["LlamaForCausalLM"], "rope_parameters": parameters},
                "inverse_frequencies": [float(f"{x:.9g}") for x in inv_freq.tolist()],
                "positions": positions,
                "table": [[float(f"{x:.7g}") for x in row] for row in table.tolist()],
            })
    path.write_text(json.dumps(cases, separators=(",", ":")) + "\n")


def main():
    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    root = pathlib.Path(sys.argv[1])
    for name in sys.argv[2:] or MODELS:
        make_model(name, root / name)
    make_ropes(root / "rope.json")


if __name__ == "__main__":
    main()
