#include "client/wire_reader.h"

namespace halftone {
namespace {

bool TakeFixed(absl::string_view& bytes, size_t size, uint64_t& value) {
  if (bytes.size() < size) return false;
  value = 0;
  for (size_t i = 0; i < size; ++i) {
    value |= uint64_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
  }
  bytes.remove_prefix(size);
  return true;
}

}  // namespace

bool TakeVarint(absl::string_view& bytes, uint64_t& value) {
  value = 0;
  for (size_t i = 0; i < 10 && i < bytes.size(); ++i) {
    const uint8_t byte = static_cast<uint8_t>(bytes[i]);
    value |= uint64_t{byte & 0x7fu} << (7 * i);
    if ((byte & 0x80u) == 0) {
      bytes.remove_prefix(i + 1);
      return true;
    }
  }
  return false;
}

std::optional<WireField> WireReader::Fail() {
  ok_ = false;
  rest_ = {};
  return std::nullopt;
}

std::optional<WireField> WireReader::Next() {
  if (rest_.empty()) return std::nullopt;
  uint64_t tag = 0;
  if (!TakeVarint(rest_, tag)) return Fail();
  const uint64_t number = tag >> 3;
  if (number == 0 || number > 0x1fffffff) return Fail();
  WireField field{.number = static_cast<int>(number), .type = static_cast<WireType>(tag & 7)};
  switch (field.type) {
    case WireType::kVarint:
      return TakeVarint(rest_, field.value) ? std::optional(field) : Fail();
    case WireType::kFixed64:
      return TakeFixed(rest_, 8, field.value) ? std::optional(field) : Fail();
    case WireType::kFixed32:
      return TakeFixed(rest_, 4, field.value) ? std::optional(field) : Fail();
    case WireType::kBytes: {
      uint64_t size = 0;
      if (!TakeVarint(rest_, size) || size > rest_.size()) return Fail();
      field.bytes = rest_.substr(0, size);
      rest_.remove_prefix(size);
      return field;
    }
  }
  return Fail();  // groups, and what does not exist
}

void AppendVarint(std::string& out, uint64_t value) {
  while (value >= 0x80) {
    out.push_back(static_cast<char>(value | 0x80));
    value >>= 7;
  }
  out.push_back(static_cast<char>(value));
}

void AppendVarintField(std::string& out, int number, uint64_t value) {
  AppendVarint(out, static_cast<uint64_t>(number) << 3);
  AppendVarint(out, value);
}

void AppendBytesField(std::string& out, int number, absl::string_view bytes) {
  AppendVarint(out, static_cast<uint64_t>(number) << 3 | 2);
  AppendVarint(out, bytes.size());
  out.append(bytes.data(), bytes.size());
}

}  // namespace halftone
