#include "core/store/calibration_io.h"

#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/str_cat.h"
#include "core/base/checked_math.h"
#include "core/base/sha256.h"
#include "core/base/status_macros.h"

namespace halftone {
namespace {

using nlohmann::json;

absl::string_view AsText(absl::Span<const std::byte> bytes) {
  return absl::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

absl::Status CheckTensor(const TensorSignature& want, const Tensor& got,
                         std::map<std::string, int64_t>& symbols) {
  const auto wrong = [&](absl::string_view what) {
    return absl::InvalidArgumentError(absl::StrCat(
        "input '", want.name, "': ", what, "; got ", Name(got.type()), ToString(got.shape()),
        ", want ", Name(want.type), ToString(SymbolicShape(want.shape))));
  };
  if (got.type() != want.type) return wrong("wrong data type");
  if (got.rank() != static_cast<int>(want.shape.size())) return wrong("wrong rank");
  for (int i = 0; i < got.rank(); ++i) {
    const Dim& dim = want.shape[i];
    if (dim.known() && dim.value != got.dim(i)) return wrong(absl::StrCat("wrong dimension ", i));
    if (dim.known() || dim.symbol.empty()) continue;
    const auto [it, is_new] = symbols.emplace(dim.symbol, got.dim(i));
    if (it->second != got.dim(i)) {
      return wrong(absl::StrCat("'", dim.symbol, "' is ", it->second, " elsewhere"));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckSamples(const Signature& signature, const Samples& samples) {
  if (samples.empty()) return absl::InvalidArgumentError("got no samples, want at least one");
  int64_t bytes = 0;
  for (size_t s = 0; s < samples.size(); ++s) {
    const std::string where = absl::StrCat("sample ", s);
    if (samples[s].size() != signature.inputs.size()) {
      return absl::InvalidArgumentError(absl::StrCat(where, ": got ", samples[s].size(),
                                                     " tensors, want ", signature.inputs.size()));
    }
    std::map<std::string, int64_t> symbols;
    for (size_t i = 0; i < samples[s].size(); ++i) {
      HT_RETURN_IF_ERROR(Annotate(CheckTensor(signature.inputs[i], samples[s][i], symbols), where));
      bytes += samples[s][i].num_bytes();
    }
  }
  if (bytes > kMaxCalibrationBytes) {
    return absl::ResourceExhaustedError(absl::StrCat("calibration samples: got ", bytes,
                                                     " bytes, at most ", kMaxCalibrationBytes,
                                                     " are accepted"));
  }
  return absl::OkStatus();
}

std::string DigestOf(const Samples& samples) {
  Sha256 hash;
  hash.Update(absl::StrCat("halftone-samples ", samples.size(), "\n"));
  for (const std::vector<Tensor>& sample : samples) {
    hash.Update(absl::StrCat(sample.size(), "\n"));
    for (const Tensor& t : sample) {
      hash.Update(absl::StrCat(Name(t.type()), ToString(t.shape()), "\n"));
      hash.Update(t.bytes());
    }
  }
  return hash.HexDigest();
}

absl::StatusOr<json> WriteSamples(const Samples& samples,
                                  const std::function<absl::Status(absl::string_view)>& write) {
  static constexpr char kZeros[Buffer::kAlignment] = {};
  json layout = json::array();
  int64_t offset = 0;
  for (const std::vector<Tensor>& sample : samples) {
    json row = json::array();
    for (const Tensor& t : sample) {
      row.push_back({{"type", std::string(Name(t.type()))},
                     {"shape", std::vector<int64_t>(t.shape().begin(), t.shape().end())},
                     {"offset", offset}});
      HT_RETURN_IF_ERROR(write(AsText(t.bytes())));
      const int64_t end = AlignUp(offset + t.num_bytes(), Buffer::kAlignment);
      HT_RETURN_IF_ERROR(
          write(absl::string_view(kZeros, static_cast<size_t>(end - offset - t.num_bytes()))));
      offset = end;
    }
    layout.push_back(std::move(row));
  }
  return layout;
}

absl::StatusOr<Samples> ReadSamples(const json& layout, const std::shared_ptr<Buffer>& bytes) {
  Samples samples;
  try {
    for (const json& row : layout) {
      std::vector<Tensor>& sample = samples.emplace_back();
      for (const json& item : row) {
        const auto type = DataTypeFromName(item.at("type").get<std::string>());
        if (!type) return absl::DataLossError("calibration samples: unknown data type");
        const auto shape = item.at("shape").get<std::vector<int64_t>>();
        auto tensor = Tensor::FromBuffer(*type, shape, bytes, item.at("offset").get<size_t>());
        if (!tensor.ok()) return absl::DataLossError(tensor.status().message());
        sample.push_back(*std::move(tensor));
      }
    }
  } catch (const json::exception& e) {
    return absl::DataLossError(absl::StrCat("calibration samples: ", e.what()));
  }
  return samples;
}

}  // namespace halftone
