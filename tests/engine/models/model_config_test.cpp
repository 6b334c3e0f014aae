#include "engine/models/model_config.h"

#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include "engine/core/error.h"
#include "engine/core/json.h"
#include "engine/models/model_registry.h"
#include "tests/support/temporary_folder.h"

namespace llmrun {
namespace {

using testing::TemporaryFolder;

// A small configuration with `changes` merged in; null removes a key.
nlohmann::json make_json(const std::string& changes = "{}") {
  nlohmann::json json = parse_json(R"({
    "architectures": ["LlamaForCausalLM"], "model_type": "llama",
    "hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 500,
    "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "rope_theta": 20000.0,
    "bos_token_id": 1, "eos_token_id": 2, "torch_dtype": "bfloat16"})",
                                   "test");
  json.merge_patch(parse_json(changes, "changes"));
  return json;
}

ModelConfig parse(const std::string& changes = "{}") {
  return parse_model_config(make_json(changes), "config.json");
}

// What parsing says after "config.json: "; "" when it succeeds.
std::string error_of(const std::string& changes) {
  try {
    parse(changes);
    return "";
  } catch (const Error& error) {
    CHECK(error.kind() == ErrorKind::kModel);
    const std::string message = error.what();
    REQUIRE(message.starts_with("config.json: "));
    return message.substr(13);
  }
}

TEST_CASE("a plain configuration") {
  const ModelConfig config = parse();
  CHECK(config.architecture == "LlamaForCausalLM");
  CHECK(config.hidden_size == 64);
  CHECK(config.intermediate_size == 176);
  CHECK(config.num_layers == 3);
  CHECK(config.num_query_heads == 4);
  CHECK(config.num_kv_heads == 2);
  CHECK(config.head_dim == 16);
  CHECK(config.q_size() == 64);
  CHECK(config.kv_size() == 32);
  CHECK(config.vocab_size == 500);
  CHECK(config.max_positions == 2048);
  CHECK(config.norm_eps == 1e-5);
  CHECK(config.rope.theta == 20000.0);
  CHECK(config.rope.scaling == RopeScaling::kNone);
  CHECK_FALSE(config.tie_word_embeddings);
  CHECK_FALSE(config.attention_bias);
  CHECK(config.sliding_windows == std::vector<std::int32_t>{0, 0, 0});
  CHECK(config.dtype == DType::kBf16);
  CHECK(config.bos_token_id == 1);
  CHECK(config.eos_token_ids == std::vector<TokenId>{2});
  CHECK(config.notes.empty());
}

TEST_CASE("what may be left out") {
  const ModelConfig config = parse(R"({"num_key_value_heads":null,"rms_norm_eps":null,
    "rope_theta":null,"bos_token_id":null,"eos_token_id":null,"torch_dtype":null})");
  CHECK(config.num_kv_heads == 4);
  CHECK(config.norm_eps == 1e-6);
  CHECK(config.rope.theta == 10000.0);
  CHECK_FALSE(config.bos_token_id.has_value());
  CHECK(config.eos_token_ids.empty());
  CHECK_FALSE(config.dtype.has_value());
}

TEST_CASE("odd but valid values") {
  CHECK(parse(R"({"head_dim":40})").head_dim == 40);
  CHECK(parse(R"({"hidden_size":66,"head_dim":16})").head_dim == 16);
  CHECK(parse(R"({"num_key_value_heads":1})").num_kv_heads == 1);
  CHECK(parse(R"({"tie_word_embeddings":true})").tie_word_embeddings);
  CHECK(parse(R"({"attention_bias":true})").attention_bias);
  CHECK(parse(R"({"eos_token_id":[2,499,0]})").eos_token_ids == std::vector<TokenId>{2, 499, 0});
  CHECK(parse(R"({"eos_token_id":[]})").eos_token_ids.empty());
  CHECK(parse(R"({"rope_theta":500000})").rope.theta == 500000.0);
  CHECK(parse(R"({"dtype":"float16"})").dtype == DType::kF16);
  CHECK(parse(R"({"torch_dtype":"torch.float32"})").dtype == DType::kF32);
  CHECK(parse(R"({"rms_norm_eps":0})").norm_eps == 0.0);
  CHECK(parse(R"({"hidden_act":"swish"})").hidden_size == 64);
  CHECK(
      parse(R"({"mlp_bias":false,"sliding_window":null,"pretraining_tp":2,"x":{}})").notes.empty());
  CHECK(parse(R"({"auto_map":{"AutoModelForCausalLM":"modeling_x.X"}})").notes ==
        std::vector<std::string>{"config.json: auto_map is ignored: code of a model is never run"});
}

