#include "tools/engine_options.h"

#include <charconv>
#include <functional>

#include <fmt/format.h>

#include "engine/core/error.h"
#include "tools/flag_checks.h"

namespace llmrun {
namespace {

void add_model_options(CLI::App& command, EngineConfig& config) {
  const std::string group = "Model";
  command
      .add_option(
          "-m,--model", config.model,
          "Checkpoint folder, Hugging Face id in the local cache, or shape:NAME for random weights "
          "of a known model's shape")
      ->group(group);
  command
      .add_option("--tokenizer", config.tokenizer, "Folder of the tokenizer, if not the model's")
      ->group(group);
  command.add_option("--revision", config.revision, "Revision of a Hugging Face id")->group(group);
  command
      .add_option("--dtype", config.dtype,
                  "auto, float32, bfloat16 or float16; float and half are the first and the last")
      ->transform([](const std::string& name) {
        return name == "half" ? std::string("float16") : name == "float" ? "float32" : name;
      })
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--load-format", config.load_format,
                  "auto, or dummy for random weights of this shape")
      ->group(group)
      ->capture_default_str();
  command
      .add_flag("--allow-symlinks", config.allow_symlinks,
                "Follow weight files that are links out of the model's folder")
      ->group(group);
  command
      .add_option("--max-model-len", config.max_model_len,
                  "Longest prompt and output together, in tokens (0: what the model was made for)")
      ->group(group)
      ->capture_default_str();
}

void add_device_options(CLI::App& command, EngineOptions& options) {
  const std::string group = "Device and memory";
  EngineConfig& config = options.config;
  command.add_option("--device", config.device, "auto, cpu or cuda")
      ->group(group)
      ->capture_default_str();
  command.add_option("--threads", config.num_threads, "CPU threads (0: all this process may use)")
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--cpu-isa", config.cpu_isa,
                  "CPU instruction set of the kernels: auto, amx, avx512bf16, avx2 or portable")
      ->group(group)
      ->capture_default_str();
  command
      .add_flag("--deterministic", config.deterministic,
                "Equal outputs in every batch composition: one kernel for every batch size")
      ->group(group);
  command
      .add_option("--memory-utilization,--gpu-memory-utilization", config.memory_utilization,
                  "Share of the device's memory the engine may use (0: 0.9 on a GPU, 0.5 on a CPU)")
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--kv-cache-memory-bytes", options.kv_cache_memory,
                  "Size of the KV pool, such as 512M or 2G, instead of what is left")
      ->group(group);
  command.add_option("--kv-cache-dtype", config.kv_cache_dtype, "auto, float32 or bfloat16")
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--num-kv-blocks-override", config.num_kv_blocks_override,
                  "Exactly so many KV blocks; to test preemption")
      ->group(group)
      ->capture_default_str();
  command.add_option("--block-size", config.block_size, "Tokens per KV block (paged layout)")
      ->group(group)
      ->capture_default_str();
}

