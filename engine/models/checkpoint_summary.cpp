#include "engine/models/checkpoint_summary.h"

#include <memory>

#include "engine/models/architectures.h"
#include "engine/models/causal_lm.h"
#include "engine/models/weight_loader.h"
#include "engine/weights/checkpoint.h"

namespace llmrun {
namespace {

// Notes which tensors a model asks for; gives null weights. A model made with it must not be run.
class NamingWeightLoader final : public WeightLoader {
 public:
  NamingWeightLoader(Checkpoint& checkpoint, std::vector<std::string>& missing)
      : checkpoint_(checkpoint), missing_(missing) {}

  std::unique_ptr<LinearWeight> linear(const LinearSpec& spec) override {
    for (const LinearSpec::Part& part : spec.parts) {
      use(part.name + ".weight");
      if (spec.has_bias) use(part.name + ".bias");
    }
    return nullptr;
  }
  std::unique_ptr<LinearWeight> gate_up(const LinearSpec& spec) override { return linear(spec); }
  DeviceTensor vector(const std::string& name, std::int64_t /*size*/, float /*added*/) override {
    use(name);
    return {};
  }
  DeviceTensor constant(Tensor /*host*/) override { return {}; }
  bool contains(const std::string& name) const override { return checkpoint_.contains(name); }
  void ignore(const std::string& name) override { checkpoint_.ignore(name); }

 private:
  void use(const std::string& name) {
    if (!checkpoint_.contains(name)) missing_.push_back(name);
    checkpoint_.ignore(name);
  }

  Checkpoint& checkpoint_;
  std::vector<std::string>& missing_;
};

}  // namespace

CheckpointSummary summarize_checkpoint(const ModelLocation& location, const ModelConfig& config,
                                       bool allow_symlinks) {
  Checkpoint checkpoint(location.folder, {.allow_symlinks = allow_symlinks});
  CheckpointSummary summary;
  NamingWeightLoader weights(checkpoint, summary.missing);
  maker_of(config)(config, weights, 1);
  summary.dtype = checkpoint.main_dtype();
  summary.num_bytes = checkpoint.num_bytes();
  summary.unused = checkpoint.unused_names();
  summary.notes = checkpoint.notes();
  return summary;
}

}  // namespace llmrun
