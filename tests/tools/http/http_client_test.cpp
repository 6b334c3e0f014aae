#include "tools/http/http_client.h"

#include <atomic>
#include <chrono>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/streambuf.hpp>
#include <boost/asio/write.hpp>
#include <doctest/doctest.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "engine/core/error.h"
#include "tests/support/temporary_folder.h"
#include "tools/serve_bench/loopback_server.h"

namespace llmrun {
namespace {

namespace asio = boost::asio;
using tcp = asio::ip::tcp;
using testing::TemporaryFolder;

// A key and a certificate that it signed itself, for the address 127.0.0.1, as PEM files.
struct Certificate {
  explicit Certificate(const TemporaryFolder& folder)
      : certificate_file((folder.path() / "certificate.pem").string()),
        key_file((folder.path() / "key.pem").string()) {
    const std::unique_ptr<EVP_PKEY, decltype(&EVP_PKEY_free)> key(EVP_EC_gen("P-256"),
                                                                  EVP_PKEY_free);
    REQUIRE(key != nullptr);
    const std::unique_ptr<X509, decltype(&X509_free)> certificate(X509_new(), X509_free);
    X509_set_version(certificate.get(), X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3600);
    X509_set_pubkey(certificate.get(), key.get());
    X509_NAME* name = X509_get_subject_name(certificate.get());
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                               reinterpret_cast<const unsigned char*>("llmrun test"), -1, -1, 0);
    X509_set_issuer_name(certificate.get(), name);
    X509_EXTENSION* address =
        X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "IP:127.0.0.1");
    REQUIRE(address != nullptr);
    X509_add_ext(certificate.get(), address, -1);
    X509_EXTENSION_free(address);
    REQUIRE(X509_sign(certificate.get(), key.get(), EVP_sha256()) > 0);
    const auto write = [](const std::string& path, const auto& put) {
      const std::unique_ptr<BIO, decltype(&BIO_free)> file(BIO_new_file(path.c_str(), "w"),
                                                           BIO_free);
      REQUIRE(file != nullptr);
      REQUIRE(put(file.get()) == 1);
    };
    write(certificate_file, [&](BIO* file) { return PEM_write_bio_X509(file, certificate.get()); });
    write(key_file, [&](BIO* file) {
      return PEM_write_bio_PrivateKey(file, key.get(), nullptr, nullptr, 0, nullptr, nullptr);
    });
  }
  std::string certificate_file;
  std::string key_file;
};

// Answers one request on each of `num_connections` over TLS, or fails at a handshake that the
// client breaks off.
class TlsServer {
 public:
  TlsServer(const Certificate& certificate, int num_connections)
      : tls_(asio::ssl::context::tls_server),
        acceptor_(context_, {asio::ip::address_v4::loopback(), 0}) {
    tls_.use_certificate_file(certificate.certificate_file, asio::ssl::context::pem);
    tls_.use_private_key_file(certificate.key_file, asio::ssl::context::pem);
    thread_ = std::thread([this, num_connections] {
      for (int i = 0; i < num_connections && !ends_; ++i) serve();
    });
  }
  ~TlsServer() {
    ends_ = true;
    boost::system::error_code ignored;
    tcp::socket(context_).connect(acceptor_.local_endpoint(), ignored);  // ends an accept
    thread_.join();
  }

  HttpUrl url(const std::string& host = "127.0.0.1") const {
    return {.scheme = "https",
            .host = host,
            .port = std::to_string(acceptor_.local_endpoint().port()),
            .path = ""};
  }

 private:
  void serve() {
    asio::ssl::stream<tcp::socket> stream(acceptor_.accept(), tls_);
    if (ends_) return;
    boost::system::error_code error;
    stream.handshake(asio::ssl::stream_base::server, error);
    if (error) return;
    asio::streambuf input;
    asio::read_until(stream, input, "\r\n\r\n", error);
    if (error) return;
    asio::write(stream,
                asio::buffer(std::string("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n"
                                         "Connection: close\r\n\r\nsecret")),
                error);
  }

  std::atomic<bool> ends_ = false;
  asio::io_context context_;
  asio::ssl::context tls_;
  tcp::acceptor acceptor_;
  std::thread thread_;
};

std::string fetch(const HttpUrl& url, const HttpClient::Options& options) {
  try {
    return http_fetch(url, {.target = "/"}, options).body;
  } catch (const Error& error) {
    return error.what();
  }
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("HTTPS: a certificate is verified, by the authorities that are named") {
  const TemporaryFolder folder;
  const Certificate certificate(folder);
  const TlsServer server(certificate, 3);
  const std::string refused = fetch(server.url(), {});
  CHECK(contains(refused, "is not trusted (self-signed certificate"));
  CHECK(contains(refused, "--ca-file"));
  CHECK(contains(refused, "--insecure"));
  CHECK(fetch(server.url(), {.ca_file = certificate.certificate_file}) == "secret");
  CHECK(fetch(server.url(), {.verify_certificate = false}) == "secret");
}

TEST_CASE("HTTPS: a certificate of another host is refused") {
  const TemporaryFolder folder;
  const Certificate certificate(folder);
  const TlsServer server(certificate, 1);
  const std::string refused =
      fetch(server.url("localhost"), {.ca_file = certificate.certificate_file});
  CHECK(contains(refused, "is not trusted"));
}

TEST_CASE("HTTPS: a file that holds no certificates, and a server that speaks no TLS") {
  const TemporaryFolder folder;
  const auto path = folder.write("ca.pem", "no certificate").string();
  HttpUrl url{.scheme = "https", .host = "127.0.0.1", .port = "1", .path = ""};
  CHECK(contains(fetch(url, {.ca_file = path}), "--ca-file " + path));
  CHECK(contains(fetch(url, {.ca_file = "/nowhere.pem"}), "--ca-file /nowhere.pem"));
  LoopbackServer plain([](std::string_view, std::string_view) { return std::string(); });
  url.port = plain.url().port;
  HttpClient::Options options;
  options.connect_timeout = options.timeout = std::chrono::milliseconds(500);
  CHECK(contains(fetch(url, options), "https://127.0.0.1"));
}

// Keeps how each exchange ended.
class Ending : public HttpResponseHandler {
 public:
  void on_head(const HttpClientResponseHead&) override {}
  void on_data(std::string_view, std::chrono::steady_clock::time_point) override {}
  void on_end(HttpFailure why, const std::string&) override {
    failure = why;
    ++count;
  }
  HttpFailure failure = HttpFailure::kNone;
  int count = 0;
};

TEST_CASE("HTTP: what is under way can be given up, and the client goes on") {
  LoopbackServer server([](std::string_view head, std::string_view) -> std::string {
    if (contains(std::string(head), "/quick"))
      return "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    return "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n";  // and nothing more
  });
  asio::io_context context(1);
  HttpClient client(context, server.url(), {});
  std::vector<std::shared_ptr<Ending>> endings;
  for (int i = 0; i < 100; ++i) {
    endings.push_back(std::make_shared<Ending>());
    client.send({.target = "/slow"}, endings.back());
  }
  for (int i = 0; i < 50; ++i) context.run_one();
  client.cancel_all();
  context.run();
  for (const auto& ending : endings) {
    CHECK(ending->failure == HttpFailure::kDisconnected);
    CHECK(ending->count == 1);
  }
  const auto quick = std::make_shared<Ending>();
  context.restart();
  client.send({.target = "/quick"}, quick);
  context.run();
  CHECK(quick->failure == HttpFailure::kNone);
  CHECK(quick->count == 1);
}

}  // namespace
}  // namespace llmrun