TEST_CASE("values out of range name the key, the range and what was found") {
  for (const char* key :
       {"hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size",
        "num_attention_heads", "num_key_value_heads", "head_dim", "max_position_embeddings"}) {
    CAPTURE(key);
    for (const char* value : {"0", "-1", "1000000000000", "9223372036854775808", "1.5", "64.0",
                              "\"64\"", "true", "[64]", "{}"}) {
      CAPTURE(value);
      const std::string message = error_of(std::string("{\"") + key + "\":" + value + "}");
      CHECK(message.starts_with(std::string(key) + ": expected an integer from 1 to "));
    }
  }
  for (const char* key : {"hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size",
                          "num_attention_heads", "max_position_embeddings"}) {
    CAPTURE(key);
    CHECK(error_of(std::string("{\"") + key + "\":null}")
              .starts_with(std::string(key) + ": missing; expected an integer from 1 to "));
  }
  CHECK(error_of(R"({"num_hidden_layers":1000000000})") ==
        "num_hidden_layers: expected an integer from 1 to 4096, found 1000000000");
  CHECK(error_of(R"({"rope_theta":0})") == "rope_theta: expected a number above 0, found 0");
  CHECK(error_of(R"({"rope_theta":-1})").starts_with("rope_theta: expected a number from 0"));
  CHECK(
      error_of(R"({"rms_norm_eps":2})").starts_with("rms_norm_eps: expected a number from 0 to 1"));
  CHECK(error_of(R"({"rms_norm_eps":"1e-5"})").starts_with("rms_norm_eps: expected a number"));
  CHECK(error_of(R"({"tie_word_embeddings":1})") ==
        "tie_word_embeddings: expected true or false, found 1");
  CHECK(error_of(R"({"torch_dtype":"float64"})") ==
        "torch_dtype: expected float32, float16 or bfloat16, found \"float64\"");
  CHECK(error_of(R"({"dtype":"int8"})") ==
        "dtype: expected float32, float16 or bfloat16, found \"int8\"");
}

TEST_CASE("sizes that contradict each other") {
  CHECK(
      error_of(R"({"num_attention_heads":5,"num_key_value_heads":5})") ==
      "num_attention_heads: expected a divisor of hidden_size 64 (there is no head_dim), found 5");
  CHECK(error_of(R"({"num_key_value_heads":3})") ==
        "num_key_value_heads: expected a divisor of num_attention_heads 4, found 3");
  CHECK(error_of(R"({"num_key_value_heads":8})") ==
        "num_key_value_heads: expected a divisor of num_attention_heads 4, found 8");
  CHECK(error_of(R"({"head_dim":15})") ==
        "head_dim: expected an even head size up to 1024, found 15");
  CHECK(error_of(R"({"hidden_size":1048576})") ==
        "num_attention_heads: expected an even head size up to 1024, found 262144");
}

TEST_CASE("token ids lie in the vocabulary") {
  for (const char* value : {"500", "-1", "2147483648", "18446744073709551615", "\"</s>\"", "1.0"}) {
    CAPTURE(value);
    CHECK(error_of(std::string(R"({"eos_token_id":)") + value + "}") ==
          std::string("eos_token_id: expected a token id below vocab_size 500, found ") + value);
    CHECK(error_of(std::string(R"({"eos_token_id":[2,)") + value + "]}") ==
          std::string("eos_token_id: expected a token id below vocab_size 500, found ") + value);
    CHECK(error_of(std::string(R"({"bos_token_id":)") + value + "}") ==
          std::string("bos_token_id: expected a token id below vocab_size 500, found ") + value);
  }
}

TEST_CASE("what is not implemented is refused by name") {
  CHECK(error_of(R"({"hidden_act":"mish"})") ==
        "hidden_act: expected silu, relu, gelu, gelu_new or gelu_pytorch_tanh, found \"mish\"");
  CHECK(error_of(R"({"quantization_config":{"quant_method":"awq","bits":4}})")
            .starts_with("quantization_config: quantized checkpoints (\"awq\") are not supported"));
  CHECK(error_of(R"({"compression_config":{}})")
            .starts_with("compression_config: quantized checkpoints (\"unknown\")"));
}

