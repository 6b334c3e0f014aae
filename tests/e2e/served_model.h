// A running `llmrun serve` of the demo model on a free port.
#pragma once

#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include <doctest/doctest.h>

#include "tests/support/child_process.h"
#include "tests/support/temporary_folder.h"

namespace llmrun::testing {

class ServedModel {
 public:
  // Waits until it listens. Its output goes to `folder`/server.
  ServedModel(const TemporaryFolder& folder, const std::vector<std::string>& arguments)
      : folder_(folder.path() / "server"), child_(start(folder_, arguments)) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::minutes(5);
    while (url_.empty() && !child_.has_ended() && std::chrono::steady_clock::now() < end) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      const std::string log = child_.standard_error() + child_.standard_output();
      const std::size_t at = log.find("http://127.0.0.1:");
      const std::size_t end_of_url =
          at == std::string::npos ? at : log.find_first_not_of("0123456789", at + 17);
      if (end_of_url != std::string::npos) url_ = log.substr(at, end_of_url - at);
    }
    REQUIRE(!url_.empty());
  }

  const std::string& url() const { return url_; }
  ChildProcess& process() { return child_; }

 private:
  static ChildProcess start(const std::filesystem::path& folder,
                            const std::vector<std::string>& arguments) {
    std::filesystem::create_directory(folder);
    std::vector<std::string> command = {LLMRUN_BINARY_DIR "/llmrun",
                                        "serve",
                                        "--model",
                                        LLMRUN_SOURCE_DIR "/datasets/demo/model",
                                        "--served-model-name",
                                        "demo",
                                        "--dtype",
                                        "float32",
                                        "--device",
                                        "cpu",
                                        "--port",
                                        "0"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return ChildProcess(command, folder);
  }

  std::filesystem::path folder_;
  ChildProcess child_;
  std::string url_;
};

}  // namespace llmrun::testing
