#include "engine/models/known_shapes.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <string_view>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "engine/core/error.h"

namespace llmrun {
namespace {

struct Shape {
  std::string_view name;
  std::string_view architecture;
  std::int32_t hidden_size;
  std::int32_t intermediate_size;
  std::int32_t num_layers;
  std::int32_t num_query_heads;
  std::int32_t num_kv_heads;
  std::int32_t head_dim;
  std::int32_t vocab_size;
  std::int64_t max_positions;
  double rms_norm_eps;
  double rope_theta;     // 0: no rotary embedding
  double llama3_factor;  // of the rope scaling; 0: none
  bool tie_word_embeddings;
  TokenId eos_token_id;
};

constexpr std::string_view kLlama = "LlamaForCausalLM";
constexpr std::string_view kMistral = "MistralForCausalLM";
constexpr std::string_view kQwen2 = "Qwen2ForCausalLM";
constexpr std::string_view kQwen3 = "Qwen3ForCausalLM";
constexpr std::string_view kOpt = "OPTForCausalLM";
constexpr std::string_view kBaichuan = "BaichuanForCausalLM";
constexpr std::string_view kGemma2 = "Gemma2ForCausalLM";
constexpr std::string_view kPhi3 = "Phi3ForCausalLM";
constexpr std::string_view kGpt2 = "GPT2LMHeadModel";
constexpr std::string_view kMixtral = "MixtralForCausalLM";
constexpr TokenId kQwenEos = 151645;
constexpr TokenId kLlama3Eos = 128009;

// From the config.json of the instruction-tuned models.
constexpr std::array kShapes = {
    // clang-format off
    //    name             architecture H     I      L   Hq  Hkv D    V       positions eps   theta factor tied   eos
    Shape{"qwen2-7b",      kQwen2,   3584, 18944, 28, 28,  4, 128, 152064,  32768, 1e-6, 1e6,  0, false, kQwenEos},
    Shape{"qwen2.5-0.5b",  kQwen2,    896,  4864, 24, 14,  2,  64, 151936,  32768, 1e-6, 1e6,  0, true,  kQwenEos},
    Shape{"qwen2.5-1.5b",  kQwen2,   1536,  8960, 28, 12,  2, 128, 151936,  32768, 1e-6, 1e6,  0, true,  kQwenEos},
    Shape{"qwen2.5-3b",    kQwen2,   2048, 11008, 36, 16,  2, 128, 151936,  32768, 1e-6, 1e6,  0, true,  kQwenEos},
    Shape{"qwen2.5-7b",    kQwen2,   3584, 18944, 28, 28,  4, 128, 152064,  32768, 1e-6, 1e6,  0, false, kQwenEos},
    Shape{"qwen2.5-14b",   kQwen2,   5120, 13824, 48, 40,  8, 128, 152064,  32768, 1e-6, 1e6,  0, false, kQwenEos},
    Shape{"qwen2.5-32b",   kQwen2,   5120, 27648, 64, 40,  8, 128, 152064,  32768, 1e-6, 1e6,  0, false, kQwenEos},
    Shape{"qwen2.5-72b",   kQwen2,   8192, 29568, 80, 64,  8, 128, 152064,  32768, 1e-6, 1e6,  0, false, kQwenEos},
    Shape{"llama-2-7b",    kLlama,   4096, 11008, 32, 32, 32, 128,  32000,   4096, 1e-5, 1e4,  0, false, 2},
    Shape{"llama-2-13b",   kLlama,   5120, 13824, 40, 40, 40, 128,  32000,   4096, 1e-5, 1e4,  0, false, 2},
    Shape{"llama-2-70b",   kLlama,   8192, 28672, 80, 64,  8, 128,  32000,   4096, 1e-5, 1e4,  0, false, 2},
    Shape{"llama-3-8b",    kLlama,   4096, 14336, 32, 32,  8, 128, 128256,   8192, 1e-5, 5e5,  0, false, kLlama3Eos},
    Shape{"llama-3-70b",   kLlama,   8192, 28672, 80, 64,  8, 128, 128256,   8192, 1e-5, 5e5,  0, false, kLlama3Eos},
    Shape{"llama-3.1-8b",  kLlama,   4096, 14336, 32, 32,  8, 128, 128256, 131072, 1e-5, 5e5,  8, false, kLlama3Eos},
    Shape{"llama-3.1-70b", kLlama,   8192, 28672, 80, 64,  8, 128, 128256, 131072, 1e-5, 5e5,  8, false, kLlama3Eos},
    Shape{"llama-3.2-1b",  kLlama,   2048,  8192, 16, 32,  8,  64, 128256, 131072, 1e-5, 5e5, 32, true,  kLlama3Eos},
    Shape{"llama-3.2-3b",  kLlama,   3072,  8192, 28, 24,  8, 128, 128256, 131072, 1e-5, 5e5, 32, true,  kLlama3Eos},
    Shape{"mistral-7b",    kMistral, 4096, 14336, 32, 32,  8, 128,  32768,  32768, 1e-5, 1e6,  0, false, 2},
    Shape{"mixtral-8x7b",  kMixtral, 4096, 14336, 32, 32,  8, 128,  32000,  32768, 1e-5, 1e6,  0, false, 2},
    Shape{"qwen3-0.6b",    kQwen3,   1024,  3072, 28, 16,  8, 128, 151936,  40960, 1e-6, 1e6,  0, true,  kQwenEos},
    Shape{"qwen3-4b",      kQwen3,   2560,  9728, 36, 32,  8, 128, 151936,  40960, 1e-6, 1e6,  0, true,  kQwenEos},
    Shape{"qwen3-8b",      kQwen3,   4096, 12288, 36, 32,  8, 128, 151936,  40960, 1e-6, 1e6,  0, false, kQwenEos},
    Shape{"qwen3-14b",     kQwen3,   5120, 17408, 40, 40,  8, 128, 151936,  40960, 1e-6, 1e6,  0, false, kQwenEos},
    Shape{"qwen3-32b",     kQwen3,   5120, 25600, 64, 64,  8, 128, 151936,  40960, 1e-6, 1e6,  0, false, kQwenEos},
    Shape{"opt-125m",      kOpt,      768,  3072, 12, 12, 12,  64,  50272,   2048, 1e-5, 0,    0, true,  2},
    Shape{"opt-350m",      kOpt,     1024,  4096, 24, 16, 16,  64,  50272,   2048, 1e-5, 0,    0, true,  2},
    Shape{"opt-1.3b",      kOpt,     2048,  8192, 24, 32, 32,  64,  50272,   2048, 1e-5, 0,    0, true,  2},
    Shape{"opt-6.7b",      kOpt,     4096, 16384, 32, 32, 32, 128,  50272,   2048, 1e-5, 0,    0, true,  2},
    Shape{"opt-13b",       kOpt,     5120, 20480, 40, 40, 40, 128,  50272,   2048, 1e-5, 0,    0, true,  2},
    Shape{"baichuan2-7b",  kBaichuan, 4096, 11008, 32, 32, 32, 128, 125696,  4096, 1e-6, 1e4,  0, false, 2},
    Shape{"baichuan2-13b", kBaichuan, 5120, 13696, 40, 40, 40, 128, 125696,  4096, 1e-6, 0,    0, false, 2},
    Shape{"gemma-2-2b",    kGemma2,  2304,  9216, 26,  8,  4, 256, 256000,   8192, 1e-6, 1e4,  0, true,  1},
    Shape{"gemma-2-9b",    kGemma2,  3584, 14336, 42, 16,  8, 256, 256000,   8192, 1e-6, 1e4,  0, true,  1},
    Shape{"gemma-2-27b",   kGemma2,  4608, 36864, 46, 32, 16, 128, 256000,   8192, 1e-6, 1e4,  0, true,  1},
    Shape{"phi-3-mini",    kPhi3,    3072,  8192, 32, 32, 32,  96,  32064,   4096, 1e-5, 1e4,  0, false, 32000},
    Shape{"gpt2",          kGpt2,     768,  3072, 12, 12, 12,  64,  50257,   1024, 1e-5, 0,    0, true,  50256},
    Shape{"vicuna-7b",     kLlama,   4096, 11008, 32, 32, 32, 128,  32000,   4096, 1e-5, 1e4,  0, false, 2},
    Shape{"vicuna-13b",    kLlama,   5120, 13824, 40, 40, 40, 128,  32000,   4096, 1e-5, 1e4,  0, false, 2},
    Shape{"chinese-alpaca-2-7b", kLlama, 4096, 11008, 32, 32, 32, 128, 55296, 4096, 1e-5, 1e4, 0, false, 2},
    Shape{"deepseekmath-7b", kLlama, 4096, 11008, 30, 32, 32, 128, 102400,   4096, 1e-6, 1e4,  0, false, 100001},
    Shape{"tinyllama-1.1b", kLlama,  2048,  5632, 22, 32,  4,  64,  32000,   2048, 1e-5, 1e4,  0, false, 2},
    Shape{"tiny",          kLlama,     64,   176,  2,  4,  2,  16,    512,   2048, 1e-5, 1e4,  0, true,  2},
    // clang-format on
};

// What the other columns leave open: the published configurations of each architecture.
void complete(const Shape& shape, ModelConfig& config) {
  if (shape.architecture == kOpt) {
    config.positions = PositionEncoding::kLearned;
    config.activation = Activation::kRelu;
    config.attention_bias = true;
    if (shape.name == "opt-350m") {
      config.norms_after_residual = true;
      config.embedding_size = 512;
    }
  } else if (shape.architecture == kGpt2) {
    config.positions = PositionEncoding::kLearned;
    config.activation = Activation::kGeluTanh;
  } else if (shape.architecture == kBaichuan && shape.rope_theta == 0) {
    config.positions = PositionEncoding::kAlibi;
  } else if (shape.architecture == kGemma2) {
    config.activation = Activation::kGeluTanh;
    config.embedding_scale = std::sqrt(shape.hidden_size);
    config.attention_scale = 1.0 / std::sqrt(shape.name == "gemma-2-27b" ? 144.0 : 256.0);
    config.attention_softcap = 50.0;
    config.logits_softcap = 30.0;
    for (std::size_t layer = 0; layer < config.sliding_windows.size(); layer += 2) {
      config.sliding_windows[layer] = 4096;
    }
  } else if (shape.architecture == kPhi3) {
    config.sliding_windows.assign(config.sliding_windows.size(), 2047);
  } else if (shape.architecture == kMixtral) {
    config.num_experts = 8;
    config.num_experts_per_token = 2;
  }
}

std::string to_lower(std::string text) {
  for (char& c : text) {
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  }
  return text;
}

}  // namespace

std::vector<std::string> known_shape_names() {
  std::vector<std::string> names;
  names.reserve(std::size(kShapes));
  for (const Shape& shape : kShapes) names.emplace_back(shape.name);
  return names;
}

ModelConfig known_shape(const std::string& name) {
  const auto it = std::find_if(kShapes.begin(), kShapes.end(),
                               [&](const Shape& shape) { return shape.name == to_lower(name); });
  if (it == kShapes.end()) {
    throw Error(ErrorKind::kUsage, fmt::format("shape:{}: unknown; known shapes are {}", name,
                                               fmt::join(known_shape_names(), ", ")));
  }
  ModelConfig config;
  config.architecture = std::string(it->architecture);
  config.hidden_size = it->hidden_size;
  config.intermediate_size = it->intermediate_size;
  config.num_layers = it->num_layers;
  config.num_query_heads = it->num_query_heads;
  config.num_kv_heads = it->num_kv_heads;
  config.head_dim = it->head_dim;
  config.vocab_size = it->vocab_size;
  config.max_positions = it->max_positions;
  config.norm_eps = it->rms_norm_eps;
  if (it->rope_theta > 0) config.rope.theta = it->rope_theta;
  if (it->llama3_factor > 0) {
    config.rope.scaling = RopeScaling::kLlama3;
    config.rope.factor = it->llama3_factor;
    config.rope.original_max_positions = 8192;
  }
  config.tie_word_embeddings = it->tie_word_embeddings;
  config.sliding_windows.assign(static_cast<std::size_t>(it->num_layers), 0);
  config.dtype = DType::kBf16;
  config.eos_token_ids = {it->eos_token_id};
  complete(*it, config);
  return config;
}

}  // namespace llmrun
