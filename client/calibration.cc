#include "client/calibration.h"

#include <algorithm>
#include <memory>

#include "absl/strings/str_cat.h"
#include "client/wire.h"
#include "core/base/status_macros.h"

namespace halftone {

absl::StatusOr<std::vector<InputSignature>> AskInputs(Connection& server, const std::string& model,
                                                      int version) {
  v1::GetModelRequest request;
  v1::Model response;
  request.set_name(model);
  request.set_version(version);
  HT_RETURN_IF_ERROR(
      server.ToStatus(server.models().GetModel(server.NewContext().get(), request, &response)));
  return InputsOf(response.signature());
}

absl::StatusOr<v1::UploadCalibrationResponse> UploadCalibration(
    Connection& server, const std::string& model, const std::string& set_name,
    absl::Span<const std::string> files, const std::map<std::string, Shape>& shapes,
    ProgressBar& bar) {
  HT_ASSIGN_OR_RETURN(const std::vector<InputSignature> inputs, AskInputs(server, model));
  HT_ASSIGN_OR_RETURN(const std::vector<InputArgument> arguments, ParseInputArguments(files));
  HT_ASSIGN_OR_RETURN(const std::vector<Tensor> tensors, LoadInputs(inputs, arguments, shapes));
  HT_ASSIGN_OR_RETURN(const std::vector<std::vector<Tensor>> samples,
                      SplitSamples(inputs, tensors));
  const std::unique_ptr<grpc::ClientContext> context = server.NewContext();
  v1::UploadCalibrationResponse response;
  const auto stream = server.quantization().UploadCalibration(context.get(), &response);
  v1::UploadCalibrationRequest header;
  header.mutable_header()->set_model(model);
  header.mutable_header()->set_set_name(set_name);
  bool open = stream->Write(header);
  for (size_t s = 0; open && s < samples.size(); ++s) {
    v1::UploadCalibrationRequest request;
    for (size_t i = 0; i < inputs.size(); ++i) {
      *request.mutable_sample()->add_inputs() = ToProto(inputs[i].name, samples[s][i]);
    }
    open = stream->Write(request);
    bar.Update(static_cast<double>(s + 1) / samples.size(), "send samples");
  }
  if (open) stream->WritesDone();
  HT_RETURN_IF_ERROR(server.ToStatus(stream->Finish()));
  return response;
}

std::string WithCalibrationSet(const std::string& spec, const std::string& set_name) {
  if (set_name.empty()) return spec;
  const size_t overrides = std::min(spec.find(';'), spec.size());
  return absl::StrCat(spec.substr(0, overrides), "/calib=", set_name, spec.substr(overrides));
}

}  // namespace halftone
