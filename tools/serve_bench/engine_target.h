// The engine in this process as a target: what is measured is the engine, without HTTP.
#pragma once

#include "engine/async_engine.h"
#include "tools/serve_bench/bench_target.h"

namespace llmrun {

class EngineTarget : public BenchTarget {
 public:
  // `engine` must outlive this object.
  EngineTarget(AsyncEngine& engine, const SamplingParams& sampling, bool keep_text)
      : engine_(engine), sampling_(sampling), keep_text_(keep_text) {}

  void send(std::size_t index, const BenchRequest& request, BenchListener& listener) override;
  void abort_all() override { engine_.abort_all(); }

 private:
  AsyncEngine& engine_;
  SamplingParams sampling_;
  bool keep_text_;
};

}  // namespace llmrun