TEST_CASE("the architecture") {
  const auto architecture = [](const std::string& changes) {
    return read_architecture(make_json(changes), "config.json");
  };
  CHECK(architecture("{}") == "LlamaForCausalLM");
  CHECK(architecture(R"({"architectures":["Qwen2ForCausalLM","X"]})") == "Qwen2ForCausalLM");
  CHECK(architecture(R"({"architectures":null})") == "LlamaForCausalLM");
  CHECK(architecture(R"({"architectures":[],"model_type":"mistral"})") == "MistralForCausalLM");
  CHECK(architecture(R"({"architectures":null,"model_type":"qwen2"})") == "Qwen2ForCausalLM");
  CHECK(architecture(R"({"architectures":null,"model_type":"mamba"})") == "mamba");
  CHECK_THROWS_WITH_AS(architecture(R"({"architectures":[1]})"),
                       "config.json: architectures: expected names, found 1", Error);
  CHECK_THROWS_WITH_AS(architecture(R"({"architectures":"Llama"})"),
                       "config.json: architectures: expected an array, found \"Llama\"", Error);
  CHECK_THROWS_WITH_AS(architecture(R"({"architectures":null,"model_type":null})"),
                       "config.json: model_type: missing; expected a string", Error);
  CHECK_THROWS_AS(read_architecture(nlohmann::json::array(), "config.json"), Error);
}

TEST_CASE("rotary scaling, old and new spelling") {
  const ModelConfig linear = parse(R"({"rope_scaling":{"type":"linear","factor":4.0}})");
  CHECK(linear.rope.scaling == RopeScaling::kLinear);
  CHECK(linear.rope.factor == 4.0);
  CHECK(linear.rope.theta == 20000.0);
  CHECK(linear.max_positions == 8192);

  const ModelConfig llama3 = parse(R"({"rope_scaling":{"rope_type":"llama3","factor":8,
    "low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":512}})");
  CHECK(llama3.rope.scaling == RopeScaling::kLlama3);
  CHECK(llama3.rope.factor == 8.0);
  CHECK(llama3.rope.original_max_positions == 512);
  CHECK(llama3.max_positions == 2048);

  const ModelConfig yarn = parse(R"({"rope_theta":null,"rope_parameters":{"rope_type":"yarn",
    "rope_theta":1000000,"factor":4,"original_max_position_embeddings":1024}})");
  CHECK(yarn.rope.scaling == RopeScaling::kYarn);
  CHECK(yarn.rope.theta == 1e6);
  CHECK(yarn.rope.attention_factor == doctest::Approx(0.1 * std::log(4.0) + 1.0));
  CHECK(yarn.max_positions == 4096);
  CHECK(parse(R"({"rope_scaling":{"type":"yarn","factor":4}})").max_positions == 8192);

  // Beside the object it wins over the one inside.
  CHECK(parse(R"({"original_max_position_embeddings":256,"rope_scaling":{"rope_type":"llama3",
    "factor":8,"original_max_position_embeddings":512}})")
            .rope.original_max_positions == 256);

  const ModelConfig dynamic = parse(R"({"rope_scaling":{"type":"dynamic","factor":2}})");
  CHECK(dynamic.rope.scaling == RopeScaling::kDynamic);
  CHECK(dynamic.rope.factor == 2.0);
  CHECK(dynamic.rope.original_max_positions == 2048);
  CHECK(dynamic.max_positions == 4096);
  CHECK(dynamic.notes.size() == 1);

  const ModelConfig longrope = parse(R"({"head_dim":4,"original_max_position_embeddings":512,
    "rope_scaling":{"type":"su","short_factor":[1,1.5],"long_factor":[2,3]}})");
  CHECK(longrope.rope.scaling == RopeScaling::kLongRope);
  CHECK(longrope.rope.short_factors == std::vector<double>{1.0, 1.5});
  CHECK(longrope.rope.long_factors == std::vector<double>{2.0, 3.0});
  CHECK(longrope.rope.attention_factor ==
        doctest::Approx(std::sqrt(1.0 + std::log(4.0) / std::log(512.0))));
  CHECK(longrope.max_positions == 2048);

  CHECK(parse(R"({"rope_parameters":{"rope_type":"default","rope_theta":7}})").rope.theta == 7.0);
  CHECK(parse(R"({"rope_scaling":{}})").rope.scaling == RopeScaling::kNone);
}

