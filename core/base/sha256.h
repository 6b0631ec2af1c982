// SHA-256, streaming.
//
//   Sha256 hash;
//   hash.Update(chunk);  …
//   std::string hex = hash.HexDigest();   // 64 lower-case characters
#ifndef HALFTONE_CORE_BASE_SHA256_H_
#define HALFTONE_CORE_BASE_SHA256_H_

#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace halftone {

// Thread-compatible.
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  ~Sha256();

  void Update(absl::string_view bytes);
  void Update(absl::Span<const std::byte> bytes);
  // Ends the stream: neither Update nor HexDigest may follow.
  std::string HexDigest();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

// The digest of one piece.
std::string Sha256Hex(absl::string_view bytes);

// 64 lower-case hexadecimal characters.
bool IsSha256Hex(absl::string_view text);

}  // namespace halftone

#endif  // HALFTONE_CORE_BASE_SHA256_H_
