// Messages of the Open Inference Protocol ↔ wire tensors. Free functions, thread-safe.
#ifndef HALFTONE_SERVER_OPEN_INFERENCE_CODEC_H_
#define HALFTONE_SERVER_OPEN_INFERENCE_CODEC_H_

#include <list>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "inference/open_inference.pb.h"
#include "server/inference_engine.h"
#include "server/tensor_codec.h"

namespace halftone {

// The request's inputs. Raw contents are borrowed from `request`; typed contents become bytes in
// `storage`. Both must outlive the result. INVALID_ARGUMENT names the input.
absl::StatusOr<std::vector<WireTensor>> WireInputsOf(const inference::ModelInferRequest& request,
                                                     std::list<std::string>& storage);
// UNIMPLEMENTED for shared memory, INVALID_ARGUMENT for classification and bad datatypes.
absl::StatusOr<std::vector<WantedOutput>> WantedOutputsOf(
    const inference::ModelInferRequest& request);

// What the request's own parameters ask for.
struct RequestParameters {
  WhenMissing when_missing = WhenMissing::kWait;
  absl::Duration timeout = absl::InfiniteDuration();
};
absl::StatusOr<RequestParameters> ParametersOf(const inference::ModelInferRequest& request);

void EncodeResponse(const inference::ModelInferRequest& request, const InferOutcome& outcome,
                    inference::ModelInferResponse& response);

}  // namespace halftone

#endif  // HALFTONE_SERVER_OPEN_INFERENCE_CODEC_H_