TEST_CASE("rotary scaling that cannot be") {
  const auto error = [](const std::string& scaling) {
    return error_of(R"({"rope_scaling":)" + scaling + "}");
  };
  CHECK(error(R"({"type":"ntk"})") ==
        "rope_scaling: type: expected default, linear, dynamic, llama3, yarn or longrope, found "
        "\"ntk\"");
  CHECK(error(R"({"rope_type":"longrope"})") ==
        "rope_scaling: short_factor: missing; expected an array");
  CHECK(error(R"({"rope_type":"su","short_factor":[1]})") ==
        "rope_scaling: short_factor: expected 8 numbers, half the rotated dimensions, found 1");
  CHECK(error(R"({"rope_type":"su","short_factor":[0]})") ==
        "rope_scaling: short_factor: expected numbers above 0, found 0");
  CHECK(error(R"({"type":"linear"})") ==
        "rope_scaling: factor: missing; expected a number from 1 to 1000000");
  for (const std::string factor : {"0", "-2", "0.5", "1e300", "\"4\""}) {
    CAPTURE(factor);
    CHECK(error(R"({"type":"linear","factor":)" + factor + "}")
              .starts_with("rope_scaling: factor: expected a number from 1 to 1000000, found "));
  }
  CHECK(error(R"({"rope_type":"llama3","factor":8,"low_freq_factor":4,"high_freq_factor":4})") ==
        "rope_scaling: high_freq_factor: expected a number above low_freq_factor 4, found 4");
  CHECK(error(R"({"rope_type":"llama3","factor":8,"low_freq_factor":0})") ==
        "rope_scaling: low_freq_factor: expected a number above 0, found 0");
  CHECK(error(R"({"type":"default","partial_rotary_factor":0.2})") ==
        "rope_scaling: partial_rotary_factor: expected an even number of rotated dimensions, found "
        "3 of 16");
  CHECK(parse(R"({"partial_rotary_factor":0.5})").rotary_size() == 8);
  CHECK(error("[1]") == "rope_scaling: expected an object, found an array");
}

TEST_CASE("sliding windows") {
  using Windows = std::vector<std::int32_t>;
  const std::string qwen2 = R"("architectures":["Qwen2ForCausalLM"],"sliding_window":100)";
  CHECK(parse("{" + qwen2 + "}").sliding_windows == Windows{0, 0, 0});
  CHECK(parse("{" + qwen2 + R"(,"use_sliding_window":false})").sliding_windows == Windows{0, 0, 0});
  CHECK(parse("{" + qwen2 + R"(,"use_sliding_window":true})").sliding_windows == Windows{0, 0, 0});
  CHECK(
      parse("{" + qwen2 + R"(,"use_sliding_window":true,"max_window_layers":2})").sliding_windows ==
      Windows{0, 0, 100});
  CHECK(parse("{" + qwen2 + R"(,"use_sliding_window":true,"max_window_layers":99})")
            .sliding_windows == Windows{0, 0, 0});
  CHECK(parse("{" + qwen2 + R"(,"use_sliding_window":true,"max_window_layers":0,
    "layer_types":["sliding_attention","full_attention","sliding_attention"]})")
            .sliding_windows == Windows{100, 0, 100});
  const std::string mistral = R"({"architectures":["MistralForCausalLM"],"sliding_window":)";
  CHECK(parse(mistral + "100}").sliding_windows == Windows{100, 100, 100});
  CHECK(parse(mistral + "null}").sliding_windows == Windows{0, 0, 0});
  CHECK(parse(R"({"sliding_window":100})").sliding_windows == Windows{0, 0, 0});  // Llama has none
  CHECK(error_of(mistral + "0}").starts_with("sliding_window: expected an integer from 1"));
  CHECK(error_of(mistral + R"(9,"layer_types":["full_attention"]})") ==
        "layer_types: expected 3 entries as num_hidden_layers, found 1");
  CHECK(error_of(mistral + R"(9,"layer_types":["full_attention","full_attention","x"]})") ==
        "layer_types: expected full_attention or sliding_attention, found \"x\"");
}

