#include "engine/core/sha256.h"

#include <algorithm>

#include <doctest/doctest.h>

namespace llmrun {
namespace {

// Vectors of FIPS 180-4's example file and of NIST's CAVP SHA256ShortMsg.
TEST_CASE("published digests") {
  const auto hex = [](std::string_view text) { return to_hex(sha256(text)); };
  CHECK(hex("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(hex("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(hex("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmnoijklmnopjklmnopqklmn"
            "opqrlmnopqrsmnopqrstnopqrstu") ==
        "cf5b16a778af8380036ce59e7b0492370b249b11e8f07a51afac45037afee9d1");
  CHECK(hex(std::string_view("\xbd", 1)) ==
        "68325720aabd7c82f30f554b313d0570c95accbb7dc4b5aae11204c08ffe732b");
  CHECK(hex(std::string(1'000'000, 'a')) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("lengths around the block border") {
  // Digests of N zero bytes, by coreutils' sha256sum.
  CHECK(to_hex(sha256(std::string(55, '\0'))) ==
        "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7");
  CHECK(to_hex(sha256(std::string(56, '\0'))) ==
        "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb");
  CHECK(to_hex(sha256(std::string(63, '\0'))) ==
        "c7723fa1e0127975e49e62e753db53924c1bd84b8ac1ac08df78d09270f3d971");
  CHECK(to_hex(sha256(std::string(64, '\0'))) ==
        "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b");
}

TEST_CASE("pieces of any size give the digest of the whole") {
  std::string text(1000, '\0');
  for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>(i * 37 + 11);
  const Sha256Digest whole = sha256(text);
  for (std::size_t piece = 1; piece <= 200; ++piece) {
    Sha256 hash;
    for (std::size_t i = 0; i < text.size(); i += piece) {
      hash.update(std::string_view(text).substr(i, piece));
    }
    CHECK(hash.finish() == whole);
  }
}

}  // namespace
}  // namespace llmrun
