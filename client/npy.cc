// NumPy's file format: "\x93NUMPY", version, header length, a Python dictionary, the elements.
#include <algorithm>
#include <array>
#include <optional>

#include "absl/log/check.h"
#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "client/tensor_files.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

constexpr absl::string_view kMagic("\x93NUMPY", 6);

struct NpyType {
  DataType type;
  absl::string_view code;  // without the byte order
};
constexpr std::array kNpyTypes = {
    NpyType{DataType::kF32, "f4"}, NpyType{DataType::kF16, "f2"}, NpyType{DataType::kF64, "f8"},
    NpyType{DataType::kI8, "i1"},  NpyType{DataType::kU8, "u1"},  NpyType{DataType::kI16, "i2"},
    NpyType{DataType::kU16, "u2"}, NpyType{DataType::kI32, "i4"}, NpyType{DataType::kU32, "u4"},
    NpyType{DataType::kI64, "i8"}, NpyType{DataType::kU64, "u8"}, NpyType{DataType::kBool, "b1"},
};

absl::Status Bad(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("not a usable .npy file: ", what));
}

// Takes the header's dictionary out of `bytes` and leaves the elements.
absl::StatusOr<absl::string_view> TakeHeader(absl::string_view& bytes) {
  if (!absl::ConsumePrefix(&bytes, kMagic)) return Bad("it does not start with \\x93NUMPY");
  if (bytes.size() < 4) return Bad("it ends inside the header");
  const int version = static_cast<uint8_t>(bytes[0]);
  if (version < 1 || version > 3) {
    return Bad(absl::StrCat("got format version ", version, ", want 1, 2 or 3"));
  }
  const size_t length_bytes = version == 1 ? 2 : 4;
  bytes.remove_prefix(2);
  if (bytes.size() < length_bytes) return Bad("it ends inside the header");
  size_t length = 0;
  for (size_t i = 0; i < length_bytes; ++i) {
    length |= size_t{static_cast<uint8_t>(bytes[i])} << (8 * i);
  }
  bytes.remove_prefix(length_bytes);
  if (length > bytes.size()) return Bad("it ends inside the header");
  const absl::string_view header = bytes.substr(0, length);
  bytes.remove_prefix(length);
  return header;
}

// The text behind "'key':"; nullopt when the header has no such key.
std::optional<absl::string_view> ValueOf(absl::string_view header, absl::string_view key) {
  for (const char quote : {'\'', '"'}) {
    const std::string quoted = absl::StrCat(std::string(1, quote), key, std::string(1, quote));
    const size_t at = header.find(quoted);
    if (at == absl::string_view::npos) continue;
    absl::string_view value = absl::StripLeadingAsciiWhitespace(header.substr(at + quoted.size()));
    if (!absl::ConsumePrefix(&value, ":")) return std::nullopt;
    return absl::StripLeadingAsciiWhitespace(value);
  }
  return std::nullopt;
}

absl::StatusOr<DataType> ReadDescr(absl::string_view header) {
  const std::optional<absl::string_view> value = ValueOf(header, "descr");
  if (!value) return Bad("the header has no 'descr'");
  const char quote = value->empty() ? '\0' : value->front();
  if (quote != '\'' && quote != '"') {
    return Bad("it has fields with names, want a plain element type");
  }
  const size_t end = value->find(quote, 1);
  if (end == absl::string_view::npos) return Bad("'descr' does not end");
  const absl::string_view descr = value->substr(1, end - 1);
  absl::string_view code = descr;
  const bool big_endian = absl::ConsumePrefix(&code, ">");
  for (const absl::string_view order : {"<", "|", "="}) {
    if (absl::ConsumePrefix(&code, order)) break;
  }
  if (code == "?") code = "b1";
  for (const NpyType& row : kNpyTypes) {
    if (row.code != code) continue;
    if (!big_endian || BitWidth(row.type) == 8) return row.type;
    return Bad(absl::StrCat("got big-endian elements '", descr, "', want little-endian"));
  }
  return Bad(absl::StrCat("got element type '", descr, "', want one of ",
                          absl::StrJoin(kNpyTypes, " ", [](std::string* out, const NpyType& row) {
                            absl::StrAppend(out, row.code);
                          })));
}

absl::StatusOr<Shape> ReadShape(absl::string_view header) {
  std::optional<absl::string_view> value = ValueOf(header, "shape");
  if (!value || !absl::ConsumePrefix(&*value, "(")) return Bad("the header has no 'shape' tuple");
  const size_t end = value->find(')');
  if (end == absl::string_view::npos) return Bad("the 'shape' tuple does not end");
  absl::string_view rest = value->substr(0, end);
  Shape shape;
  while (!(rest = absl::StripLeadingAsciiWhitespace(rest)).empty()) {
    const size_t comma = std::min(rest.find(','), rest.size());
    const absl::string_view text = absl::StripAsciiWhitespace(rest.substr(0, comma));
    int64_t dim = 0;
    if (!absl::SimpleAtoi(text, &dim) || dim < 0) {
      return Bad(absl::StrCat("got dimension '", text, "', want a number >= 0"));
    }
    if (shape.size() == 32) return Bad("it has more than 32 dimensions");
    shape.push_back(dim);
    rest.remove_prefix(std::min(comma + 1, rest.size()));
  }
  return shape;
}

}  // namespace

absl::StatusOr<Tensor> ParseNpy(absl::string_view bytes) {
  HT_ASSIGN_OR_RETURN(const absl::string_view header, TakeHeader(bytes));
  HT_ASSIGN_OR_RETURN(const DataType type, ReadDescr(header));
  HT_ASSIGN_OR_RETURN(const Shape shape, ReadShape(header));
  const std::optional<absl::string_view> order = ValueOf(header, "fortran_order");
  if (!order || !absl::StartsWith(*order, "False")) {
    return Bad("the array is in Fortran order, want C order (numpy.ascontiguousarray)");
  }
  return TensorFromBytes(type, shape, bytes);
}

std::string NpyBytes(const Tensor& tensor) {
  absl::string_view code;
  for (const NpyType& row : kNpyTypes) {
    if (row.type == tensor.type()) code = row.code;
  }
  CHECK(!code.empty()) << Name(tensor.type()) << " has no .npy type";
  std::string header =
      absl::StrCat("{'descr': '", BitWidth(tensor.type()) == 8 ? "|" : "<", code,
                   "', 'fortran_order': False, 'shape': (", absl::StrJoin(tensor.shape(), ", "),
                   tensor.rank() == 1 ? ",), }" : "), }");
  // The elements start at a multiple of 64 bytes.
  const size_t fixed = kMagic.size() + 4;
  while ((fixed + header.size() + 1) % 64 != 0) header.push_back(' ');
  header.push_back('\n');
  std::string out(kMagic);
  out.append({'\x01', '\0', static_cast<char>(header.size() & 0xff),
              static_cast<char>(header.size() >> 8)});
  out.append(header);
  out.append(reinterpret_cast<const char*>(tensor.raw()), tensor.num_bytes());
  return out;
}

}  // namespace halftone
