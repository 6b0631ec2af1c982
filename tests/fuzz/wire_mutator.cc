#include "tests/fuzz/wire_mutator.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

namespace halftone {
namespace {

using Kind = WireField::Kind;

// Deeper messages stay bytes.
constexpr int kMaxDepth = 40;
constexpr size_t kShort = 48;  // a name rather than data

bool ReadVarint(absl::string_view& in, uint64_t& value) {
  value = 0;
  for (int shift = 0; shift < 64 && !in.empty(); shift += 7) {
    const auto byte = static_cast<uint8_t>(in.front());
    in.remove_prefix(1);
    value |= uint64_t{byte & 0x7fu} << shift;
    if (byte < 0x80) return true;
  }
  return false;
}

void WriteVarint(uint64_t value, std::string& out) {
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  out += static_cast<char>(value);
}

bool ReadFixed(absl::string_view& in, size_t size, uint64_t& value) {
  if (in.size() < size) return false;
  value = 0;
  std::memcpy(&value, in.data(), size);
  in.remove_prefix(size);
  return true;
}

bool ParseFields(absl::string_view in, int depth, std::vector<WireField>& fields);

bool ReadBytes(absl::string_view& in, int depth, WireField& field) {
  uint64_t size = 0;
  if (!ReadVarint(in, size) || size > in.size()) return false;
  const absl::string_view bytes = in.substr(0, size);
  in.remove_prefix(size);
  if (size >= 2 && depth < kMaxDepth && ParseFields(bytes, depth + 1, field.children)) {
    field.kind = Kind::kMessage;
    return true;
  }
  field.kind = Kind::kBytes;
  field.children.clear();
  field.bytes = std::string(bytes);
  return true;
}

bool ParseFields(absl::string_view in, int depth, std::vector<WireField>& fields) {
  while (!in.empty()) {
    uint64_t tag = 0;
    if (!ReadVarint(in, tag) || tag < 8 || tag > std::numeric_limits<uint32_t>::max()) return false;
    WireField field;
    field.number = static_cast<uint32_t>(tag >> 3);
    bool good = false;
    switch (tag & 7) {
      case 0:
        field.kind = Kind::kVarint;
        good = ReadVarint(in, field.value);
        break;
      case 1:
        field.kind = Kind::kFixed64;
        good = ReadFixed(in, 8, field.value);
        break;
      case 2:
        good = ReadBytes(in, depth, field);
        break;
      case 5:
        field.kind = Kind::kFixed32;
        good = ReadFixed(in, 4, field.value);
        break;
      default:
        break;
    }
    if (!good) return false;
    fields.push_back(std::move(field));
  }
  return true;
}

}  // namespace

bool ParseWire(absl::string_view bytes, std::vector<WireField>& fields) {
  return ParseFields(bytes, 0, fields);
}

std::string SerializeWire(const std::vector<WireField>& fields) {
  std::string out;
  for (const WireField& f : fields) {
    const uint64_t tag = uint64_t{f.number} << 3;
    switch (f.kind) {
      case Kind::kVarint:
        WriteVarint(tag, out);
        WriteVarint(f.value, out);
        break;
      case Kind::kFixed64:
        WriteVarint(tag | 1, out);
        out.append(reinterpret_cast<const char*>(&f.value), 8);
        break;
      case Kind::kFixed32:
        WriteVarint(tag | 5, out);
        out.append(reinterpret_cast<const char*>(&f.value), 4);
        break;
      case Kind::kBytes:
      case Kind::kMessage: {
        const std::string inner = f.kind == Kind::kMessage ? SerializeWire(f.children) : f.bytes;
        WriteVarint(tag | 2, out);
        WriteVarint(inner.size(), out);
        out += inner;
        break;
      }
    }
  }
  return out;
}

void WireMutator::Collect(Fields& fields, std::vector<Place>& out) {
  for (size_t i = 0; i < fields.size(); ++i) {
    out.push_back({&fields, i});
    if (fields[i].kind == Kind::kMessage) Collect(fields[i].children, out);
  }
}

std::string WireMutator::Mutate(absl::string_view message, size_t max_size) {
  Fields root;
  if (!ParseWire(message, root)) return "";
  for (size_t changes = 1 + Below(3); changes > 0; --changes) ChangeTree(root);
  std::string out = SerializeWire(root);
  return out.size() <= max_size ? out : "";
}

std::string WireMutator::CrossOver(absl::string_view message, absl::string_view donor,
                                   size_t max_size) {
  Fields root, other;
  if (!ParseWire(message, root) || !ParseWire(donor, other)) return "";
  std::vector<Place> donors;
  Collect(other, donors);
  for (size_t changes = 1 + Below(3); changes > 0; --changes) {
    std::vector<Place> places;
    Collect(root, places);
    Graft(places, donors);
  }
  std::string out = SerializeWire(root);
  return out.size() <= max_size ? out : "";
}

void WireMutator::ChangeTree(Fields& root) {
  std::vector<Place> places;
  Collect(root, places);
  if (places.empty()) return;
  const Place at = places[Below(places.size())];
  switch (Below(12)) {
    case 0:
      at.list->erase(at.list->begin() + at.index);
      return;
    case 1: {
      WireField copy = at.field();
      at.list->insert(at.list->begin() + at.index, std::move(copy));
      return;
    }
    case 2:
      std::swap(at.field(), (*at.list)[Below(at.list->size())]);
      return;
    case 3:
    case 4:
      Graft(places, places);
      return;
    case 5:
      if (OneIn(3)) at.field().number = 1 + static_cast<uint32_t>(Below(26));
      return;
    default:
      ChangeValue(at.field(), places);
  }
}

void WireMutator::Graft(const std::vector<Place>& places, const std::vector<Place>& donors) {
  if (places.empty() || donors.empty()) return;
  WireField piece = donors[Below(donors.size())].field();
  std::vector<Place> fitting;
  for (const Place& p : places) {
    if (p.field().number == piece.number && p.field().kind == piece.kind) fitting.push_back(p);
  }
  if (fitting.empty()) return;
  const Place at = fitting[Below(fitting.size())];
  if (OneIn(2)) {
    at.field() = std::move(piece);
  } else {
    at.list->insert(at.list->begin() + at.index + Below(2), std::move(piece));
  }
}

void WireMutator::ChangeValue(WireField& field, const std::vector<Place>& places) {
  switch (field.kind) {
    case Kind::kVarint:
      field.value = SomeNumber(field.value);
      return;
    case Kind::kFixed32:
    case Kind::kFixed64:
      field.value = SomeFloatBits(field.kind == Kind::kFixed64);
      return;
    case Kind::kBytes:
      ChangeBytes(field.bytes, places);
      return;
    case Kind::kMessage: {
      if (!OneIn(4)) {  // inner fields have their own turn
        std::string bytes = SerializeWire(field.children);
        if (bytes.size() > kShort) return;
        // Perhaps these bytes only look like a message.
        ChangeBytes(bytes, places);
        field = {.number = field.number, .kind = Kind::kBytes, .bytes = std::move(bytes)};
      }
      return;
    }
  }
}

void WireMutator::ChangeBytes(std::string& bytes, const std::vector<Place>& places) {
  const size_t how = Below(8);
  if (how < 2 && bytes.size() <= kShort && !words_.empty()) {
    bytes = words_[Below(words_.size())];
  } else if (how < 5 && bytes.size() <= kShort) {
    // Another name of this file: that is how nodes get connected.
    const Place from = places[Below(places.size())];
    if (from.field().kind == Kind::kBytes && from.field().bytes.size() <= kShort) {
      bytes = from.field().bytes;
    }
  } else if (how < 7 && !bytes.empty() && bytes.size() % 4 == 0) {
    const size_t width = bytes.size() % 8 == 0 && OneIn(2) ? 8 : 4;
    const size_t at = Below(bytes.size() / width) * width;
    uint64_t value = 0;
    std::memcpy(&value, bytes.data() + at, width);
    value = OneIn(2) ? SomeNumber(value) : SomeFloatBits(width == 8);
    std::memcpy(bytes.data() + at, &value, width);
  } else {
    mutate_bytes_(bytes);
  }
}

uint64_t WireMutator::SomeNumber(uint64_t old) {
  static constexpr int64_t kInteresting[] = {-1,
                                             -2,
                                             0x7f,
                                             0xff,
                                             0x7fff,
                                             0xffff,
                                             1 << 20,
                                             1 << 24,
                                             1u << 31,
                                             0xffffffff,
                                             0x7fffffff,
                                             -(1ll << 31),
                                             1ll << 32,
                                             1ll << 40,
                                             (1ll << 40) + 1,
                                             1ll << 61,
                                             1ll << 62,
                                             std::numeric_limits<int64_t>::max(),
                                             std::numeric_limits<int64_t>::max() - 1,
                                             std::numeric_limits<int64_t>::min(),
                                             std::numeric_limits<int64_t>::min() + 1};
  switch (Below(5)) {
    case 0:
      return static_cast<uint64_t>(kInteresting[Below(std::size(kInteresting))]);
    case 1:
      return old + 1;
    case 2:
      return old - 1;
    case 3:
      return old ^ (uint64_t{1} << Below(OneIn(2) ? 8 : 64));
    default:
      return Below(20);
  }
}

uint64_t WireMutator::SomeFloatBits(bool wide) {
  static constexpr double kInteresting[] = {0.0,
                                            -0.0,
                                            1.0,
                                            -1.0,
                                            0.5,
                                            2.0,
                                            1e-30,
                                            1e30,
                                            -1e30,
                                            1e300,
                                            3.5,
                                            2e9,
                                            1.5e19,
                                            65536,
                                            -7.0,
                                            std::numeric_limits<double>::infinity(),
                                            -std::numeric_limits<double>::infinity(),
                                            std::numeric_limits<double>::quiet_NaN()};
  const double d = kInteresting[Below(std::size(kInteresting))];
  uint64_t bits = 0;
  if (wide) {
    std::memcpy(&bits, &d, 8);
  } else {
    // 1e300 as a float is infinite, and the cast would be undefined.
    const float f = d == 1e300 ? std::numeric_limits<float>::max() : static_cast<float>(d);
    std::memcpy(&bits, &f, 4);
  }
  return bits;
}

}  // namespace halftone
