// Changes serialized protobuf messages without knowing their schema: most results still parse.
//
//   WireMutator mutator(seed, words, MutateBytes);
//   std::string next = mutator.Mutate(message, max_size);
//
// A message is a tree of fields; a length-delimited field whose bytes read as fields is taken for
// a message. Equal seeds give equal results. Thread-compatible.
#ifndef HALFTONE_TESTS_FUZZ_WIRE_MUTATOR_H_
#define HALFTONE_TESTS_FUZZ_WIRE_MUTATOR_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace halftone {

struct WireField {
  enum class Kind : uint8_t { kVarint, kFixed64, kBytes, kMessage, kFixed32 };
  uint32_t number = 0;
  Kind kind = Kind::kVarint;
  uint64_t value = 0;               // of the numeric kinds
  std::string bytes;                // kBytes
  std::vector<WireField> children;  // kMessage
};

// False when `bytes` are no sequence of fields (groups, which nobody uses, included).
bool ParseWire(absl::string_view bytes, std::vector<WireField>& fields);
std::string SerializeWire(const std::vector<WireField>& fields);

class WireMutator {
 public:
  // `words` are strings worth trying in place of others; `mutate_bytes` changes opaque bytes.
  WireMutator(uint32_t seed, absl::Span<const std::string> words,
              std::function<void(std::string&)> mutate_bytes)
      : random_(seed), words_(words), mutate_bytes_(std::move(mutate_bytes)) {}

  // A few changes inside `message`. Returns "" when it is no message or the result is too long.
  std::string Mutate(absl::string_view message, size_t max_size);
  // Pieces of `donor` go into `message` where pieces of the same field number are.
  std::string CrossOver(absl::string_view message, absl::string_view donor, size_t max_size);

 private:
  using Fields = std::vector<WireField>;
  struct Place {
    Fields* list;
    size_t index;
    WireField& field() const { return (*list)[index]; }
  };

  size_t Below(size_t n) { return n == 0 ? 0 : random_() % n; }
  bool OneIn(size_t n) { return Below(n) == 0; }
  static void Collect(Fields& fields, std::vector<Place>& out);

  void ChangeTree(Fields& root);
  void Graft(const std::vector<Place>& places, const std::vector<Place>& donors);
  void ChangeValue(WireField& field, const std::vector<Place>& places);
  void ChangeBytes(std::string& bytes, const std::vector<Place>& places);
  uint64_t SomeNumber(uint64_t old);
  uint64_t SomeFloatBits(bool wide);

  std::mt19937 random_;
  absl::Span<const std::string> words_;
  std::function<void(std::string&)> mutate_bytes_;
};

}  // namespace halftone

#endif  // HALFTONE_TESTS_FUZZ_WIRE_MUTATOR_H_
