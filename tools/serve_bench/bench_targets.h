// What is measured: the own engine, in this process or behind its own server, or a server
// elsewhere.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <boost/asio/io_context.hpp>
#include <nlohmann/json.hpp>

#include "engine/tokenizer/tokenizer.h"
#include "tools/progress.h"
#include "tools/report/run_timeline.h"
#include "tools/serve_bench/bench_target.h"
#include "tools/serve_bench/http_target.h"
#include "tools/serve_bench/serve_bench.h"
#include "tools/signals.h"
#include "tools/workload/workload.h"

namespace llmrun {

// For a report.
struct TargetDescription {
  std::string device;  // of the own engine; empty: a server elsewhere
  std::string model;
  std::string tokenizer;
  std::string endpoint;           // URL, or "in process"
  std::string backend;            // vLLM's key: "llmrun", "openai", "openai-chat"
  double load_s = 0;              // of the own engine
  nlohmann::ordered_json engine;  // its flags; null: a server elsewhere
};

class BenchTargets {
 public:
  // Loads the engine, whose steps are watched from then on, or finds the server. All but `modes`
  // must outlive this object. Throws Error, also when a signal comes before the server has
  // answered.
  BenchTargets(boost::asio::io_context& context, const ServeBenchOptions& options,
               const std::vector<std::string>& modes, Progress& progress,
               const SignalWatcher& signals);
  ~BenchTargets();

  // One a mode, in their order.
  BenchTarget& target(std::size_t mode) { return *targets_[mode]; }
  std::size_t num_targets() const { return targets_.size(); }
  bool is_own_engine() const { return own_ != nullptr; }
  // Sequences that the own engine runs at once; of a server elsewhere 1.
  std::int64_t num_sequences() const;
  // Share of the own engine's KV cache in use.
  double kv_usage() const;
  // Sequences in each decode step of the own engine since this was last asked; of a server
  // elsewhere nothing is known.
  std::vector<SizeBin> take_decode_batches();
  const WorkloadModel& workload_model() const { return model_; }
  const TargetDescription& description() const { return description_; }

 private:
  struct OwnEngine;

  void load_engine(const SignalWatcher& signals);
  void find_server(const SignalWatcher& signals);
  void load_tokenizer(const EngineConfig& config);
  void make_targets(const std::vector<std::string>& modes);
  void serve_own_engine();

  boost::asio::io_context& context_;
  const ServeBenchOptions& options_;
  Progress& progress_;
  std::unique_ptr<OwnEngine> own_;  // null: a server elsewhere
  std::shared_ptr<Tokenizer> tokenizer_;
  WorkloadModel model_;
  HttpTargetOptions http_;
  std::vector<std::unique_ptr<BenchTarget>> targets_;
  TargetDescription description_;
};

}  // namespace llmrun
