// Sends calibration samples.
#ifndef HALFTONE_CLIENT_CALIBRATION_H_
#define HALFTONE_CLIENT_CALIBRATION_H_

#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "client/connection.h"
#include "client/progress_bar.h"
#include "client/samples.h"

namespace halftone {

// The inputs of a model, as the server knows them. Version 0: the newest.
absl::StatusOr<std::vector<InputSignature>> AskInputs(Connection& server, const std::string& model,
                                                      int version = 0);

// Every row of the files is one sample (see SplitSamples). `set_name` empty: "default".
absl::StatusOr<v1::UploadCalibrationResponse> UploadCalibration(
    Connection& server, const std::string& model, const std::string& set_name,
    absl::Span<const std::string> files, const std::map<std::string, Shape>& shapes,
    ProgressBar& bar);

// The spec's text with the calibration set in it: "int8" and "x" give "int8/calib=x". The set comes
// before the overrides.
std::string WithCalibrationSet(const std::string& spec, const std::string& set_name);

}  // namespace halftone

#endif  // HALFTONE_CLIENT_CALIBRATION_H_