void add_scheduling_options(CLI::App& command, EngineOptions& options) {
  const std::string group = "Scheduling";
  EngineConfig& config = options.config;
  command
      .add_option(
          "--backend", options.backend,
          "paged: continuous batching over a paged KV cache; naive: static padded batches over "
          "contiguous KV memory. A preset of the flags below")
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--scheduler", options.scheduler, "continuous or static (default: the backend's)")
      ->group(group);
  command
      .add_option("--kv-layout", options.kv_layout, "paged or contiguous (default: the backend's)")
      ->group(group);
  command
      .add_option("--attention", options.attention,
                  "GPU attention kernels: paged, or plain (default: the backend's)")
      ->group(group);
  command
      .add_flag("--cuda-graphs{true},--no-cuda-graphs{false}", options.cuda_graphs,
                "Replay decode steps on a GPU as CUDA graphs (default: the backend's)")
      ->group(group);
  command
      .add_flag("--enable-prefix-caching{true},--no-enable-prefix-caching{false}",
                options.enable_prefix_caching, "Share the KV blocks of equal prompt prefixes")
      ->group(group);
  command
      .add_flag("--enable-chunked-prefill{true},--no-enable-chunked-prefill{false}",
                options.enable_chunked_prefill, "Split long prompts over several steps")
      ->group(group);
  command
      .add_option("--max-num-seqs", config.max_num_seqs,
                  "Sequences that run at once (0: 1024 on a GPU, 64 on a CPU)")
      ->group(group)
      ->capture_default_str();
  command
      .add_option("--max-num-batched-tokens", config.max_num_batched_tokens,
                  "Tokens of one step (0: 8192 on a GPU, 512 on a CPU)")
      ->group(group)
      ->capture_default_str();
  command
      .add_option(
          "--steps-ahead", config.steps_ahead,
          "Steps planned before the last one's tokens are read (-1: 1 on a GPU, 0 on a CPU)")
      ->group(group)
      ->capture_default_str();
}

// A JSON value from a flag's text: numbers and booleans as such, everything else as a string.
nlohmann::json flag_value(const std::string& text) {
  nlohmann::json value = nlohmann::json::parse(text, nullptr, false);
  return value.is_discarded() ? nlohmann::json(text) : value;
}

nlohmann::json text_value(const std::string& text) {
  return text;
}

// "15:-100" as a pair of id and bias.
nlohmann::json bias_value(const std::string& text) {
  const std::size_t colon = text.find(':');
  if (colon == text.npos) return text;  // refused as any value that is no pair
  return nlohmann::json::array(
      {flag_value(text.substr(0, colon)), flag_value(text.substr(colon + 1))});
}

void add_value_option(CLI::App& command, SamplingOptions& options, const std::string& flags,
                      const std::string& name, const std::string& help) {
  command
      .add_option_function<std::string>(
          flags,
          [&options, name](const std::string& text) {
            options.values.emplace_back(name, flag_value(text));
          },
          help)
      ->group("Sampling");
}

using ItemValue = nlohmann::json (*)(const std::string& text);

CLI::Option* add_list_option(CLI::App& command, SamplingOptions& options, const std::string& flags,
                             const std::string& name, ItemValue item_value,
                             const std::string& help) {
  return command
      .add_option_function<std::vector<std::string>>(
          flags,
          [&options, name, item_value](const std::vector<std::string>& items) {
            nlohmann::json list = nlohmann::json::array();
            for (const std::string& item : items) list.push_back(item_value(item));
            options.values.emplace_back(name, std::move(list));
          },
          help)
      ->group("Sampling")
      ->allow_extra_args(false);
}

void add_switch(CLI::App& command, SamplingOptions& options, const std::string& flag,
                const std::string& name, bool value, const std::string& help) {
  command
      .add_flag_callback(
          flag, [&options, name, value] { options.values.emplace_back(name, value); }, help)
      ->group("Sampling");
}

}  // namespace

void add_engine_options(CLI::App& command, EngineOptions& options) {
  add_model_options(command, options.config);
  add_device_options(command, options);
  add_scheduling_options(command, options);
  command
      .add_option(
          "--seed", options.config.seed,
          "Seed of the run; a request without a seed of its own derives one from it and its id")
      ->check(unsigned_integer())
      ->group("Sampling")
      ->capture_default_str();
}

void add_request_limit_options(CLI::App& command, EngineConfig& config) {
  command
      .add_option("--max-logprobs", config.max_logprobs,
                  "What logprobs and prompt_logprobs of a request may be at most (-1: all of the "
                  "vocabulary, which is what a request asks for by -1)")
      ->group("Sampling")
      ->capture_default_str();
}

EngineConfig resolve(const EngineOptions& options) {
  EngineConfig config = options.config;
  const std::int32_t steps_ahead = config.steps_ahead;
  apply_backend_preset(config, options.backend);
  if (steps_ahead != -1) config.steps_ahead = steps_ahead;
  if (!options.scheduler.empty()) {
    if (options.scheduler != "continuous" && options.scheduler != "static") {
      throw Error(ErrorKind::kUsage,
                  "--scheduler must be continuous or static, got '" + options.scheduler + "'");
    }
    config.scheduler =
        options.scheduler == "static" ? SchedulerKind::kStatic : SchedulerKind::kContinuous;
  }
  if (!options.kv_layout.empty()) {
    if (options.kv_layout != "paged" && options.kv_layout != "contiguous") {
      throw Error(ErrorKind::kUsage,
                  "--kv-layout must be paged or contiguous, got '" + options.kv_layout + "'");
    }
    config.kv_layout = options.kv_layout == "paged" ? KvLayout::kPaged : KvLayout::kContiguous;
    if (config.kv_layout == KvLayout::kContiguous) config.enable_prefix_caching = false;
  }
  if (!options.attention.empty()) {
    if (options.attention != "paged" && options.attention != "plain") {
      throw Error(ErrorKind::kUsage,
                  "--attention must be paged or plain, got '" + options.attention + "'");
    }
    config.attention = options.attention == "plain" ? AttentionKind::kPlain : AttentionKind::kPaged;
  }
  if (!options.cuda_graphs.empty()) config.cuda_graphs = options.cuda_graphs == "true";
  if (!options.enable_prefix_caching.empty()) {
    config.enable_prefix_caching = options.enable_prefix_caching == "true";
  }
  if (!options.enable_chunked_prefill.empty()) {
    config.enable_chunked_prefill = options.enable_chunked_prefill == "true";
  }
  if (!options.kv_cache_memory.empty()) {
    config.kv_cache_memory_bytes = parse_bytes("--kv-cache-memory-bytes", options.kv_cache_memory);
  }
  return config;
}