TEST_CASE("what other families call things, and what they leave out") {
  const auto parse_text = [](const std::string& text) {
    return parse_model_config(parse_json(text, "test"), "config.json");
  };
  const ModelConfig gpt2 = parse_text(R"({"architectures":["GPT2LMHeadModel"],"n_embd":24,
    "n_layer":2,"n_head":3,"n_positions":99,"vocab_size":50,"n_inner":null})");
  CHECK(gpt2.hidden_size == 24);
  CHECK(gpt2.intermediate_size == 96);
  CHECK(gpt2.max_positions == 99);
  CHECK(gpt2.activation == Activation::kGeluTanh);
  CHECK(gpt2.norm_eps == 1e-5);
  CHECK(gpt2.tie_word_embeddings);
  CHECK(gpt2.positions == PositionEncoding::kLearned);

  const std::string opt = R"("model_type":"opt","hidden_size":24,"ffn_dim":48,
    "num_hidden_layers":2,"num_attention_heads":3,"max_position_embeddings":99,"vocab_size":50)";
  CHECK(parse_text("{" + opt + "}").activation == Activation::kRelu);
  CHECK(parse_text("{" + opt + "}").attention_bias);
  CHECK_FALSE(parse_text("{" + opt + "}").norms_after_residual);
  CHECK(parse_text("{" + opt + "}").embedding_width() == 24);
  CHECK(parse_text("{" + opt + R"(,"do_layer_norm_before":false})").norms_after_residual);
  CHECK(parse_text("{" + opt + R"(,"word_embed_proj_dim":8})").embedding_width() == 8);
  CHECK_THROWS_WITH_AS(parse_text("{" + opt + R"(,"layer_norm_elementwise_affine":false})"),
                       "config.json: layer_norm_elementwise_affine: only true is supported", Error);

  // 13B has no max_position_embeddings: ALiBi.
  const std::string baichuan = R"("model_type":"baichuan","hidden_size":24,"intermediate_size":48,
    "num_hidden_layers":2,"num_attention_heads":3,"vocab_size":50,"model_max_length":77)";
  CHECK(parse_text("{" + baichuan + "}").positions == PositionEncoding::kAlibi);
  CHECK(parse_text("{" + baichuan + "}").max_positions == 77);
  CHECK(parse_text("{" + baichuan + R"(,"max_position_embeddings":66})").positions ==
        PositionEncoding::kRope);

  const std::string gemma2 = R"({"architectures":["Gemma2ForCausalLM"],"sliding_window":9)";
  CHECK(parse(gemma2 + "}").sliding_windows == std::vector<std::int32_t>{9, 0, 9});
  CHECK(parse(gemma2 + "}").attention_softcap == 50.0);
  CHECK(parse(gemma2 + R"(,"hidden_activation":"gelu"})").activation == Activation::kGelu);
  CHECK(parse(gemma2 + "}").attention_scale == 1.0 / 16.0);
  const nlohmann::json uncapped = [&] {
    nlohmann::json json = make_json(gemma2 + "}");
    json["attn_logit_softcapping"] = nullptr;
    return json;
  }();
  CHECK(parse_model_config(uncapped, "config.json").attention_softcap == 0.0);

  const std::string mixtral = R"({"architectures":["MixtralForCausalLM"],"num_local_experts":4)";
  CHECK(parse(mixtral + "}").num_experts == 4);
  CHECK(parse(mixtral + "}").num_experts_per_token == 2);
  CHECK(error_of(mixtral + R"(,"num_experts_per_tok":5})")
            .starts_with("num_experts_per_tok: expected an integer from 1 to 4"));
}

TEST_CASE("generation defaults") {
  const TemporaryFolder folder;
  CHECK_FALSE(read_generation_defaults(folder.path(), 500).temperature.has_value());
  CHECK(read_generation_defaults(folder.path(), 500).eos_token_ids.empty());
  folder.write("generation_config.json",
               R"({"do_sample":true,"temperature":0.7,"top_p":0.8,"top_k":20,"min_p":0,
                   "repetition_penalty":1.05,"max_new_tokens":99,"bos_token_id":1,
                   "eos_token_id":[2,3],"pad_token_id":0,"transformers_version":"4.37.0"})");
  const GenerationDefaults defaults = read_generation_defaults(folder.path(), 500);
  CHECK(defaults.do_sample == true);
  CHECK(defaults.temperature == 0.7);
  CHECK(defaults.top_p == 0.8);
  CHECK(defaults.top_k == 20);
  CHECK(defaults.min_p == 0.0);
  CHECK(defaults.repetition_penalty == 1.05);
  CHECK(defaults.max_new_tokens == 99);
  CHECK(defaults.bos_token_id == 1);
  CHECK(defaults.eos_token_ids == std::vector<TokenId>{2, 3});

  const std::string place = (folder.path() / "generation_config.json").string();
  const auto error = [&](const std::string& text) {
    folder.write("generation_config.json", text);
    try {
      read_generation_defaults(folder.path(), 500);
    } catch (const Error& problem) {
      CHECK(problem.kind() == ErrorKind::kModel);
      return std::string(problem.what()).substr(place.size() + 2);
    }
    return std::string();
  };
  CHECK(error(R"({"temperature":-1})") == "temperature: expected a number from 0 to 100, found -1");
  CHECK(error(R"({"top_p":"x"})").starts_with("top_p: expected a number"));
  CHECK(error(R"({"eos_token_id":500})") ==
        "eos_token_id: expected a token id below vocab_size 500, found 500");
  CHECK(error(R"({"top_k":1,"top_k":2})") == "duplicate key \"top_k\"");
}

}  // namespace
}  // namespace llmrun
