// Calibration samples: checked against a signature, laid out in one file, and back without copying.
#ifndef HALFTONE_CORE_STORE_CALIBRATION_IO_H_
#define HALFTONE_CORE_STORE_CALIBRATION_IO_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/base/buffer.h"
#include "core/graph/graph.h"
#include "core/tensor/tensor.h"

namespace halftone {

inline constexpr int64_t kMaxCalibrationBytes = int64_t{2} << 30;

using Samples = std::vector<std::vector<Tensor>>;

// INVALID_ARGUMENT unless there is a sample and every sample has one tensor per input, in order,
// with its type, rank and fixed dimensions; equal symbols of one sample are equal sizes.
// RESOURCE_EXHAUSTED beyond kMaxCalibrationBytes.
absl::Status CheckSamples(const Signature& signature, const Samples& samples);

// SHA-256 hex over types, shapes and bytes: equal content, equal digest.
std::string DigestOf(const Samples& samples);

// Types, shapes and offsets of all tensors; their bytes go to `write`, each tensor at the next
// multiple of Buffer::kAlignment.
absl::StatusOr<nlohmann::json> WriteSamples(
    const Samples& samples, const std::function<absl::Status(absl::string_view)>& write);
// Views of `bytes`. DATA_LOSS when the layout does not describe them.
absl::StatusOr<Samples> ReadSamples(const nlohmann::json& layout,
                                    const std::shared_ptr<Buffer>& bytes);

}  // namespace halftone

#endif  // HALFTONE_CORE_STORE_CALIBRATION_IO_H_