void add_sampling_options(CLI::App& command, SamplingOptions& options) {
  const auto value = [&](const char* flags, const char* name, const char* help) {
    add_value_option(command, options, flags, name, help);
  };
  value("-n,--n", "n", "Outputs per prompt");
  value("--best-of", "best_of", "Outputs generated per prompt, of which the n best are kept");
  value("--temperature", "temperature", "0 is greedy");
  value("--top-p", "top_p", "Sample from the smallest set of tokens with this probability, (0, 1]");
  value("--top-k", "top_k", "Sample from the k most likely tokens (0: all)");
  value("--min-p", "min_p",
        "Leave out tokens less likely than this share of the best one's probability");
  value("--presence-penalty", "presence_penalty", "Against tokens already generated, -2 to 2");
  value("--frequency-penalty", "frequency_penalty",
        "Against tokens by how often they were generated, -2 to 2");
  value("--repetition-penalty", "repetition_penalty",
        "Divides scores of tokens in prompt or output (1: none)");
  value("--max-tokens", "max_tokens",
        "Output tokens per sample at most (default: until the context ends)");
  value("--min-tokens", "min_tokens", "Output tokens before anything may end a sample");
  value("--logprobs", "logprobs",
        "Log-probabilities of the k best tokens at each output position (-1: of all)");
  value("--prompt-logprobs", "prompt_logprobs", "The same at each prompt position");
  value("--length-penalty", "length_penalty",
        "Beam search: score = log-probability / length ^ this");
  add_list_option(command, options, "--stop", "stop", text_value,
                  "Text that ends a sample; may be given again");
  add_list_option(command, options, "--stop-token-ids", "stop_token_ids", flag_value,
                  "Ids of tokens that end a sample, such as 2,13; may be given again")
      ->delimiter(',');
  add_list_option(command, options, "--bad-words", "bad_words", text_value,
                  "Text that must not be generated; may be given again");
  add_list_option(command, options, "--allowed-token-ids", "allowed_token_ids", flag_value,
                  "Ids of the only tokens that may be generated, such as 15,27; may be given again")
      ->delimiter(',');
  add_list_option(command, options, "--logit-bias", "logit_bias", bias_value,
                  "Added to the logits of tokens, -100 to 100, as ID:BIAS[,ID:BIAS...]; may be "
                  "given again")
      ->delimiter(',');
  add_switch(command, options, "--ignore-eos", "ignore_eos", true,
             "Go on after the end-of-sequence token");
  add_switch(command, options, "--include-stop-str-in-output", "include_stop_str_in_output", true,
             "Keep the stop string in the text");
  add_switch(command, options, "--no-skip-special-tokens", "skip_special_tokens", false,
             "Show special tokens in the text");
  add_switch(command, options, "--no-detokenize", "detokenize", false, "Output token ids only");
  add_switch(command, options, "--use-beam-search", "use_beam_search", true, "Search with n beams");
  add_switch(command, options, "--early-stopping", "early_stopping", true,
             "Beam search: end as soon as n beams have ended");
  command
      .add_option("--generation-config", options.generation_config,
                  "auto: the model's generation_config.json gives the defaults; none: it does not")
      ->group("Sampling")
      ->check(CLI::IsMember({"auto", "none"}))
      ->capture_default_str();
}

void apply(const SamplingOptions& options, SamplingParams& params) {
  for (const auto& [name, value] : options.values) {
    try {
      set_parameter(params, name, value);
    } catch (const std::invalid_argument& problem) {
      throw Error(ErrorKind::kUsage, problem.what());
    }
  }
}

nlohmann::ordered_json effective_sampling(const SamplingParams& params) {
  nlohmann::ordered_json json = {
      {"temperature", params.temperature}, {"top_p", params.top_p}, {"top_k", params.top_k}};
  if (params.max_tokens)
    json["max_tokens"] = *params.max_tokens;
  else
    json["max_tokens"] = "until the context ends";
  json.update(to_json(params));
  return json;
}

std::size_t parse_bytes(const std::string& flag, const std::string& text) {
  double value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  double unit = 1;
  const std::string suffix(end, text.data() + text.size());
  if (suffix == "K" || suffix == "KiB")
    unit = 1024.0;
  else if (suffix == "M" || suffix == "MiB")
    unit = 1024.0 * 1024;
  else if (suffix == "G" || suffix == "GiB")
    unit = 1024.0 * 1024 * 1024;
  else if (!suffix.empty())
    unit = -1;
  const double bytes = value * unit;
  if (failure != std::errc() || unit < 0 || !(bytes > 0) || bytes > 1e15) {
    throw Error(ErrorKind::kUsage,
                fmt::format("{} takes bytes with an optional K, M or G, such as 512M; got '{}'",
                            flag, text));
  }
  return static_cast<std::size_t>(bytes);
}

}  // namespace llmrun
