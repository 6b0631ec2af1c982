#include "core/onnx/problems.h"

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/types/span.h"

namespace halftone {
namespace {

constexpr int kMaxNodesNamed = 5;

std::string NodeList(absl::Span<const std::string> nodes) {
  const auto shown = nodes.subspan(0, kMaxNodesNamed);
  std::string out = absl::StrCat("'", absl::StrJoin(shown, "', '"), "'");
  if (nodes.size() > shown.size()) {
    absl::StrAppend(&out, " and ", nodes.size() - shown.size(), " more");
  }
  return out;
}

std::string Listed(absl::Span<const std::string> lines, int total) {
  std::string out = absl::StrJoin(lines, "; ");
  if (total > static_cast<int>(lines.size())) {
    absl::StrAppend(&out, "; and ", total - static_cast<int>(lines.size()), " more");
  }
  return out;
}

}  // namespace

void Problems::AddInvalid(std::string what) {
  ++num_invalid_;
  if (static_cast<int>(invalid_.size()) < kMaxListed) invalid_.push_back(std::move(what));
}

void Problems::AddUnsupported(absl::string_view domain, absl::string_view op, int opset,
                              absl::string_view node) {
  unsupported_[{std::string(domain), std::string(op), opset}].emplace_back(node);
}

std::string Problems::ListUnsupported() const {
  std::vector<std::string> lines;
  for (const auto& [key, nodes] : unsupported_) {
    const auto& [domain, op, opset] = key;
    if (static_cast<int>(lines.size()) == kMaxListed) break;
    lines.push_back(absl::StrCat(domain.empty() ? "ai.onnx" : domain, ".", op, " (opset ", opset,
                                 ") in ", NodeList(nodes)));
  }
  return absl::StrCat("operators that Halftone does not have: ",
                      Listed(lines, static_cast<int>(unsupported_.size())));
}

absl::Status Problems::ToStatus() const {
  if (num_invalid_ > 0) {
    std::string message = absl::StrCat("not a valid ONNX model: ", Listed(invalid_, num_invalid_));
    if (!unsupported_.empty()) absl::StrAppend(&message, "; ", ListUnsupported());
    return absl::InvalidArgumentError(message);
  }
  if (unsupported_.empty()) return absl::OkStatus();
  return absl::UnimplementedError(ListUnsupported());
}

}  // namespace halftone
