#include "tests/testing/npy.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "core/base/buffer.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

constexpr std::array<std::pair<absl::string_view, DataType>, 12> kTypes = {{
    {"<f4", DataType::kF32},
    {"<f8", DataType::kF64},
    {"<f2", DataType::kF16},
    {"|i1", DataType::kI8},
    {"|u1", DataType::kU8},
    {"<i2", DataType::kI16},
    {"<u2", DataType::kU16},
    {"<i4", DataType::kI32},
    {"<u4", DataType::kU32},
    {"<i8", DataType::kI64},
    {"<u8", DataType::kU64},
    {"|b1", DataType::kBool},
}};

// What stands between `before` and `after` in the header, a Python dict as text.
absl::StatusOr<absl::string_view> Between(absl::string_view header, absl::string_view before,
                                          absl::string_view after) {
  const size_t begin = header.find(before);
  const size_t end =
      begin == absl::string_view::npos ? begin : header.find(after, begin + before.size());
  if (end == absl::string_view::npos) {
    return absl::InvalidArgumentError(absl::StrCat("npy header without ", before));
  }
  return header.substr(begin + before.size(), end - begin - before.size());
}

}  // namespace

absl::StatusOr<Tensor> ReadNpy(const std::string& path) {
  HT_ASSIGN_OR_RETURN(const std::shared_ptr<Buffer> file, Buffer::MapFile(path));
  const absl::string_view bytes(reinterpret_cast<const char*>(file->data()), file->size());
  if (bytes.size() < 12 || bytes.substr(0, 6) != "\x93NUMPY") {
    return absl::InvalidArgumentError(absl::StrCat(path, ": no npy file"));
  }
  const size_t length_bytes = bytes[6] == 1 ? 2 : 4;
  uint32_t length = 0;
  std::memcpy(&length, bytes.data() + 8, length_bytes);
  const size_t data = 8 + length_bytes + length;
  if (data > bytes.size()) return absl::InvalidArgumentError(absl::StrCat(path, ": truncated"));
  const absl::string_view header = bytes.substr(8 + length_bytes, length);

  HT_ASSIGN_OR_RETURN(const absl::string_view descr, Between(header, "'descr': '", "'"));
  HT_ASSIGN_OR_RETURN(const absl::string_view order, Between(header, "'fortran_order': ", ","));
  HT_ASSIGN_OR_RETURN(const absl::string_view dims, Between(header, "'shape': (", ")"));
  const auto* type =
      std::find_if(kTypes.begin(), kTypes.end(), [&](const auto& t) { return t.first == descr; });
  if (type == kTypes.end() || order != "False") {
    return absl::InvalidArgumentError(absl::StrCat(path, ": unsupported array, ", header));
  }
  Shape shape;
  for (absl::string_view dim : absl::StrSplit(dims, ',', absl::SkipWhitespace())) {
    if (!absl::SimpleAtoi(dim, &shape.emplace_back())) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": bad shape ", dims));
    }
  }
  HT_ASSIGN_OR_RETURN(const Tensor view, Tensor::FromBuffer(type->second, shape, file, data));
  return view.Clone();  // aligned
}

std::string ModelsFolder() {
  const char* folder = std::getenv("HALFTONE_MODELS");
  const std::string path = folder != nullptr && *folder != '\0' ? folder : "../shared/models";
  return std::filesystem::is_directory(path) ? path : "";
}

}  // namespace halftone
