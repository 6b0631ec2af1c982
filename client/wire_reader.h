// Reads the fields of a serialized protocol buffer without its schema. ONNX files are read this
// way, so that the client needs no ONNX library for a tensor or the list of a model's files.
//
//   WireReader reader(bytes);
//   while (std::optional<WireField> field = reader.Next()) { … field->number … }
//   if (!reader.ok()) …                                  // truncated or not a protocol buffer
//
// Thread-compatible; borrows the bytes.
#ifndef HALFTONE_CLIENT_WIRE_READER_H_
#define HALFTONE_CLIENT_WIRE_READER_H_

#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/string_view.h"

namespace halftone {

enum class WireType : uint8_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

struct WireField {
  int number = 0;
  WireType type = WireType::kVarint;
  uint64_t value = 0;       // of kVarint, kFixed64 and kFixed32
  absl::string_view bytes;  // of kBytes; a view into what is read
};

class WireReader {
 public:
  explicit WireReader(absl::string_view bytes) : rest_(bytes) {}

  // nullopt at the end, and for good once the bytes make no sense.
  std::optional<WireField> Next();
  bool ok() const { return ok_; }

 private:
  std::optional<WireField> Fail();

  absl::string_view rest_;
  bool ok_ = true;
};

// Takes a variable-length number from the front of `bytes`; false when there is none.
bool TakeVarint(absl::string_view& bytes, uint64_t& value);

// The opposite direction.
void AppendVarint(std::string& out, uint64_t value);
void AppendVarintField(std::string& out, int number, uint64_t value);
void AppendBytesField(std::string& out, int number, absl::string_view bytes);

}  // namespace halftone

#endif  // HALFTONE_CLIENT_WIRE_READER_H_
