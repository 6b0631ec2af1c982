// Core values ↔ messages of halftone.v1. Free functions, thread-safe.
#ifndef HALFTONE_SERVER_PROTO_CONVERT_H_
#define HALFTONE_SERVER_PROTO_CONVERT_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "core/store/model_store.h"
#include "halftone/v1/inference_service.pb.h"
#include "halftone/v1/model_service.pb.h"
#include "halftone/v1/quantization_service.pb.h"
#include "halftone/v1/types.pb.h"
#include "server/live_samples.h"
#include "server/tensor_codec.h"

namespace halftone {

v1::DataType ToProto(DataType type);
// INVALID_ARGUMENT for UNSPECIFIED and numbers without a name. `what` starts the message.
absl::StatusOr<DataType> FromProto(v1::DataType type, absl::string_view what);

// Views of the request's tensors.
absl::StatusOr<std::vector<WireTensor>> ToWire(
    const google::protobuf::RepeatedPtrField<v1::Tensor>& tensors);
// Copies the bytes.
void ToProto(absl::string_view name, const Tensor& tensor, v1::Tensor& out);

absl::StatusOr<QuantSpec> FromProto(const v1::QuantSpec& spec);
void ToProto(const QuantSpec& spec, v1::QuantSpec& out);
// A request's `wish`: PlanQuantizationRequest, QuantizeRequest. INVALID_ARGUMENT when it is absent.
absl::StatusOr<QuantSpec> WishOf(const v1::QuantizeRequest& request);
absl::StatusOr<QuantSpec> WishOf(const v1::PlanQuantizationRequest& request);
// The text by which the store knows a variant: an id, a spec's canonical text, or "" for none.
absl::StatusOr<std::string> SelectorText(const v1::VariantSelector& selector);

void ToProto(const ModelInfo& info, v1::Model& out);
// `arena_bytes`: what the scheduler's contexts hold for it.
void ToProto(const VariantInfo& info, int64_t arena_bytes, v1::Variant& out);
void ToProto(const VariantReport& report, v1::Report& out);
void ToProto(const PlanReport& report, v1::QuantizationPlan& out);
void ToProto(const Progress& progress, v1::QuantizeProgress& out);
void ToProto(const ModelStore::UploadStatus& status, v1::Upload& out);
void ToProto(const LiveSamples::State& state, v1::SampleRequestsResponse& out);
void ToProto(absl::Duration duration, google::protobuf::Duration& out);

std::vector<FileInfo> FilesOf(const v1::UploadHeader& header);

}  // namespace halftone

#endif  // HALFTONE_SERVER_PROTO_CONVERT_H_
