// `llmrun serve` over an engine that hangs in a step: it stops when it is to.
#include <string>

#include "tests/e2e/served_model.h"
#include "tests/tools/serve/test_server.h"

namespace llmrun {
namespace {

TEST_CASE("R14: two signals end a server whose step never ends") {
  const testing::TemporaryFolder folder;
  testing::ServedModel server(folder, {"--null-engine", "1000000"});
  const std::string& url = server.url();
  const auto port = static_cast<std::uint16_t>(std::stoi(url.substr(url.rfind(':') + 1)));
  testing::Client client(port);
  client.send(testing::post("/v1/completions", testing::completion(1, 5, false)));
  REQUIRE(testing::eventually([&] {  // the step is under way
    const std::string health = testing::ask(port, testing::get("/health"));
    return health.find(R"("last_step_age_s":0.0})") == std::string::npos;
  }));
  server.process().signal(SIGTERM);
  while (server.process().standard_error().find("draining") == std::string::npos) {
    REQUIRE_FALSE(server.process().has_ended());
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  server.process().signal(SIGTERM);
  REQUIRE(testing::eventually([&] { return server.process().has_ended(); }));
  CHECK(server.process().wait() == 143);
  CHECK(server.process().standard_error().find("ended by force") != std::string::npos);
}

}  // namespace
}  // namespace llmrun
