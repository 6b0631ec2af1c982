#include "server/open_inference_codec.h"

#include <gmock/gmock.h>

#include <cstring>

#include "tests/testing/status_matchers.h"

namespace halftone {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using enum absl::StatusCode;

inference::ModelInferRequest OneInput(const std::string& datatype, int64_t elements) {
  inference::ModelInferRequest request;
  auto& input = *request.add_inputs();
  input.set_name("x");
  input.set_datatype(datatype);
  input.add_shape(elements);
  return request;
}

absl::Status Check(const inference::ModelInferRequest& request) {
  std::list<std::string> storage;
  return WireInputsOf(request, storage).status();
}

TEST(WireInputsOf, BorrowsRawContents) {
  inference::ModelInferRequest request = OneInput("BF16", 2);
  request.add_raw_input_contents("abcd");
  std::list<std::string> storage;
  HT_ASSERT_OK_AND_ASSIGN(const std::vector<WireTensor> wire, WireInputsOf(request, storage));
  ASSERT_THAT(wire, SizeIs(1));
  EXPECT_EQ(wire[0].type, DataType::kBF16);
  EXPECT_EQ(wire[0].bytes.data(), request.raw_input_contents(0).data());
}

TEST(WireInputsOf, PacksEveryTypedField) {
  const auto packed = [](const inference::ModelInferRequest& request) {
    std::list<std::string> storage;
    const absl::StatusOr<std::vector<WireTensor>> wire = WireInputsOf(request, storage);
    return wire.ok() ? std::string((*wire)[0].bytes) : wire.status().ToString();
  };
  const auto contents = [](inference::ModelInferRequest& r) {
    return r.mutable_inputs(0)->mutable_contents();
  };
  auto request = OneInput("BOOL", 1);
  contents(request)->add_bool_contents(true);
  EXPECT_EQ(packed(request), std::string("\1", 1));
  request = OneInput("INT8", 1);
  contents(request)->add_int_contents(-1);
  EXPECT_EQ(packed(request), "\xff");
  request = OneInput("INT16", 1);
  contents(request)->add_int_contents(-2);
  EXPECT_EQ(packed(request), "\xfe\xff");
  request = OneInput("INT32", 1);
  contents(request)->add_int_contents(1);
  EXPECT_EQ(packed(request), std::string("\1\0\0\0", 4));
  request = OneInput("INT64", 1);
  contents(request)->add_int64_contents(1);
  EXPECT_EQ(packed(request), std::string("\1\0\0\0\0\0\0\0", 8));
  request = OneInput("UINT8", 1);
  contents(request)->add_uint_contents(255);
  EXPECT_EQ(packed(request), "\xff");
  request = OneInput("UINT16", 1);
  contents(request)->add_uint_contents(258);
  EXPECT_EQ(packed(request), "\2\1");
  request = OneInput("UINT64", 1);
  contents(request)->add_uint64_contents(1);
  EXPECT_EQ(packed(request), std::string("\1\0\0\0\0\0\0\0", 8));
  request = OneInput("FP32", 1);
  contents(request)->add_fp32_contents(1.0f);
  EXPECT_EQ(packed(request), std::string("\0\0\x80\x3f", 4));
  request = OneInput("FP64", 1);
  contents(request)->add_fp64_contents(1.0);
  EXPECT_EQ(packed(request), std::string("\0\0\0\0\0\0\xf0\x3f", 8));
}

TEST(WireInputsOf, RefusesContradictions) {
  auto both = OneInput("FP32", 1);
  both.mutable_inputs(0)->mutable_contents()->add_fp32_contents(1);
  both.add_raw_input_contents("abcd");
  EXPECT_THAT(Check(both), StatusIs(kInvalidArgument, HasSubstr("must not be specified")));

  auto count = OneInput("FP32", 1);
  count.add_raw_input_contents("abcd");
  count.add_raw_input_contents("abcd");
  EXPECT_THAT(Check(count), StatusIs(kInvalidArgument, HasSubstr("got 2 entries")));

  auto field = OneInput("FP32", 1);
  field.mutable_inputs(0)->mutable_contents()->add_int_contents(1);
  EXPECT_THAT(Check(field), StatusIs(kInvalidArgument, AllOf(HasSubstr("got int_contents"),
                                                             HasSubstr("want fp32_contents"))));
  auto range = OneInput("INT8", 1);
  range.mutable_inputs(0)->mutable_contents()->add_int_contents(128);
  EXPECT_THAT(Check(range), StatusIs(kInvalidArgument, HasSubstr("does not fit into INT8")));

  EXPECT_THAT(Check(OneInput("FP16", 1)), StatusIs(kInvalidArgument, HasSubstr("raw_input")));
  EXPECT_THAT(Check(OneInput("fp32", 1)), StatusIs(kInvalidArgument, HasSubstr("'fp32'")));
  EXPECT_THAT(Check(OneInput("", 1)), StatusIs(kInvalidArgument, HasSubstr("datatype")));
  EXPECT_THAT(Check(OneInput("BYTES", 1)), StatusIs(kInvalidArgument, HasSubstr("BYTES")));

  auto shared = OneInput("FP32", 1);
  (*shared.mutable_inputs(0)->mutable_parameters())["shared_memory_region"].set_string_param("r");
  EXPECT_THAT(Check(shared), StatusIs(kUnimplemented, HasSubstr("shared memory")));
}

TEST(ParametersOf, UnderstandsTimeoutAndPolicy) {
  inference::ModelInferRequest request;
  auto& parameters = *request.mutable_parameters();
  parameters["timeout"].set_int64_param(1500);
  parameters["when_missing"].set_string_param("fallback");
  parameters["triton_enable_empty_final_response"].set_bool_param(true);
  parameters["sequence_id"].set_int64_param(0);
  HT_ASSERT_OK_AND_ASSIGN(RequestParameters parsed, ParametersOf(request));
  EXPECT_EQ(parsed.timeout, absl::Microseconds(1500));
  EXPECT_EQ(parsed.when_missing, WhenMissing::kFallback);
  parameters["timeout"].set_int64_param(0);
  HT_ASSERT_OK_AND_ASSIGN(parsed, ParametersOf(request));
  EXPECT_EQ(parsed.timeout, absl::InfiniteDuration());
}

TEST(ParametersOf, RefusesWhatItCannotHonour) {
  const auto with = [](const std::string& name, auto set) {
    inference::ModelInferRequest request;
    set((*request.mutable_parameters())[name]);
    return ParametersOf(request).status();
  };
  EXPECT_THAT(with("timeout", [](auto& p) { p.set_int64_param(-1); }), StatusIs(kInvalidArgument));
  EXPECT_THAT(with("timeout", [](auto& p) { p.set_string_param("1"); }),
              StatusIs(kInvalidArgument));
  EXPECT_THAT(with("when_missing", [](auto& p) { p.set_string_param("never"); }),
              StatusIs(kInvalidArgument, HasSubstr("'never'")));
  EXPECT_THAT(with("sequence_id", [](auto& p) { p.set_int64_param(3); }), StatusIs(kUnimplemented));
}

TEST(WantedOutputsOf, ReadsDatatypeAndRefusesClassification) {
  inference::ModelInferRequest request;
  auto& output = *request.add_outputs();
  output.set_name("y");
  (*output.mutable_parameters())["datatype"].set_string_param("FP16");
  (*output.mutable_parameters())["binary_data"].set_bool_param(true);
  HT_ASSERT_OK_AND_ASSIGN(const std::vector<WantedOutput> wanted, WantedOutputsOf(request));
  EXPECT_EQ(wanted[0].type, DataType::kF16);
  (*output.mutable_parameters())["classification"].set_int64_param(3);
  EXPECT_THAT(WantedOutputsOf(request), StatusIs(kInvalidArgument, HasSubstr("classification")));
}

TEST(EncodeResponse, IsAlwaysRaw) {
  inference::ModelInferRequest request;
  request.set_id("42");
  InferOutcome outcome;
  outcome.variant.spec = "int8";
  outcome.outputs.push_back({.name = "y", .tensor = Tensor::Of<float>({1, 2}, {1, 2})});
  inference::ModelInferResponse response;
  EncodeResponse(request, outcome, response);
  EXPECT_EQ(response.id(), "42");
  EXPECT_EQ(response.model_version(), "int8");
  ASSERT_THAT(response.raw_output_contents(), SizeIs(1));
  EXPECT_EQ(response.raw_output_contents(0).size(), 8u);
  EXPECT_FALSE(response.outputs(0).has_contents());
  EXPECT_EQ(response.outputs(0).datatype(), "FP32");
}

}  // namespace
}  // namespace halftone
