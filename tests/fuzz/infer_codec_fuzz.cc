// Any bytes as an inference request of both protocols, against a few signatures.
#include <google/protobuf/stubs/logging.h>

#include <list>

#include "core/tensor/data_type.h"
#include "halftone/v1/inference_service.pb.h"
#include "inference/open_inference.pb.h"
#include "server/open_inference_codec.h"
#include "server/proto_convert.h"
#include "server/tensor_codec.h"
#include "tests/fuzz/fuzz_target.h"

namespace halftone {
namespace {

const std::vector<Signature>& Signatures() {
  static const auto* signatures = new std::vector<Signature>{
      {.inputs = {{"x", DataType::kF32, {Dim("batch"), Dim(4)}}},
       .outputs = {{"y", DataType::kF32, {Dim("batch"), Dim(2)}}}},
      {.inputs = {{"ids", DataType::kI64, {Dim("batch"), Dim("length")}},
                  {"mask", DataType::kBool, {Dim("batch"), Dim("length")}},
                  {"scale", DataType::kF64, {}}},
       .outputs = {{"y", DataType::kF16, {Dim("batch")}}, {"n", DataType::kI32, {Dim()}}}},
      {.inputs = {{"x", DataType::kU4, {Dim(3)}}, {"z", DataType::kI8, {Dim(), Dim(0)}}},
       .outputs = {{"y", DataType::kBF16, {}}}},
  };
  return *signatures;
}

// A small result for each output.
std::vector<Tensor> Results(const Signature& signature) {
  std::vector<Tensor> out;
  for (const TensorSignature& t : signature.outputs) {
    Tensor tensor = *Tensor::Create(t.type, Shape(t.shape.size(), 2));
    for (int64_t i = 0; i < tensor.num_bytes(); ++i) tensor.mutable_raw()[i] = std::byte{0x3c};
    out.push_back(std::move(tensor));
  }
  return out;
}

// Every byte of a decoded tensor must be there.
uint64_t Sum(const Tensor& tensor) {
  uint64_t sum = 0;
  for (const std::byte b : tensor.bytes()) sum += static_cast<uint64_t>(b);
  return sum;
}

void TryDecode(absl::Span<const WireTensor> wire, absl::Span<const WantedOutput> wanted) {
  for (const Signature& signature : Signatures()) {
    const absl::StatusOr<std::vector<OutputPick>> picks = PickOutputs(signature, wanted);
    CheckNotInternal("outputs", picks.status());
    if (picks.ok()) CheckNotInternal("encode", EncodeOutputs(*picks, Results(signature)).status());
    const absl::StatusOr<std::vector<Tensor>> inputs = DecodeInputs(signature, wire);
    CheckNotInternal("inputs", inputs.status());
    if (!inputs.ok()) continue;
    CHECK_EQ(inputs->size(), signature.inputs.size());
    for (size_t i = 0; i < inputs->size(); ++i) {
      CHECK((*inputs)[i].type() == signature.inputs[i].type);
      CHECK_LT(Sum((*inputs)[i]), uint64_t{1} << 40);
    }
  }
}

void TryOwnProtocol(const v1::InferRequest& request) {
  CheckNotInternal("variant", SelectorText(request.variant()).status());
  std::vector<WantedOutput> wanted;
  for (const v1::RequestedOutput& output : request.outputs()) {
    wanted.push_back({.name = output.name()});
    if (output.type() == v1::DATA_TYPE_UNSPECIFIED) continue;
    const absl::StatusOr<DataType> type = FromProto(output.type(), "output");
    CheckNotInternal("output", type.status());
    if (type.ok()) wanted.back().type = *type;
  }
  const absl::StatusOr<std::vector<WireTensor>> wire = ToWire(request.inputs());
  CheckNotInternal("wire", wire.status());
  if (wire.ok()) TryDecode(*wire, wanted);
}

void TryOpenProtocol(const inference::ModelInferRequest& request) {
  CheckNotInternal("parameters", ParametersOf(request).status());
  const absl::StatusOr<std::vector<WantedOutput>> wanted = WantedOutputsOf(request);
  CheckNotInternal("outputs", wanted.status());
  std::list<std::string> storage;
  const absl::StatusOr<std::vector<WireTensor>> wire = WireInputsOf(request, storage);
  CheckNotInternal("wire", wire.status());
  if (wire.ok() && wanted.ok()) TryDecode(*wire, *wanted);
}

}  // namespace

std::vector<std::string> FuzzWords() {
  std::vector<std::string> words = {"x",
                                    "y",
                                    "z",
                                    "ids",
                                    "mask",
                                    "scale",
                                    "n",
                                    "timeout",
                                    "when_missing",
                                    "fallback",
                                    "datatype",
                                    "classification",
                                    "sequence_id",
                                    "shared_memory_region",
                                    "w=int8,act=static:u8",
                                    "fp16",
                                    "int8"};
  for (const DataTypeInfo& info : kDataTypes) words.emplace_back(info.wire_name);
  return words;
}

}  // namespace halftone

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  // Says at length that a string is not UTF-8.
  static const auto silence = google::protobuf::SetLogHandler(nullptr);
  (void)silence;
  halftone::v1::InferRequest own;
  if (own.ParseFromArray(data, static_cast<int>(size))) halftone::TryOwnProtocol(own);
  inference::ModelInferRequest open;
  if (open.ParseFromArray(data, static_cast<int>(size))) halftone::TryOpenProtocol(open);
  return 0;
}
