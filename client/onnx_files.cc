#include "client/onnx_files.h"

#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "client/files.h"
#include "client/wire_reader.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

constexpr int kMaxNesting = 64;

// The messages of onnx.proto on the way from a model to its tensors.
enum class Message : uint8_t { kModel, kFunction, kGraph, kNode, kAttribute, kTensor };

struct Step {
  Message from;
  int field;
  Message to;
};
constexpr std::array kSteps = {
    Step{Message::kModel, 7, Message::kGraph},        // graph
    Step{Message::kModel, 25, Message::kFunction},    // functions
    Step{Message::kFunction, 7, Message::kNode},      // node
    Step{Message::kGraph, 1, Message::kNode},         // node
    Step{Message::kGraph, 5, Message::kTensor},       // initializer
    Step{Message::kNode, 5, Message::kAttribute},     // attribute
    Step{Message::kAttribute, 5, Message::kTensor},   // t
    Step{Message::kAttribute, 6, Message::kGraph},    // g
    Step{Message::kAttribute, 10, Message::kTensor},  // tensors
    Step{Message::kAttribute, 11, Message::kGraph},   // graphs
};
constexpr int kExternalData = 13;  // TensorProto.external_data: StringStringEntryProto{key, value}

// "location" of one entry of external_data.
std::optional<std::string> LocationIn(absl::string_view entry) {
  WireReader reader(entry);
  absl::string_view key, value;
  while (const std::optional<WireField> field = reader.Next()) {
    if (field->number == 1) key = field->bytes;
    if (field->number == 2) value = field->bytes;
  }
  if (!reader.ok() || key != "location" || value.empty()) return std::nullopt;
  return std::string(value);
}

void Collect(absl::string_view bytes, Message message, int depth, std::set<std::string>& names) {
  if (depth > kMaxNesting) return;
  WireReader reader(bytes);
  while (const std::optional<WireField> field = reader.Next()) {
    if (field->type != WireType::kBytes) continue;
    if (message == Message::kTensor && field->number == kExternalData) {
      if (std::optional<std::string> name = LocationIn(field->bytes)) names.insert(*name);
      continue;
    }
    for (const Step& step : kSteps) {
      if (step.from == message && step.field == field->number) {
        Collect(field->bytes, step.to, depth + 1, names);
      }
    }
  }
}

bool IsOnnx(absl::string_view path) { return absl::EndsWith(path, ".onnx"); }

absl::StatusOr<std::vector<std::string>> FilesOfFolder(const std::string& folder) {
  std::vector<std::string> onnx;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    if (IsOnnx(entry.path().string())) onnx.push_back(entry.path().string());
  }
  if (onnx.size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("folder '", folder, "': got ", onnx.size(), " .onnx files, want exactly one"));
  }
  return FindModelFiles(onnx);
}

// Paths of the external data of one .onnx file, beside it.
absl::StatusOr<std::vector<std::string>> DataFilesOf(const std::string& onnx) {
  HT_ASSIGN_OR_RETURN(const std::shared_ptr<Buffer> model, OpenFile(onnx));
  const std::filesystem::path folder = std::filesystem::path(onnx).parent_path();
  std::vector<std::string> files;
  for (const std::string& name : ExternalDataFiles(AsText(*model))) {
    // A model that names "/etc/shadow" or "../x" must not make the client send it.
    if (name != std::filesystem::path(name).filename().string() || name == ".." || name == ".") {
      return absl::InvalidArgumentError(absl::StrCat(
          onnx, ": external data '", name, "' is not a plain file name beside the model"));
    }
    files.push_back((folder / name).string());
    std::error_code error;
    if (!std::filesystem::is_regular_file(files.back(), error)) {
      return absl::NotFoundError(
          absl::StrCat(onnx, ": its external data '", files.back(), "' is missing"));
    }
  }
  return files;
}

}  // namespace

std::set<std::string> ExternalDataFiles(absl::string_view model) {
  std::set<std::string> names;
  Collect(model, Message::kModel, 0, names);
  return names;
}

absl::StatusOr<std::vector<std::string>> FindModelFiles(absl::Span<const std::string> paths) {
  std::error_code error;
  if (paths.size() == 1 && std::filesystem::is_directory(paths[0], error)) {
    return FilesOfFolder(paths[0]);
  }
  std::vector<std::string> files, data;
  for (const std::string& path : paths) (IsOnnx(path) ? files : data).push_back(path);
  if (files.size() != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("got ", files.size(), " .onnx files, want exactly one"));
  }
  if (data.empty()) {
    HT_ASSIGN_OR_RETURN(data, DataFilesOf(files[0]));
  }
  std::set<std::string> names;
  files.insert(files.end(), data.begin(), data.end());
  for (const std::string& file : files) {
    if (!names.insert(std::filesystem::path(file).filename().string()).second) {
      return absl::InvalidArgumentError(absl::StrCat("two files have the name of '", file, "'"));
    }
  }
  return files;
}

}  // namespace halftone
